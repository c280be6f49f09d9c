"""2,000 requests through every fault a server has, uninterrupted and killed: the same rows, none lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.knowledge.client import PER_RELATION, PER_REQUEST, RELATIONS, run
from tests.knowledge.servers import TRANSPORT_FAULTS, Server, ThreadedServer, random_faults
from tests.programs import Programs
from tkre_hf.knowledge.align import fold
from tkre_hf.knowledge.parse import parse_samples

FAULTS = random_faults(0.2, TRANSPORT_FAULTS)


def rows_of(folder: Path, name: str = "records.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def check_rows(folder: Path) -> None:
    """Every accepted row is valid, every request answered once, and nothing is there twice."""
    answers = rows_of(folder, "answers.jsonl")
    assert max(Counter(row["key"] for row in answers).values()) == 1
    texts = {row["key"]: row.get("text", "") for row in answers}
    records, rejected = rows_of(folder), rows_of(folder, "rejected.jsonl")
    assert max(Counter(row["id"] for row in records).values()) == 1
    seen = [(row["request"], row["index"]) for row in rejected]
    seen += [(row["provenance"]["request"], row["provenance"]["index"]) for row in records]
    assert len(seen) == len(set(seen))
    candidates = {key: 0 for key, text in texts.items() if text}
    for key, _ in seen:
        candidates[key] += 1
    assert min(candidates.values()) > 0
    for row in records:
        tokens = row["tokens"]
        head, tail = (" ".join(tokens[row[side]["start"] : row[side]["end"]]) for side in ("head", "tail"))
        provenance = row["provenance"]
        said = parse_samples(texts[provenance["request"]])[provenance["index"]]
        assert fold(head) == fold(said["head_entity"]) and fold(tail) == fold(said["tail_entity"])
        assert row["head"]["end"] <= row["tail"]["start"] or row["tail"]["end"] <= row["head"]["start"]
        assert row["head"]["type"] in ("PERSON", "WORK") and row["tail"]["type"] == "PLACE"
    contexts = [" ".join(row["tokens"]) for row in records]
    assert len(set(contexts)) == len(contexts)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("backend", ["inference", "tgi"])
def test_every_request_of_2000_is_answered_once_through_faults(tmp_path: Path, backend: str) -> None:
    if backend == "tgi":
        pytest.importorskip("text_generation", reason="needs the extra [tgi]")
    with ThreadedServer(Server(FAULTS, content_faults=0.05, hang=3.5)) as server:
        runner = asyncio.run(run(server.url, tmp_path, backend))
    assert not runner.failures and not runner.stopped
    assert sum(server.faults.values()) > 0.15 * sum(server.asked.values())
    assert set(server.faults) == set(TRANSPORT_FAULTS)
    assert server.busiest <= 32
    assert len(server.answered) == len(rows_of(tmp_path, "answers.jsonl")) >= RELATIONS * PER_RELATION // PER_REQUEST
    assert max(server.answered.values()) == 1
    check_rows(tmp_path)
    records = rows_of(tmp_path)
    assert Counter(Counter(row["relation"] for row in records).values()) == {PER_RELATION: RELATIONS}
    reasons = {row["reason"] for row in rows_of(tmp_path, "rejected.jsonl")}
    assert {"unparseable", "wrong_shape", "head_not_in_text", "instructions"} <= reasons


def test_a_run_killed_five_times_ends_with_the_same_rows(tmp_path: Path, programs: Programs) -> None:
    environment = {name: value for name, value in programs.environment.items() if name != "HF_TOKEN"}
    # Which would forbid the server too.
    environment["HF_HUB_OFFLINE"] = "0"

    def start(url: str, folder: Path) -> subprocess.Popen[str]:
        command = [programs.bin / "python", "-m", "tests.knowledge.client", url, str(folder), "inference"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    with ThreadedServer(Server(FAULTS, content_faults=0.05, hang=3.5)) as server:
        whole = start(server.url, tmp_path / "whole")
        whole.communicate(timeout=120)
        assert whole.returncode == 0
        once = Counter(server.answered)
        server.answered.clear()
        server.asked.clear()
        choose, killed = random.Random(7), tmp_path / "killed"
        answers = killed / "answers.jsonl"
        for _ in range(5):
            process = start(server.url, killed)
            assert process.stdout is not None
            client = int(process.stdout.readline())
            size = answers.stat().st_size if answers.exists() else 0
            deadline = time.monotonic() + 60
            # Not while Python still starts: from its first new answer on, at a random moment.
            while not answers.exists() or answers.stat().st_size <= size:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(choose.uniform(0.05, 0.8))
            os.kill(client, signal.SIGKILL)
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
        last = start(server.url, killed)
        last.communicate(timeout=120)
        assert last.returncode == 0
    check_rows(killed)
    for name in ("records.jsonl", "rejected.jsonl"):
        assert rows_of(killed, name) == rows_of(tmp_path / "whole", name)
    # Asked again was only what the server had answered and the client, killed, had not written down.
    assert set(server.answered) == set(once)
    assert sum(server.answered.values()) - len(once) <= 5 * 32
