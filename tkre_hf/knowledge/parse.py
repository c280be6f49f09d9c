"""From the text of an answer to the fields it means: JSON, JSON with anything around it, or the paper's own lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_ANSWER_CHARS = 100_000
# A truncated answer is scanned to its end from each opening bracket tried, so their number bounds the time it takes.
_MAX_STARTS = 64

# Records are flat; what is nested deeper would let whoever walks it later run out of stack.
_MAX_DEPTH = 50
_MAX_FRAGMENTS, _FRAGMENT_CHARS = 64, 2000

_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.S | re.I)
_THOUGHT_END = re.compile(r"</think>", re.I)
_OPENING = re.compile(r"[{\[]")
# The beginning of an object of plain fields, as a sample is one; not of one around samples, nor of braces in prose.
_SAMPLE_BEGINS = re.compile(r'\{\s*(?:\Z|"(?![^"]*"\s*:\s*[\[{]))')
_TOO_DEEP = f"nested deeper than {_MAX_DEPTH} levels"
_FIELD = re.compile(r"\b(relation|context|head entity|head type|tail entity|tail type)\s*:", re.I)
_LINE_FIELDS = ["context", "head_entity", "head_type", "tail_entity", "tail_type"]
_PLAIN_KEYS = frozenset((*_LINE_FIELDS, "relation", "explanation", "cues"))
_DECODER = json.JSONDecoder()


class UnparseableError(ValueError):
    """An answer in which no field can be found; says why."""


class Fragment(str):
    """A part of an answer that was to be a sample and can't be read as one.

    Args:
        text: The part, or its beginning.
        reason: Why not.
    """

    reason: str

    def __new__(cls, text: str, reason: str) -> Fragment:
        fragment = super().__new__(cls, text[:_FRAGMENT_CHARS])
        fragment.reason = reason
        return fragment


def parse_samples(text: str) -> list[Any]:
    """The samples of an SCDG answer, unchecked.

    Understood are an object with ``samples``, a list, one or more objects, each with anything around it (fences,
    prose, a model's thoughts); and the lines of TKRE's paper: ``Relation: … Context: … Head Entity: … Head Type: …
    Tail Entity: … Tail Type: …``. Of an answer cut off by its length, the whole objects before the cut are kept.

    Returns:
        The samples, then a :class:`Fragment` for each one that is broken, cut off or no object, as far as that can be
        seen, so that it can be refused by name.

    Raises:
        UnparseableError: None of these was found.
    """
    text = _stripped(text)
    found: list[Any] = []
    fragments: list[Fragment] = []
    for value in _json_values(text):
        if isinstance(value, Fragment):
            fragments.append(value)
        elif isinstance(value, dict) and isinstance(value.get("samples"), list):
            found += value["samples"]
        elif isinstance(value, dict):
            found.append(value)
        else:
            found += (item for item in value if isinstance(item, dict))
            fragments += _no_objects(value)
    if not found:
        found, broken = _paper_lines(text)
        fragments += broken
    if not found:
        if any(fragment.reason == _TOO_DEEP for fragment in fragments):
            raise UnparseableError(_TOO_DEEP)
        raise UnparseableError("neither JSON nor the lines 'Relation: … Context: … Head Entity: …' were found")
    return [*map(_plain_keys, found), *fragments[:_MAX_FRAGMENTS]]


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
    """An answer without the model's thoughts, whose opening tag a chat template may have put into the prompt."""
    if len(text) > MAX_ANSWER_CHARS:
        raise UnparseableError(f"the answer is longer than {MAX_ANSWER_CHARS} characters")
    text = _THOUGHT.sub("", text, count=1).strip()
    if text[:7].lower() == "<think>":
        raise UnparseableError("the answer ended within the model's thoughts")
    if ends := [match.span() for match in _THOUGHT_END.finditer(text)]:
        # A tag within a value's strings belongs to what it says.
        values = [span for span, _ in _json_spans(text)]
        ends = [tag for tag in ends if not any(start < tag[0] < end for start, end in values)]
    return text[ends[-1][1] :].strip() if ends else text


def _plain_keys(item: Any) -> Any:
    """Field names however a model writes them: "Head Entity" is ``head_entity``."""
    if not isinstance(item, dict):
        return item
    return {_plain_key(key): value for key, value in item.items()}


def _plain_key(key: str) -> str:
    # Nearly all keys are what they should be.
    return key if key in _PLAIN_KEYS else re.sub(r"[\s-]+", "_", key.strip().lower())


def _json_spans(text: str) -> Iterator[tuple[tuple[int, int], Any]]:
    """Every outermost JSON object or list of a text with its place, in order.

    One that is nested too deep is a :class:`Fragment`, and so is the beginning of a sample that can't be read.
    """
    position, starts = 0, 0
    while (opening := _OPENING.search(text, position)) and starts < _MAX_STARTS:
        start = opening.start()
        try:
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            position, starts = opening.end(), starts + 1
            if _SAMPLE_BEGINS.match(text, start):
                until = _OPENING.search(text, position)
                value = Fragment(text[start : until.start() if until else len(text)], f"broken or cut off: {error}")
                yield (start, position), value
        else:
            yield (start, position), Fragment(text[start:position], _TOO_DEEP) if _is_too_deep(value) else value


def _json_values(text: str) -> Iterator[Any]:
    return (value for _, value in _json_spans(text))


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
        if not level:
            return False
    return True


def _no_objects(items: list[Any]) -> Iterator[Fragment]:
    """What in a list should be samples and is not; a list of numbers is a reference such as [1]."""
    if not all(isinstance(item, int | float) for item in items):
        for item in items:
            if not isinstance(item, dict):
                yield Fragment(json.dumps(item, ensure_ascii=False), "no object")


def _paper_lines(text: str) -> tuple[list[Any], list[Fragment]]:
    """The samples of the paper's lines, and those that lack a field or have them in another order."""
    found: list[Any] = []
    broken: list[Fragment] = []
    fields = list(_FIELD.finditer(text))
    ends = [field.start() for field in fields[1:]] + [len(text)]
    named = [
        (field[1].lower().replace(" ", "_"), text[field.end() : end]) for field, end in zip(fields, ends, strict=False)
    ]
    for i, (name, _) in enumerate(named):
        if name != "context":
            continue
        group = named[i : i + len(_LINE_FIELDS)]
        if [name for name, _ in group] != _LINE_FIELDS:
            others = (at for at in range(i + 1, len(named)) if named[at][0] in ("relation", "context"))
            until = fields[at].start() if (at := next(others, 0)) else len(text)
            broken.append(Fragment(text[fields[i].start() : until], "not the paper's fields in their order"))
            continue
        # The last field of a line has the rest of the answer behind it.
        sample = {name: value.strip() for name, value in group[:-1]} | {"tail_type": _first_line(group[-1][1])}
        for name in _LINE_FIELDS[1:]:
            sample[name] = sample[name].removesuffix(".").strip()
        if i and named[i - 1][0] == "relation":
            sample["relation"] = named[i - 1][1].strip().removesuffix(".").strip()
        found.append(sample)
    return found, broken


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0].split(". ", 1)[0].strip()
