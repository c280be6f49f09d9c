"""Requests per second that ``tkre serve`` answers through Gradio's HTTP API, many at once, and how many it fails.

python benchmarks/serve_load.py
python benchmarks/serve_load.py --model tkre-bert --requests 1000 --concurrency 50

A request is a call and the wait for its result, as any program makes them: one sentence of the bundled corpus, its
best relation among sixteen that are known by their descriptions. The page runs in a process of its own, on this
machine. Without a model, it is an untrained one, which is as fast.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.console import quiet_libraries
from tkre_hf.data import load_records, load_relation_info
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.page import save_rows
from tkre_hf.evaluation.report import Row, command, machine, table, versions
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.training import SCLTrainingArguments, build
from tkre_hf.training_data import SCLStageArguments

_DATA = "sample:validation"


@dataclass
class BenchmarkArguments:
    """What is asked, and how hard."""

    model: str | None = field(default=None, metadata={"help": "Checkpoint; an untrained one by default."})
    backbone: str = field(default="minilm", metadata={"help": "Encoder of the untrained one."})
    requests: int = field(default=1000, metadata={"help": "How many in all."})
    concurrency: int = field(default=50, metadata={"help": "How many are under way at any time."})
    port: int = field(default=7899, metadata={"help": "Port that the page listens at."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


@dataclass(frozen=True)
class Load:
    """What came of the requests.

    Args:
        seconds: Each successful request's, from the call to its result.
        errors: What the others ended with.
        wall: Seconds from the first call to the last result.
    """

    seconds: list[float]
    errors: list[str]
    wall: float


def sentences(count: int) -> list[str]:
    """Sentences of the bundled corpus, with marks, over and over."""
    records = load_records(_DATA)
    marked = []
    for record in records.select(range(min(count, len(records)))):
        words = list(record["tokens"])
        for number, role in enumerate(("head", "tail"), 1):
            span = record[role]
            words[span["start"]] = f"[E{number}]{words[span['start']]}"
            words[span["end"] - 1] += f"[/E{number}]"
        marked.append(" ".join(words))
    return [marked[i % len(marked)] for i in range(count)]


async def ask(session: aiohttp.ClientSession, url: str, text: str) -> None:
    """One request.

    Raises:
        TkreError: It ended without a result.
    """
    async with session.post(f"{url}/gradio_api/call/extract", json={"data": [text, 1]}) as answer:
        answer.raise_for_status()
        event = (await answer.json())["event_id"]
    kind = ""
    async with session.get(f"{url}/gradio_api/call/extract/{event}") as stream:
        async for raw in stream.content:
            line = raw.decode().rstrip()
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind == "complete":
                ((result,),) = json.loads(line.removeprefix("data: "))
                if not 0 <= result["score"] <= 1:
                    raise TkreError(f"no result: {line}")
                return
            elif line.startswith("data: ") and kind == "error":
                raise TkreError(line)
    raise TkreError("the stream ended without a result")


async def load(url: str, texts: list[str], concurrency: int) -> Load:
    """Asks for all of them, so many at a time."""
    gate = asyncio.Semaphore(concurrency)
    seconds: list[float] = []
    errors: list[str] = []

    async def one(session: aiohttp.ClientSession, text: str) -> None:
        async with gate:
            start = time.perf_counter()
            try:
                await ask(session, url, text)
            except (TkreError, aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
                errors.append(f"{type(error).__name__}: {error}")
            else:
                seconds.append(time.perf_counter() - start)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        await asyncio.gather(*(one(session, text) for text in texts[:5]))  # warms up
        seconds.clear()
        begin = time.perf_counter()
        await asyncio.gather(*(one(session, text) for text in texts))
        return Load(seconds, errors, time.perf_counter() - begin)


@contextmanager
def served(args: BenchmarkArguments) -> Iterator[str]:
    """The page in a process of its own; its address."""
    with tempfile.TemporaryDirectory(prefix="tkre-load-") as scratch:
        model = args.model
        relations = Path(scratch, "relations.json")
        labels = sorted(set(load_records(_DATA)["relation"]))
        info = load_relation_info(_DATA, labels)
        relations.write_text(json.dumps({label: [entry.name, entry.description] for label, entry in info.items()}))
        if model is None:
            model = str(Path(scratch, "model"))
            stage = SCLStageArguments(sources=[_DATA], backbone=args.backbone)
            made = SCLTrainingArguments(output_dir=model, report_to=[])
            processor, untrained = build(TKREForPreTraining, stage, made, load_records(_DATA))
            untrained.save_pretrained(model)
            processor.save_pretrained(model)
        serve = ["serve", "--model", model, "--relations", str(relations), "--port", str(args.port)]
        with subprocess.Popen(
            [sys.executable, "-m", "tkre_hf.cli", *serve], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                if not process.stdout.readline().startswith("Serving"):
                    raise TkreError("the page didn't start")
                yield f"http://127.0.0.1:{args.port}"
            finally:
                process.terminate()


def rows(args: BenchmarkArguments, found: Load) -> list[Row]:
    """Requests per second, the median and the slowest of 95% of the waits, and the errors."""
    waits = sorted(found.seconds) or [float("nan")]
    figures = {
        "requests/s": len(found.seconds) / found.wall,
        "milliseconds, median": 1000 * statistics.median(waits),
        "milliseconds, 95th percentile": 1000 * waits[int(0.95 * (len(waits) - 1))],
        "errors": float(len(found.errors)),
    }
    return [
        Row(
            benchmark="serve_load",
            system=f"tkre serve, {metric}",
            setting=f"{args.requests:,} requests, {args.concurrency} at once",
            metric=metric,
            value=float(f"{value:.3g}"),
            n=args.requests,
            knowledge="descriptions",
            command=command(),
            versions=versions(),
            machine=machine(),
        )
        for metric, value in figures.items()
    ]


def main() -> None:
    (args,) = parse_arguments((BenchmarkArguments,), description=__doc__)
    with quiet_libraries(), served(args) as url:
        found = asyncio.run(load(url, sentences(args.requests), args.concurrency))
    measured = rows(args, found)
    print(table(measured))
    for error in dict.fromkeys(found.errors):
        print(f"{found.errors.count(error)} ×  {error}")
    save_rows(args.output, measured)


if __name__ == "__main__":
    run(main)
