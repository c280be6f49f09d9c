from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.knowledge.client import run as run_client
from tests.knowledge.servers import Server, serving, write_answer
from tkre_hf.data import load_records, make_record
from tkre_hf.errors import TkreError
from tkre_hf.knowledge.backends import Answer, RefusedError, Request, Sampling, TransientError, UnconstrainedError
from tkre_hf.knowledge.budget import Limits
from tkre_hf.knowledge.generate import Runner
from tkre_hf.knowledge.jobs import Job
from tkre_hf.knowledge.journal import RunFolder
from tkre_hf.knowledge.prompts import PromptTemplate
from tkre_hf.knowledge.recorded import RecordedBackend
from tkre_hf.knowledge.report import RunReport
from tkre_hf.knowledge.schema import RelationSchema
from tkre_hf.knowledge.tasks import RandomDemonstrations, explanation_jobs, sample_jobs

SCHEMAS = {
    name: RelationSchema(name, head_types=("A",), tail_types=("B",), relation=name) for name in ("r1", "r2", "r3")
}


class Model:
    """A language model in memory.

    Args:
        reply: What it says, or raises, given the request and how often it was asked the same.
        delay: Seconds until it does.
    """

    model = "memory"

    def __init__(
        self, reply: Callable[[Request, int], str] | None = None, delay: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.reply, self.delay = reply or self.write, delay
        self.asked: list[str] = []
        self.busy = self.busiest = 0

    @staticmethod
    def write(request: Request, times: int) -> str:
        prompt = request.messages[-1]["content"]
        return write_answer(prompt, request.json_schema, request.sampling.seed)

    async def complete(self, request: Request) -> Answer:
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        try:
            await asyncio.sleep(self.delay())
            key = request.key(self.model)
            times = self.asked.count(key)
            self.asked.append(key)
            return Answer(self.reply(request, times), "stop", 100, 50)
        finally:
            self.busy -= 1

    async def close(self) -> None:
        pass


def jobs(per_relation: int = 20, per_request: int = 5, **options: Any) -> list[Job]:
    made, _ = sample_jobs(
        SCHEMAS,
        PromptTemplate.load("scdg"),
        Sampling(max_tokens=100),
        per_relation=per_relation,
        per_request=per_request,
        demonstrations=RandomDemonstrations([]),
        shots=0,
        **options,
    )
    return made


def run(
    folder: Path, model: Any, asked: list[Job] | None = None, limits: Limits | None = None, **options: Any
) -> Runner:
    async def go() -> Runner:
        store = RunFolder(folder, {"model": model.model})
        try:
            runner = Runner(asked or jobs(), model, store, limits or Limits(backoff=0.001), **options)
            await runner.run()
            return runner
        finally:
            store.close()

    return asyncio.run(go())


def rows(folder: Path, name: str = "records") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_every_quota_is_filled_and_no_more_is_asked(tmp_path: Path) -> None:
    model = Model()
    runner = run(tmp_path, model)
    assert [job.accepted for job in runner.jobs] == [20, 20, 20]
    assert len(model.asked) == len(set(model.asked)) == 12 == runner.budget.requests
    assert runner.budget.tokens == 12 * 150
    assert model.busiest == 8
    records = rows(tmp_path)
    assert len(records) == 60 and rows(tmp_path, "rejected") == []
    provenance = records[0]["provenance"]
    assert (
        provenance["model"] == "memory" and provenance["prompt"] == "scdg-1" and len(provenance["prompt_sha256"]) == 64
    )
    loaded = load_records(tmp_path / "records.jsonl", cache_dir=tmp_path / "cache")
    assert loaded["id"] == [row["id"] for row in records] and set(loaded["source"]) == {"scdg"}


def test_the_order_of_arrival_changes_nothing(tmp_path: Path) -> None:
    # All relations are told the same, so that it matters who comes first.
    def reply(request: Request, times: int) -> str:
        return write_answer("shared by all relations", request.json_schema, request.sampling.seed % 3)

    results = []
    for attempt in range(4):
        choose = random.Random(attempt)
        folder = tmp_path / str(attempt)
        run(folder, Model(reply, lambda choose=choose: choose.uniform(0, 0.01)), limits=Limits(concurrency=7))  # type: ignore[misc]
        results.append((rows(folder), rows(folder, "rejected")))
    assert results[0] == results[1] == results[2] == results[3]
    assert results[0][0] and {row["reason"] for row in results[0][1]} == {"duplicate"}


def test_a_relation_that_cannot_be_filled_is_given_up(tmp_path: Path) -> None:
    model = Model(lambda request, times: "{}" if request.relation == "r2" else Model.write(request, times))
    runner = run(tmp_path, model, limits=Limits(max_tries=3, backoff=0))
    assert [job.accepted for job in runner.jobs] == [20, 0, 20]
    assert len(model.asked) == 4 + 4 + 3 * 4
    assert {row["reason"] for row in rows(tmp_path, "rejected")} == {"wrong_shape"}


def test_what_is_missing_is_asked_for_again(tmp_path: Path) -> None:
    def reply(request: Request, times: int) -> str:
        answer = json.loads("{" + Model.write(request, 0).partition("{")[2].rpartition("}")[0] + "}")
        if request.attempt < 4:
            answer["samples"][0]["head_type"] = "WRONG"
        return json.dumps(answer)

    runner = run(tmp_path, Model(reply))
    assert [job.accepted for job in runner.jobs] == [20, 20, 20]
    assert [job.asked for job in runner.jobs] == [24, 24, 24]
    assert len(rows(tmp_path, "rejected")) == 12


def test_more_samples_than_asked_for_are_surplus(tmp_path: Path) -> None:
    def reply(request: Request, times: int) -> str:
        schema = json.loads(json.dumps(request.json_schema))
        schema["properties"]["samples"]["maxItems"] += 2
        return write_answer(request.messages[-1]["content"], schema, request.sampling.seed)

    runner = run(tmp_path, Model(reply))
    assert len(rows(tmp_path)) == 60
    assert {row["reason"] for row in rows(tmp_path, "rejected")} == {"surplus"}
    assert len(runner.jobs) == 3


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_an_answer_nested_beyond_all_measure_is_refused_for_good(tmp_path: Path, kind: str) -> None:
    opening, closing = ("[", "]") if kind == "list" else ('{"a": ', "}")

    def reply(request: Request, times: int) -> str:
        depth = 900 + 15 * request.attempt
        inner = opening * depth + "1" + closing * depth
        return json.dumps({"samples": [{"context": "x", "tail_entity": "INNER"}]}).replace('"INNER"', inner)

    for _ in range(2):
        runner = run(tmp_path, Model(reply), limits=Limits(max_tries=2))
        assert [job.accepted for job in runner.jobs] == [0, 0, 0]
    rejected = rows(tmp_path, "rejected")
    assert len(rejected) == 24 and {row["reason"] for row in rejected} <= {"wrong_shape", "unparseable"}
    assert all(len(row["candidate"]) <= 2000 and row["candidate"].startswith('{"samples') for row in rejected)


def test_what_no_file_can_spell_is_written_as_its_escape(tmp_path: Path) -> None:
    def reply(request: Request, times: int) -> str:
        if request.attempt == 0:
            raise RefusedError("bad \ud800 prompt")
        return Model.write(request, times)

    runner = run(tmp_path, Model(reply), limits=Limits(max_tries=1))
    report = RunReport({}, {"r1": 20}, list(runner.failures.values()), stopped="full of \udfff")
    report.write(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["failures"] == report.failures
    assert "bad \\ud800 prompt" in (tmp_path / "report.md").read_text()
    assert report.to_markdown().encode() == (tmp_path / "report.md").read_bytes()


def test_faults_that_pass_are_waited_out(tmp_path: Path) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    def reply(request: Request, times: int) -> str:
        if times < 3:
            raise TransientError("500: full")
        return Model.write(request, times)

    model = Model(reply)
    runner = run(tmp_path, model, limits=Limits(concurrency=1, backoff=1, max_backoff=3), sleep=sleep)
    assert [job.accepted for job in runner.jobs] == [20, 20, 20] and not runner.failures
    assert runner.budget.requests == 48
    for number, bounds in enumerate([(0.5, 1), (1, 2), (1.5, 3)]):
        drawn = pauses[number::3]
        assert all(bounds[0] <= pause <= bounds[1] for pause in drawn)
        assert len(set(drawn)) > 1


def test_retry_after_holds_every_request_back(tmp_path: Path) -> None:
    async def go() -> tuple[Runner, list[float]]:
        loop = asyncio.get_running_loop()
        times: list[float] = []

        def reply(request: Request, earlier: int) -> str:
            times.append(loop.time())
            if len(times) == 4:
                raise TransientError("429: slow down", retry_after=0.3)
            return Model.write(request, earlier)

        store = RunFolder(tmp_path, {})
        runner = Runner(jobs(), Model(reply, lambda: 0.002), store, Limits(concurrency=3, backoff=0.001))
        await runner.run()
        store.close()
        return runner, times

    runner, times = asyncio.run(go())
    assert [job.accepted for job in runner.jobs] == [20, 20, 20]
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    # What was under way comes back; nothing new is sent until the pause is over.
    assert max(gaps) > 0.25
    assert sum(time < times[3] + 0.29 for time in times[4:]) <= 2


def test_a_server_that_is_away_for_long_ends_the_run(tmp_path: Path) -> None:
    def reply(request: Request, times: int) -> str:
        raise TransientError("429: quota", retry_after=3600)

    with pytest.raises(TkreError, match="asks to wait 3600 s.*run the command again"):
        run(tmp_path, Model(reply))


def test_a_request_without_an_answer_is_reported_and_the_job_asks_anew(tmp_path: Path) -> None:
    def reply(request: Request, times: int) -> str:
        if request.relation == "r1" and request.attempt == 0:
            raise TransientError("500: cannot")
        return Model.write(request, times)

    runner = run(tmp_path, Model(reply), limits=Limits(retries=2, backoff=0))
    assert list(runner.failures.values()) == ["r1, attempt 0: no answer in 3 attempts: 500: cannot"]
    assert [job.accepted for job in runner.jobs] == [20, 20, 20]
    (failed,) = [row for row in rows(tmp_path, "answers") if "failed" in row]
    assert failed["job"] == "r1" and failed["attempt"] == 0


def test_a_refused_request_is_not_repeated(tmp_path: Path) -> None:
    def reply(request: Request, times: int) -> str:
        if request.relation == "r1":
            raise RefusedError("prompt too long")
        return "{}" if request.relation == "r2" else Model.write(request, times)

    model = Model(reply)
    runner = run(tmp_path, model, limits=Limits(max_tries=4))
    assert [job.accepted for job in runner.jobs] == [0, 0, 20]
    assert len(model.asked) == 4 + 4 * 4 + 4 and len(runner.failures) == 4


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.05])
def test_one_refused_request_costs_no_more_than_its_rows(tmp_path: Path, delay: float) -> None:
    class Late(Model):
        async def complete(self, request: Request) -> Answer:
            if request.relation == "r1" and request.attempt == 0:
                await asyncio.sleep(delay)
                self.asked.append(request.key(self.model))
                raise RefusedError("400: prompt too long")
            return await super().complete(request)

    limits = Limits(concurrency=2, backoff=0)
    runner = run(tmp_path, model := Late(delay=lambda: 0.001), limits=limits)
    assert [job.accepted for job in runner.jobs] == [20, 20, 20]
    assert len(model.asked) == 13 and len(runner.failures) == 1
    runner = run(tmp_path, model := Late(), limits=limits)
    assert model.asked == [] and [job.accepted for job in runner.jobs] == [20, 20, 20]


@pytest.mark.parametrize("error", [TkreError("401: token"), TransientError("connection refused")])
def test_when_nobody_answers_the_run_stops_and_goes_on_later(tmp_path: Path, error: Exception) -> None:
    calls = 0

    def reply(request: Request, times: int) -> str:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise error
        return Model.write(request, times)

    with pytest.raises(TkreError, match="401: token|4 requests in a row got no answer.*connection refused"):
        run(tmp_path, Model(reply), limits=Limits(concurrency=2, retries=1, backoff=0))
    assert calls <= 5 + 2 * 6
    answered = len(rows(tmp_path, "answers"))
    assert answered >= 5
    model = Model()
    runner = run(tmp_path, model)
    assert [job.accepted for job in runner.jobs] == [20, 20, 20]
    assert not any("failed" in row for row in rows(tmp_path, "answers"))
    assert len(model.asked) == 12 - answered
    whole = tmp_path / "whole"
    run(whole, Model())
    assert rows(whole) == rows(tmp_path)


@pytest.mark.parametrize("limits", [Limits(retries=0, backoff=0), Limits(retries=0, backoff=0, max_tries=1)])
def test_an_outage_uses_no_request_up_however_often_the_command_is_typed(tmp_path: Path, limits: Limits) -> None:
    def reply(request: Request, times: int) -> str:
        raise TransientError("connection refused")

    for _ in range(7):
        try:
            runner = run(tmp_path, Model(reply), jobs(per_relation=5), limits)
            assert limits.max_tries == 1 and len(runner.failures) == 3
        except TkreError as error:
            assert limits.max_tries > 1 and "requests in a row got no answer" in str(error)
    assert rows(tmp_path, "answers") == []
    runner = run(tmp_path, model := Model(), jobs(per_relation=5), limits)
    assert [job.accepted for job in runner.jobs] == [5, 5, 5] and len(model.asked) == 3


@pytest.mark.parametrize("seed", range(4))
def test_an_outage_at_any_moment_changes_no_row(tmp_path: Path, seed: int) -> None:
    choose, left = random.Random(seed), 0
    limits = Limits(concurrency=5, retries=1, backoff=0.005)

    def reply(request: Request, times: int) -> str:
        nonlocal left
        left -= 1
        if left < 0:
            raise TransientError("connection refused")
        return Model.write(request, times)

    for _ in range(3):
        left = choose.randint(2, 9)
        with pytest.raises(TkreError, match="5 requests in a row got no answer"):
            run(tmp_path / "cut", Model(reply, lambda: choose.uniform(0, 0.01)), jobs(per_relation=60), limits)
    for name in ("cut", "whole"):
        run(tmp_path / name, Model(), jobs(per_relation=60))
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_first_request_without_an_answer_holds_nothing_up(tmp_path: Path) -> None:
    def reply(request: Request, times: int) -> str:
        if request.relation == "r1" and request.attempt == 0:
            raise TransientError("500: cannot")
        return Model.write(request, times)

    # It is given up only after everything that may be sent ahead of it is answered.
    class Slow(Model):
        async def complete(self, request: Request) -> Answer:
            if request.relation == "r1" and request.attempt == 0:
                await asyncio.sleep(0.05)
            return await super().complete(request)

    limits = Limits(concurrency=2, retries=2, backoff=0)
    runner = run(tmp_path, Slow(reply), jobs(per_relation=80), limits)
    assert [job.accepted for job in runner.jobs] == [80, 80, 80] and len(runner.failures) == 1
    runner = run(tmp_path, model := Model(reply), jobs(per_relation=80), limits)
    assert model.asked == []


@pytest.mark.parametrize(
    ("limits", "reason"), [({"max_requests": 5}, "5 requests"), ({"max_tokens": 1500}, "1500 tokens")]
)
def test_a_budget_is_never_passed_and_can_be_raised(tmp_path: Path, limits: dict[str, Any], reason: str) -> None:
    model = Model()
    runner = run(tmp_path, model, limits=Limits(**limits))
    assert reason in runner.stopped
    assert 0 < len(model.asked) <= (limits.get("max_requests") or 10) and runner.budget.tokens <= 1500
    first = rows(tmp_path)
    assert len(first) == 5 * len(model.asked)
    runner = run(tmp_path, model)
    assert not runner.stopped and len(model.asked) == len(set(model.asked)) == 12
    assert rows(tmp_path)[: len(first)] == first and len(rows(tmp_path)) == 60


@pytest.mark.parametrize("concurrency", [1, 3, 8, 40])
def test_what_is_reserved_for_requests_under_way_ends_no_run(tmp_path: Path, concurrency: int) -> None:
    (job, *_) = jobs(per_relation=200)
    request = job.ask(0, 5, 0)
    most = request.prompt_chars() // 3 + 16 + request.sampling.max_tokens
    model = Model(delay=lambda: random.uniform(0, 0.003))
    runner = run(tmp_path, model, jobs(per_relation=200), Limits(concurrency=concurrency, max_tokens=3000))
    # 150 of each reservation are used, and only when no reservation fits any more there is an end.
    spent = 150 * len(model.asked)
    assert 3000 - most - 10 < spent == runner.budget.tokens <= 3000
    assert f"3000 tokens is used up: {spent} are spent" in runner.stopped
    assert len(rows(tmp_path)) == 5 * len(model.asked) and runner.unjudged == 0


def test_a_request_repeated_without_the_constraint_counts(tmp_path: Path) -> None:
    class Unconstrained(Model):
        posts = 0

        async def complete(self, request: Request) -> Answer:
            self.posts += 1
            await asyncio.sleep(0)
            if self.posts <= 8:
                raise UnconstrainedError("no grammar")
            return await super().complete(request)

    model = Unconstrained()
    runner = run(tmp_path, model, limits=Limits(max_requests=8, retries=0))
    assert model.posts == 8 == runner.budget.requests and "8 requests" in runner.stopped
    runner = run(tmp_path, model, limits=Limits(retries=0))
    assert [job.accepted for job in runner.jobs] == [20, 20, 20] and not runner.failures
    assert runner.budget.requests == model.posts - 8 == 12


def test_a_slow_answer_times_out(tmp_path: Path) -> None:
    delays = iter([30.0])
    model = Model(delay=lambda: next(delays, 0.0))
    runner = run(tmp_path, model, limits=Limits(timeout=0.05, backoff=0))
    assert [job.accepted for job in runner.jobs] == [20, 20, 20] and not runner.failures
    # Nobody knows how much of an answer the server wrote: it may have been all of it.
    request = jobs()[0].ask(0, 5, 0)
    assert runner.budget.tokens == 12 * 150 + request.prompt_chars() // 3 + 16 + request.sampling.max_tokens


@pytest.mark.parametrize("name", ["answers", "records"])
def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def write(file: int, data: bytes, real: Callable[[int, Any], int] = os.write) -> int:
        if os.path.samestat(os.fstat(file), os.stat(tmp_path / "cut" / f"{name}.jsonl")):
            kept.append(len(data))
            if sum(kept) > 4000:
                real(file, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data)

    model = Model()
    with monkeypatch.context() as full:
        full.setattr("tkre_hf.knowledge.journal.os.write", write)
        with pytest.raises(TkreError, match=rf"cannot write to .*{name}\.jsonl: No space left"):
            run(tmp_path / "cut", model, limits=Limits(concurrency=2))
    assert len(model.asked) < 12
    for folder in ("cut", "whole"):
        run(tmp_path / folder, Model(), limits=Limits(concurrency=2))
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_disk_that_takes_no_more_ends_the_run_promptly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    model = Model(delay=lambda: 0.02)
    RunFolder(tmp_path, {"model": model.model}).close()
    with monkeypatch.context() as broken:
        broken.setattr("tkre_hf.knowledge.journal.os.fsync", fail)
        with pytest.raises(TkreError, match=r"cannot write to .*\.jsonl: Input/output error"):
            run(tmp_path, model, jobs(per_relation=1000), Limits(concurrency=2))
    assert len(model.asked) < 100


@pytest.mark.parametrize("torn", ["answers", "records", "rejected"])
@pytest.mark.parametrize("cut", [1, 7, 400])
def test_a_torn_end_of_any_file_loses_and_doubles_nothing(tmp_path: Path, torn: str, cut: int) -> None:
    def reply(request: Request, times: int) -> str:
        return write_answer(request.messages[-1]["content"], request.json_schema, request.sampling.seed, 0.3)

    whole = tmp_path / "whole"
    run(whole, Model(reply))
    for name in ("answers", "records", "rejected"):
        broken = tmp_path / "broken"
        broken.mkdir(exist_ok=True)
        (broken / f"{name}.jsonl").write_bytes((whole / f"{name}.jsonl").read_bytes())
    file = broken / f"{torn}.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    run(broken, Model(reply))
    for name in ("records", "rejected"):
        assert sorted(map(str, rows(broken, name))) == sorted(map(str, rows(whole, name)))
    keys = [row["key"] for row in rows(broken, "answers")]
    assert len(set(keys)) == len(keys)
    # An answer whose rows are all there isn't needed any more, and isn't asked for again.
    assert 0 <= len(rows(whole, "answers")) - len(keys) <= (torn == "answers")


def test_rows_do_not_tell_where_a_local_model_lies(tmp_path: Path) -> None:
    class Local(Model):
        model = "/home/me/models/small-llm"

    run(tmp_path, Local())
    assert {row["provenance"]["model"] for row in rows(tmp_path)} == {"small-llm"}
    model = Local()
    run(tmp_path, model)
    assert model.asked == []


def test_a_finished_run_asks_nothing_again(tmp_path: Path) -> None:
    run(tmp_path, Model())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model = Model()
    runner = run(tmp_path, model)
    assert model.asked == [] and [job.accepted for job in runner.jobs] == [20, 20, 20]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_prompt_format_asks_anew_and_is_in_the_provenance(tmp_path: Path) -> None:
    class Formatted(Model):
        prompt_format = "[INST] {prompt} [/INST]"

    run(tmp_path, Model())
    (tmp_path / "plain").mkdir()
    for name in ("records", "rejected"):
        (tmp_path / f"{name}.jsonl").rename(tmp_path / "plain" / f"{name}.jsonl")
    run(tmp_path, model := Formatted())
    assert len(model.asked) == 12
    assert {row["provenance"].get("prompt_format") for row in rows(tmp_path / "plain")} == {None}
    assert {row["provenance"].get("prompt_format") for row in rows(tmp_path)} == {Formatted.prompt_format}
    # Whoever replays the answers need not say how they were asked for.
    recorded = RecordedBackend(tmp_path / "answers.jsonl", "memory")
    formatted = tmp_path / "formatted"
    formatted.mkdir()
    lines = (tmp_path / "answers.jsonl").read_text().splitlines(keepends=True)
    (formatted / "answers.jsonl").write_text("".join(lines[12:]))
    for number, backend in enumerate([recorded, RecordedBackend(formatted, "memory")]):
        runner = run(tmp_path / str(number), backend)
        assert [job.accepted for job in runner.jobs] == [20, 20, 20]


def test_explanations_are_asked_for_each_row(tmp_path: Path) -> None:
    gold = [
        make_record(
            id=f"g{i}",
            tokens=f"Unit{i} was finally set inside Frame{i} yesterday".split(),
            head=(0, 1),
            tail=(5, 6),
            relation="r1",
        )
        for i in range(12)
    ]
    made, _ = explanation_jobs(gold, SCHEMAS, PromptTemplate.load("edkg"), Sampling())

    def reply(request: Request, times: int) -> str:
        return write_answer(request.messages[-1]["content"], request.json_schema, request.sampling.seed, 0.4)

    runner = run(tmp_path, Model(reply), made, Limits(max_tries=10))
    assert all(job.accepted == 1 for job in runner.jobs)
    assert sorted(row["provenance"]["gold_id"] for row in rows(tmp_path)) == sorted(row["id"] for row in gold)
    assert all(row["source"] == "edkg" and row["provenance"]["gold_cues"] for row in rows(tmp_path))
    assert rows(tmp_path, "rejected")


def test_demonstrations_are_seeded_and_change_with_the_attempt() -> None:
    gold = [make_record(id=str(i), tokens=["a", "b"], head=(0, 1), tail=(1, 2), relation="r1") for i in range(20)]
    choose = RandomDemonstrations(gold, seed=1)
    shown = [[row["id"] for row in choose("r1", attempt, 3)] for attempt in range(4)]
    assert len({tuple(each) for each in shown}) == 4 and all(len(set(each)) == 3 for each in shown)
    assert shown[2] == [row["id"] for row in RandomDemonstrations(gold, seed=1)("r1", 2, 3)]
    assert choose("r9", 0, 3) == [] and len(choose("r1", 0, 99)) == 20


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("stream", [False, True])
def test_both_clients_make_identical_records_of_one_server_s_answers(tmp_path: Path, stream: bool) -> None:
    pytest.importorskip("text_generation", reason="needs the extra [tgi]")

    async def go() -> None:
        async with serving(Server(content_faults=0.2)) as server:
            for kind in ("inference", "tgi"):
                await run_client(server.url, tmp_path / kind, kind, relations=2, stream=stream)

    asyncio.run(go())
    for name in ("records", "rejected"):
        assert rows(tmp_path / "inference", name) == rows(tmp_path / "tgi", name)
    assert len(rows(tmp_path / "tgi")) == 200


@pytest.mark.parametrize("error", [None, TkreError("401: token")])
def test_garbage_collection_is_left_as_it_was(tmp_path: Path, error: Exception | None) -> None:
    def reply(request: Request, times: int) -> str:
        frozen.append(gc.get_freeze_count())
        if error is not None:
            raise error
        return Model.write(request, times)

    frozen: list[int] = []
    gc.unfreeze()
    try:
        run(tmp_path / "free", Model(reply))
    except TkreError:
        assert error is not None
    assert min(frozen) > 1000 and gc.isenabled() and gc.get_freeze_count() == 0
    # What an application has frozen for itself stays so.
    gc.freeze()
    count = gc.get_freeze_count()
    try:
        run(tmp_path / "frozen", Model())
        assert 0 < gc.get_freeze_count() <= count
    finally:
        gc.unfreeze()
