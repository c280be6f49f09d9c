"""Answers replayed from a file, for offline work and tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.knowledge.align import clean_text, fold
from tkre_hf.knowledge.backends import PLAIN_PROMPT, Answer, RefusedError, Request


class RecordedBackend:
    """Replays answers from a file of JSON lines.

    A line is an answer of an earlier run (``key`` and ``text``, as in its ``answers.jsonl``), a sample (``relation``,
    ``context`` and its entities), or an explanation (``row``, the number of the labelled row from 0, and
    ``explanation``; ``subject`` and ``object`` are compared with the row's entities where they are given). Samples of
    a relation are given out in the file's order.

    Args:
        path: The file, or a folder whose ``.jsonl`` files are read.
        model: The name of the model that wrote it, for the provenance.

    Raises:
        InvalidRowError: A line is none of these.
    """

    def __init__(self, path: str | Path, model: str = "recorded") -> None:
        self.path, self.model = Path(path), model
        self._answers: dict[str, str] = {}
        self._formats = {PLAIN_PROMPT}
        self._samples: dict[str, list[dict[str, Any]]] = {}
        self._explanations: dict[int, dict[str, Any]] = {}
        for file in sorted(self.path.glob("*.jsonl")) if self.path.is_dir() else [self.path]:
            for number, row in _read_rows(file):
                self._add(file, number, row)

    def _add(self, file: Path, number: int, row: dict[str, Any]) -> None:
        if {"key", "text"} <= row.keys():
            self._answers[row["key"]] = row["text"]
            self._formats.add(str(row.get("prompt_format", PLAIN_PROMPT)))
        elif {"relation", "context"} <= row.keys():
            self._samples.setdefault(row["relation"], []).append(row)
        elif {"row", "explanation"} <= row.keys():
            self._explanations[row["row"]] = {**row, "place": (file, number)}
        elif not {"key", "failed"} <= row.keys():
            expected = "key and text, relation and context, or row and explanation"
            raise InvalidRowError(file, number, "", f"no recorded answer: expected the fields {expected}")

    async def complete(self, request: Request) -> Answer:
        for prompt_format in sorted(self._formats):
            if (text := self._answers.get(request.key(self.model, prompt_format))) is not None:
                return Answer(text)
        if "row" not in request.about:
            rows = self._samples.get(request.relation, [])[request.offset : request.offset + request.count]
            if not rows:
                raise RefusedError(f"{self.path.name} holds no further sample of {request.relation}")
            return Answer(json.dumps({"samples": rows}, ensure_ascii=False))
        row = self._explanations.get(request.about["row"])
        if row is None or request.attempt:
            raise RefusedError(f"{self.path.name} holds no further explanation of row {request.about['row']}")
        for name, side in (("subject", "head"), ("object", "tail")):
            if name in row and fold(clean_text(row[name])) != fold(clean_text(request.about[side])):
                found = f"the labelled row {row['row']} has {request.about[side]!r}: is this another file's knowledge?"
                file, line = row["place"]
                raise InvalidRowError(file, line, name, found)
        fields = {name: row[name] for name in ("explanation", "cues") if name in row}
        return Answer(json.dumps(fields, ensure_ascii=False))

    async def close(self) -> None:
        pass


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        # Not splitlines: a string in JSON may hold what that takes for the end of a line too, such as U+2028.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TkreError(f"cannot read the recorded answers {path}: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InvalidRowError(path, number, "", f"not JSON: {error}") from None
        if not isinstance(row, dict):
            raise InvalidRowError(path, number, "", "expected an object")
        yield number, row
