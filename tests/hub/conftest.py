"""Tiny trained checkpoints, and a Hub to push them to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import transformers
from huggingface_hub import constants, file_download, hf_api
from huggingface_hub.utils import _http

from tkre_hf.training import (
    MSLMStageArguments,
    MSLMTrainingArguments,
    SCLStageArguments,
    SCLTrainingArguments,
    train_mslm,
    train_scl,
)

from .server import TOKEN, Hub, RunningHub

QUICK: dict[str, Any] = {"max_steps": 1, "use_cpu": True, "bf16": False, "disable_tqdm": True, "save_strategy": "no"}


@pytest.fixture(scope="session")
def trained(
    corpus_files: tuple[Path, Path], backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Both stages' folders, one step each."""
    sources, info = corpus_files
    folder = tmp_path_factory.mktemp("trained")
    first, second = folder / "stage1", folder / "stage2"
    given: dict[str, Any] = {"sources": [str(sources)], "max_length": 64}
    train_mslm(
        MSLMStageArguments(backbone=str(backbone), **given), MSLMTrainingArguments(output_dir=str(first), **QUICK)
    )
    train_scl(
        SCLStageArguments(checkpoint=str(first), relation_info=[str(info)], tau=0.2, **given),
        SCLTrainingArguments(output_dir=str(second), relations_per_batch=4, **QUICK),
    )
    return first, second


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_knowledge(folder: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """What ``tkre generate`` leaves of 20 labelled rows or more: explanations, samples, and all of it merged."""
    told = [{**row, "source": "edkg", "provenance": {"request": "r"}} for row in records[:8]]
    samples = [{**row, "source": "scdg", "provenance": {"request": "r"}} for row in records[8:20]]
    for name, rows in (("explanations", told), ("samples", samples)):
        write_lines(folder / name / "records.jsonl", rows)
        write_lines(folder / name / "answers.jsonl", [{"text": "what the model said"}])
        write_lines(folder / name / "rejected.jsonl", [])
        (folder / name / ".lock").write_text("")
        settings = {"kind": name, "model": "/home/me/models/small-llm", "prompt_sha256": "0123456789abcdef"}
        (folder / name / "run.json").write_text(json.dumps(settings))
        (folder / name / "report.json").write_text("{}")
    write_lines(folder / "samples" / "consistent.jsonl", samples[:10])
    write_lines(folder / "train.jsonl", [*records, *told, *samples])
    return folder


@pytest.fixture
def checkpoint(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of stage 2's folder, called my-model."""
    return Path(shutil.copytree(trained[1], tmp_path / "my-model"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub on the loopback interface."""
    with RunningHub(Hub(TOKEN)) as running:
        yield running


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has huggingface_hub ask the Hub at an address, as HF_ENDPOINT would have it: ``online(url)``."""

    def reset() -> None:
        # A session keeps what it was made with: up to 0.x by this name, then by that.
        getattr(_http, "reset_sessions", getattr(_http, "close_session", None))()

    def to(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        # What a file's address is made of, which up to hub 0.x another module has for itself.
        for module in (constants, file_download):
            template = url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        # The Trainer's own: hub's in transformers 4, and one that it makes when it is first asked in 5.
        monkeypatch.setattr(hf_api.api, "endpoint", url)
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)
        reset()

    yield to  # type: ignore[misc]
    monkeypatch.undo()
    reset()
