"""Fixtures of the data tests: a cache of their own, and small files in the formats that are read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest


@pytest.fixture(autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is empty when the test begins."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", path)
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", path / "downloads")
    return path


@pytest.fixture
def data_dir() -> Path:
    """The folder of real data."""
    path = os.environ.get("TKRE_DATA_DIR")
    if not path:
        pytest.skip("reads real data: set TKRE_DATA_DIR to its folder")
    return Path(path)


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Writes JSON lines; a row that is bytes goes in as it is."""

    def write(*rows: Any, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        path.write_bytes(b"\n".join(lines) + b"\n")
        return path

    return write


@pytest.fixture
def write_fewrel(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file in FewRel's format: for each relation, numbered sentences, all different."""

    def write(relations: dict[str, int], name: str = "train_wiki.json") -> Path:
        path = tmp_path / name
        path.write_text(
            json.dumps({relation: [_sentence(relation, i) for i in range(n)] for relation, n in relations.items()})
        )
        return path

    return write


@pytest.fixture
def fewrel_sentence() -> Callable[[str, int], dict[str, Any]]:
    """Makes a numbered sentence of a relation in FewRel's format."""
    return _sentence


def _sentence(relation: str, number: int) -> dict[str, Any]:
    """A sentence in FewRel's format, with a word that is white space and a head that is mentioned twice."""
    tokens = ["The", "Old", "Bridge", " ", "of", relation, "crosses", "River", str(number), ",", "Old", "Bridge", "!"]
    return {
        "tokens": tokens,
        "h": ["old bridge", "Q1", [[1, 2], [10, 11]]],
        "t": [f"river {number}", f"Q{number}", [[7, 8]]],
    }
