"""How close ``tkre generate`` comes to the rate of the server it asks, and how its memory grows.

python benchmarks/knowledge_throughput.py

A server in a process of its own answers each request with one new sample after 50 ms, so with 64 requests under way
1,280 a second are ideal. Each client asks for 20,000 samples: the whole of it, from the prompt to the validated,
de-duplicated row on the disk. Beside it, in the same run, a bare loop of an HTTP client that only posts and reads JSON
shows what the machine itself leaves possible.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import resource
import selectors
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain, islice
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.evaluation.page import write_page
from tkre_hf.evaluation.report import Row, command, machine, versions, write_rows
from tkre_hf.knowledge.backends import Backend, Sampling
from tkre_hf.knowledge.budget import Limits
from tkre_hf.knowledge.generate import Runner
from tkre_hf.knowledge.inference import InferenceBackend
from tkre_hf.knowledge.journal import RunFolder
from tkre_hf.knowledge.prompts import PromptTemplate
from tkre_hf.knowledge.schema import RelationSchema
from tkre_hf.knowledge.tasks import RandomDemonstrations, sample_jobs

RELATIONS = 40


@dataclass
class BenchmarkArguments:
    """What is measured."""

    rows: int = field(default=20_000, metadata={"help": "Samples asked for by each client."})
    concurrency: int = field(default=64, metadata={"help": "Requests under way at once."})
    latency: float = field(default=0.05, metadata={"help": "Seconds until the server answers."})
    repetitions: int = field(default=3, metadata={"help": "How often each client is timed."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


class _Protocol(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, and no more of it than these clients use: the server is not what is measured."""

    latency = 0.05
    answers: Iterator[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self.received) < end + 4 + length:
                return
            self.received = self.received[end + 4 + length :]
            path = head.split(b" ", 2)[1]
            if path == b"/info":
                self.send(_response(b'{"model_id": "benchmark"}'))
            else:
                asyncio.get_running_loop().call_later(self.latency, self.send, next(self.answers))

    def send(self, response: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(response)


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def _answers(tgi: bool) -> Iterator[bytes]:
    """Responses with a new sample each, of TGI's own route or the chat route."""
    draw = random.Random(0)
    known = ["".join(random.Random(i).choices("abcdefghiklmnoprstuvw", k=7)) for i in range(4000)]
    usage = {"prompt_tokens": 300, "completion_tokens": 60, "total_tokens": 360}
    envelope = {"id": "1", "object": "chat.completion", "created": 1, "model": "benchmark", "system_fingerprint": ""}
    details = {"finish_reason": "eos_token", "generated_tokens": 60, "seed": 1, "prefill": [], "tokens": []}
    while True:
        words = draw.choices(known, k=14)
        sample = {
            "context": " ".join([*words[:5], words[5].title(), *words[6:9], words[9].title(), words[10]]) + ".",
            "head_entity": words[5].title(),
            "head_type": "PERSON",
            "tail_entity": words[9].title(),
            "tail_type": "PLACE",
        }
        text = json.dumps({"samples": [sample]})
        if tgi:
            said: dict[str, object] = {"generated_text": text, "details": details}
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            said = {**envelope, "choices": [choice], "usage": usage}
        yield _response(json.dumps(said).encode())


def serve(args: BenchmarkArguments, tgi: bool, pipe: Connection) -> None:
    """Serves for ever; sends its port through the pipe."""

    async def main() -> None:
        _Protocol.latency = args.latency
        # Written before they are asked for: server and clients share the machine's cores. A few are asked for twice.
        answers = _answers(tgi)
        _Protocol.answers = chain(list(islice(answers, args.rows)), answers)
        server = await asyncio.get_running_loop().create_server(_Protocol, "127.0.0.1", 0, backlog=512)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    # The usual selector, epoll, waits for whole milliseconds: answers would be up to one late.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(main())


@dataclass
class Measurement:
    """Of one client: requests a second, CPU milliseconds a request, and resident memory in MiB early and late."""

    rate: float
    cpu_ms: float
    early_mib: float = 0.0
    late_mib: float = 0.0


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def bare(url: str, args: BenchmarkArguments) -> Measurement:
    """A loop that posts a prompt and reads JSON, and nothing else."""
    body = {"inputs": "word " * 300, "parameters": {"max_new_tokens": 256}}
    numbers = iter(range(args.rows))
    connector = aiohttp.TCPConnector(limit=args.concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for _ in numbers:
                async with session.post(f"{url}/generate", json=body) as response:
                    json.loads(await response.read())

        start, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(args.concurrency)))
        return Measurement(args.rows / (time.perf_counter() - start), (time.process_time() - cpu) / args.rows * 1e3)


async def generate(url: str, args: BenchmarkArguments, name: str) -> Measurement:
    """A run of ``args.rows`` samples."""
    options = {"concurrency": args.concurrency, "timeout": 60.0}
    backend: Backend
    if name == "tgi":
        from tkre_hf.knowledge.tgi import TgiBackend

        backend = await TgiBackend.connect(None, url, **options)
    else:
        backend = await InferenceBackend.connect(None, url, **options)
    schemas = {
        f"r{i}": RelationSchema(f"relation {i}", "of the benchmark", "", ("PERSON",), ("PLACE",), relation=f"r{i}")
        for i in range(RELATIONS)
    }
    jobs, _ = sample_jobs(
        schemas,
        PromptTemplate.load("scdg"),
        Sampling(max_tokens=256),
        per_relation=args.rows // RELATIONS,
        per_request=1,
        demonstrations=RandomDemonstrations([]),
        shots=0,
    )
    early = 0.0
    with tempfile.TemporaryDirectory() as directory:
        folder = RunFolder(directory, {})
        runner = Runner(jobs, backend, folder, Limits(concurrency=args.concurrency))
        start, cpu = time.perf_counter(), time.process_time()
        running = asyncio.create_task(runner.run())
        while not running.done():
            await asyncio.sleep(0.05)
            if not early and folder.records.size and sum(job.accepted for job in jobs) >= args.rows // 10:
                early = _resident_mib()
        await running
        seconds, used = time.perf_counter() - start, time.process_time() - cpu
        late = _resident_mib()
        folder.close()
        await backend.close()
    requests = runner.budget.requests
    assert sum(job.accepted for job in jobs) == RELATIONS * (args.rows // RELATIONS), "rows are missing"
    return Measurement(requests / seconds, used / requests * 1e3, early, late)


def _in_a_process(name: str, url: str, args: BenchmarkArguments, pipe: Connection) -> None:
    pipe.send(asyncio.run(bare(url, args) if name == "bare" else generate(url, args, name)))


def measure(name: str, args: BenchmarkArguments) -> Measurement:
    """One client against a server of its own, each in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(args, name != "inference", theirs), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}"
        client = context.Process(target=_in_a_process, args=(name, url, args, theirs))
        client.start()
        while not ours.poll(1):
            if client.exitcode is not None:
                raise RuntimeError(f"the client {name} ended without a result")
        measured: Measurement = ours.recv()
        client.join()
        return measured
    finally:
        server.kill()
        server.join()


def main() -> None:
    (args,) = parse_arguments(BenchmarkArguments, description=__doc__)
    # The loopback server is not the Hub.
    os.environ.pop("HF_HUB_OFFLINE", None)
    ideal = args.concurrency / args.latency
    names = ["bare", "inference", *(["tgi"] if find_spec("text_generation") else [])]
    measured: dict[str, list[Measurement]] = {name: [] for name in names}
    for _ in range(args.repetitions):
        for name in names:
            one = measure(name, args)
            measured[name].append(one)
            grown = f", {one.early_mib:.0f} MiB after a tenth, {one.late_mib:.0f} at the end" if one.late_mib else ""
            share = one.rate / ideal
            print(f"{name}: {one.rate:.0f}/s, {share:.1%} of {ideal:.0f}, {one.cpu_ms:.2f} ms CPU{grown}", flush=True)
    clients = {name: version(name) for name in ("huggingface-hub", "aiohttp")}
    setting = f"{args.concurrency} at once, {args.latency * 1e3:g} ms"
    rows = []
    for name, ones in measured.items():
        shares = [100 * one.rate / ideal for one in ones]
        figures = {
            "% of the ideal rate, best": max(shares),
            "% of the ideal rate, median": statistics.median(shares),
            "ms CPU a request, least": min(one.cpu_ms for one in ones),
        }
        if ones[0].late_mib:
            figures["MiB more than after a tenth of the rows, most"] = max(
                one.late_mib - one.early_mib for one in ones
            )
        for metric, value in figures.items():
            row = Row("knowledge_throughput", f"{name}: {metric}", setting, metric, float(f"{value:.4g}"), n=args.rows)
            rows.append(replace(row, command=command(), versions=versions() | clients, machine=machine()))
    if args.output:
        write_rows(args.output, rows)
        write_page(args.output)


if __name__ == "__main__":
    run(main)
