"""The record: the one shape in which every sentence travels, whoever wrote it.

A record holds the words of a sentence, a head and a tail entity as token spans (end exclusive), the relation between
them, and the token spans that express it. Builders, generated samples and the model's processor all speak it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Features, List, Value

from tkre_hf.errors import InvalidRowError
from tkre_hf.tkre.words import split_text

Record: TypeAlias = dict[str, Any]
CharSpan: TypeAlias = tuple[int, int]

SOURCES = ("gold", "edkg", "scdg")

_ENTITY = {
    "start": Value("int32"),
    "end": Value("int32"),
    "type": Value("string"),
    "name": Value("string"),
    "kb_id": Value("string"),
}

RECORD_FEATURES = Features(
    {
        "id": Value("string"),
        "tokens": List(Value("string")),
        "head": dict(_ENTITY),
        "tail": dict(_ENTITY),
        "relation": Value("string"),
        "cues": List({"start": Value("int32"), "end": Value("int32")}),
        "source": Value("string"),
    }
)


def tokenize_text(text: str, spans: Sequence[CharSpan] = ()) -> tuple[list[str], list[CharSpan], list[CharSpan]]:
    """Splits a text into words and punctuation, so that every given character span is a whole number of tokens.

    A word that a span begins or ends within is cut there ("un|known"), so no span is ever widened or clipped. A letter
    keeps the marks that combine with it. The processor splits what a model is asked in the same way.

    Args:
        text: Any text.
        spans: Character spans ``(start, end)``, end exclusive, inside the text; white space at their edges is dropped.

    Returns:
        The tokens, each token's character span in ``text``, and for each of ``spans`` its token span.

    Raises:
        ValueError: A span lies outside the text, is empty or reversed, or holds only white space.
    """
    for start, end in spans:
        check_span(start, end, len(text), unit="characters")
    return split_text(text, spans)


def check_span(start: Any, end: Any, length: int, unit: str = "tokens") -> None:
    """Refuses a span that is not two whole numbers with ``0 <= start < end <= length``.

    Raises:
        ValueError: Says which of these does not hold.
    """
    if not all(isinstance(edge, int) and not isinstance(edge, bool) for edge in (start, end)):
        raise ValueError(f"the span [{start!r}, {end!r}) is not two whole numbers")
    if start > end:
        raise ValueError(f"the span [{start}, {end}) is reversed: its end lies before its start")
    if start == end:
        raise ValueError(f"the span [{start}, {end}) is empty: the end is exclusive, so at least {start + 1}")
    if start < 0 or end > length:
        raise ValueError(f"the span [{start}, {end}) lies outside the sentence's {length} {unit}")


def check_text(file: str | Path, row: int | str, **fields: str) -> None:
    """Refuses half of a surrogate pair: JSON can spell it, but it is no text and cannot be stored.

    Raises:
        InvalidRowError: Names the field.
    """
    for field, text in fields.items():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            half = ord(text[error.start])
            raise InvalidRowError(file, row, field, f"not UTF-8: holds half a surrogate pair, U+{half:04X}") from None


def make_record(
    *,
    id: str,
    tokens: Sequence[str],
    head: CharSpan,
    tail: CharSpan,
    relation: str,
    cues: Iterable[CharSpan] = (),
    source: str = "gold",
    head_type: str = "",
    tail_type: str = "",
    head_name: str = "",
    tail_name: str = "",
    head_kb_id: str = "",
    tail_kb_id: str = "",
    file: str | Path = "<memory>",
    row: int | str = "",
) -> Record:
    """Builds a checked record; a name that is not given is the span's own words.

    Args:
        id: Stable and unique in its data set.
        tokens: The sentence's words.
        head: Token span of the head entity, end exclusive. ``tail`` and each of ``cues`` likewise.
        relation: The label as its data set spells it.
        source: One of ``SOURCES``.
        file: Where the row comes from, for the error. ``row`` likewise.

    Raises:
        InvalidRowError: A field is missing its words, a span is no span of ``tokens`` or holds only white space, or
            head and tail are the same span.
    """

    def entity(field: str, span: CharSpan, type: str, name: str, kb_id: str) -> dict[str, Any]:
        try:
            check_span(*span, len(tokens))
        except ValueError as error:
            raise InvalidRowError(file, row, field, str(error)) from None
        start, end = span
        words = " ".join(tokens[start:end])
        if not words.strip():
            raise InvalidRowError(file, row, field, f"the span [{start}, {end}) holds only white space")
        name = name or words
        return {"start": start, "end": end, "type": type, "name": name, "kb_id": kb_id}

    if not tokens or not all(isinstance(token, str) for token in tokens):
        raise InvalidRowError(file, row, "tokens", "expected a list of at least one word")
    if not isinstance(relation, str) or not relation:
        raise InvalidRowError(file, row, "relation", "expected the relation's label, a non-empty string")
    if source not in SOURCES:
        raise InvalidRowError(file, row, "source", f"expected one of {', '.join(SOURCES)}, found {source!r}")
    head_entity = entity("head", head, head_type, head_name, head_kb_id)
    tail_entity = entity("tail", tail, tail_type, tail_name, tail_kb_id)
    if tuple(head) == tuple(tail):
        raise InvalidRowError(file, row, "tail", f"the head is the same span [{tail[0]}, {tail[1]})")
    check_text(file, row, id=id, relation=relation, tokens="".join(tokens))
    check_text(file, row, head="".join(map(str, head_entity.values())), tail="".join(map(str, tail_entity.values())))
    cue_list = list(cues)
    for i, cue in enumerate(cue_list):
        try:
            check_span(*cue, len(tokens))
        except ValueError as error:
            raise InvalidRowError(file, row, f"cues[{i}]", str(error)) from None
    return {
        "id": id,
        "tokens": list(tokens),
        "head": head_entity,
        "tail": tail_entity,
        "relation": relation,
        "cues": [{"start": start, "end": end} for start, end in cue_list],
        "source": source,
    }
