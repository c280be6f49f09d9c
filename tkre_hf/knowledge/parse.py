"""From the text of an answer to the fields it means: JSON, JSON with anything around it, or the paper's own lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_ANSWER_CHARS = 100_000
# A truncated answer is scanned to its end from each opening bracket tried, so their number bounds the time it takes.
_MAX_STARTS = 64

_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.S | re.I)
_OPENING = re.compile(r"[{\[]")
_FIELD = re.compile(r"\b(relation|context|head entity|head type|tail entity|tail type)\s*:", re.I)
_LINE_FIELDS = ["context", "head_entity", "head_type", "tail_entity", "tail_type"]


class UnparseableError(ValueError):
    """An answer in which no field can be found; says why."""


def parse_samples(text: str) -> list[Any]:
    """The samples of an SCDG answer, unchecked.

    Understood are an object with ``samples``, a list, one or more objects, each with anything around it (fences,
    prose, a model's thoughts); and the lines of TKRE's paper: ``Relation: … Context: … Head Entity: … Head Type: …
    Tail Entity: … Tail Type: …``. Of an answer cut off by its length, the whole objects before the cut are kept.

    Raises:
        UnparseableError: None of these was found.
    """
    text = _stripped(text)
    found: list[Any] = []
    for value in _json_values(text):
        if isinstance(value, dict) and isinstance(value.get("samples"), list):
            found += value["samples"]
        elif isinstance(value, dict):
            found.append(value)
        elif isinstance(value, list):
            found += (item for item in value if isinstance(item, dict))
    found = [_plain_keys(item) for item in found] or list(_paper_lines(text))
    if not found:
        raise UnparseableError("neither JSON nor the lines 'Relation: … Context: … Head Entity: …' were found")
    return found


def parse_explanation(text: str) -> dict[str, Any]:
    """The fields of an EDKG answer, unchecked: an object, or plain prose, which then is the explanation.

    Raises:
        UnparseableError: The answer is empty, or is JSON that is broken or has no ``explanation``.
    """
    text = _stripped(text)
    for value in _json_values(text):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and "explanation" in (fields := _plain_keys(item)):
                return fields
    if not text:
        raise UnparseableError("the answer is empty")
    if text.lstrip("` \n").startswith(("{", "[", "json")) or '"explanation"' in text:
        raise UnparseableError("the JSON is broken or has no field 'explanation'")
    return {"explanation": text}


def _stripped(text: str) -> str:
    if len(text) > MAX_ANSWER_CHARS:
        raise UnparseableError(f"the answer is longer than {MAX_ANSWER_CHARS} characters")
    text = _THOUGHT.sub("", text, count=1).strip()
    if text[:7].lower() == "<think>":
        raise UnparseableError("the answer ended within the model's thoughts")
    return text


def _plain_keys(item: Any) -> Any:
    """Field names however a model writes them: "Head Entity" is ``head_entity``."""
    if not isinstance(item, dict):
        return item
    return {re.sub(r"[\s-]+", "_", key.strip().lower()): value for key, value in item.items()}


def _json_values(text: str) -> Iterator[Any]:
    """Every outermost JSON object or list of a text, in order."""
    decoder = json.JSONDecoder()
    position, starts = 0, 0
    while (opening := _OPENING.search(text, position)) and starts < _MAX_STARTS:
        try:
            value, position = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            position, starts = opening.end(), starts + 1
        else:
            yield value


def _paper_lines(text: str) -> Iterator[dict[str, str]]:
    fields = list(_FIELD.finditer(text))
    ends = [field.start() for field in fields[1:]] + [len(text)]
    named = [
        (field[1].lower().replace(" ", "_"), text[field.end() : end]) for field, end in zip(fields, ends, strict=False)
    ]
    for i in range(len(named) - len(_LINE_FIELDS) + 1):
        group = named[i : i + len(_LINE_FIELDS)]
        if [name for name, _ in group] == _LINE_FIELDS:
            # The last field of a line has the rest of the answer behind it.
            sample = {name: value.strip() for name, value in group[:-1]} | {"tail_type": _first_line(group[-1][1])}
            for name in _LINE_FIELDS[1:]:
                sample[name] = sample[name].removesuffix(".").strip()
            if i and named[i - 1][0] == "relation":
                sample["relation"] = named[i - 1][1].strip().removesuffix(".").strip()
            yield sample


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0].split(". ", 1)[0].strip()
