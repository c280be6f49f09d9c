"""One run of samples against a loopback server, as a process that can be killed: ``client.py URL FOLDER BACKEND``."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tkre_hf.knowledge.backends import Backend, Sampling
from tkre_hf.knowledge.budget import Limits
from tkre_hf.knowledge.generate import Runner
from tkre_hf.knowledge.inference import InferenceBackend
from tkre_hf.knowledge.journal import RunFolder
from tkre_hf.knowledge.prompts import PromptTemplate
from tkre_hf.knowledge.schema import RelationSchema
from tkre_hf.knowledge.tasks import RandomDemonstrations, sample_jobs

RELATIONS, PER_RELATION, PER_REQUEST, CONCURRENCY = 40, 100, 2, 32


async def run(
    url: str, folder: Path, backend_name: str = "inference", *, relations: int = RELATIONS, stream: bool = False
) -> Runner:
    """Asks for ``PER_RELATION`` samples of each relation, two at a time: 2,000 requests and those that refill."""
    options = {"timeout": 2.5, "concurrency": CONCURRENCY, "stream": stream}
    backend: Backend
    if backend_name == "tgi":
        from tkre_hf.knowledge.tgi import TgiBackend

        backend = await TgiBackend.connect(None, url, **options)
    else:
        backend = await InferenceBackend.connect(None, url, **options)
    schemas = {
        f"relation_{i}": RelationSchema(
            f"relation {i}",
            f"meaning number {i}",
            head_types=("PERSON", "WORK"),
            tail_types=("PLACE",),
            relation=f"relation_{i}",
        )
        for i in range(relations)
    }
    jobs, validator = sample_jobs(
        schemas,
        PromptTemplate.load("scdg"),
        Sampling(max_tokens=512),
        per_relation=PER_RELATION,
        per_request=PER_REQUEST,
        demonstrations=RandomDemonstrations([]),
        shots=0,
    )
    limits = Limits(CONCURRENCY, max_tries=8, retries=25, backoff=0.01, max_backoff=0.2, timeout=2.5)
    store = RunFolder(folder, {"kind": "samples", "model": backend.model})
    try:
        for record in store.earlier_records():
            validator.remember(record)
        runner = Runner(jobs, backend, store, limits)
        await runner.run()
        return runner
    finally:
        store.close()
        await backend.close()


if __name__ == "__main__":
    # Whom to kill.
    print(os.getpid(), flush=True)
    finished = asyncio.run(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
    print(finished.budget.requests, finished.stopped, len(finished.failures))
