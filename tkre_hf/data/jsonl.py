"""JSON lines: OpenNRE's files, your own sentences, generated samples and this package's records, told by their keys.

Each line is one object of one of these shapes, and a file may mix them:

=============  ======================================================================================================
``token``      OpenNRE, SemEval: ``{"token": [words], "h": {"name": "", "pos": [start, end]}, "t": {...}, "relation"}``
``text``       your own: ``{"text": "", "head": [start, end], "tail": [start, end], "relation"}``, in characters
``context``    a generated sample: ``{"relation", "context": "", "head_entity": "", "tail_entity": ""}``
``tokens``     a record, as ``Dataset.to_json`` writes it
=============  ======================================================================================================

Every span is ``[start, end)``: its end is exclusive. A row without an ``id`` gets one from its file's name and line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tkre_hf.data.builder import RecordsBuilder
from tkre_hf.data.reading import RowView, UniqueIds, read_json_lines, record_or_error, shorten
from tkre_hf.data.schema import CharSpan, Record, check_span, check_text, tokenize_text
from tkre_hf.errors import InvalidRowError


class OpenNREJsonl(RecordsBuilder):
    """Records from JSON lines of any of the shapes above.

    Example::

        builder = OpenNREJsonl(data_files={"train": "train.txt", "test": "test.txt"})
        builder.download_and_prepare()
        train = builder.as_dataset("train")
    """

    VERSION = "1.0.0"

    def read(self, path: Path, ids: UniqueIds) -> Iterator[Record | InvalidRowError]:
        for row in read_json_lines(path):
            yield record_or_error(row, parse_row, ids)


def parse_row(row: RowView) -> Record:
    """Turns one row of any shape into a record.

    Raises:
        InvalidRowError: Its shape is none of the known ones, or a field is wrong.
    """
    shapes = [key for key in SHAPES if key in row.data]
    if len(shapes) != 1:
        found = ", ".join(sorted(map(str, row.data))) or "none"
        expected = "; or ".join(shape for _, shape in SHAPES.values())
        raise row.error("", f"the keys ({found}) are of no known shape; expected {expected}")
    parse, _ = SHAPES[shapes[0]]
    return parse(row)


def row_id(row: RowView) -> str:
    """A row's own id, or one made of its file's name and its line.

    Raises:
        InvalidRowError: It has one that is none.
    """
    id = row.data.get("id")
    if id is None:
        return f"{Path(row.file).name.split('.')[0]}-{row.row}"
    if isinstance(id, bool) or not isinstance(id, (str, int)) or id == "":
        raise row.error("id", f"expected a non-empty string or a whole number, found {shorten(id)}")
    check_text(row.file, row.row, id=str(id))
    return str(id)


def _parse_opennre(row: RowView) -> Record:
    return row.record(
        {"tokens": "token", "head": "h.pos", "tail": "t.pos"},
        id=row_id(row),
        tokens=row.get("token", list),
        head=row.span("h.pos"),
        tail=row.span("t.pos"),
        relation=row.get("relation", str),
        **_entity_fields(row, "head", "h", kb_id="id"),
        **_entity_fields(row, "tail", "t", kb_id="id"),
    )


def _parse_record(row: RowView) -> Record:
    def span(field: str) -> CharSpan:
        return row.get(f"{field}.start", int), row.get(f"{field}.end", int)

    cues = row.get("cues", list, default=[])
    return row.record(
        {},
        id=row_id(row),
        tokens=row.get("tokens", list),
        head=span("head"),
        tail=span("tail"),
        relation=row.get("relation", str),
        cues=[_cue(row, i, cue) for i, cue in enumerate(cues)],
        source=row.get("source", str, default="gold"),
        **_entity_fields(row, "head", "head", kb_id="kb_id"),
        **_entity_fields(row, "tail", "tail", kb_id="kb_id"),
    )


def _entity_fields(row: RowView, side: str, entity: str, kb_id: str) -> dict[str, Any]:
    """What a row says of its head or tail besides the span, as arguments of ``make_record``."""
    theirs = {"name": "name", "type": "type", "kb_id": kb_id}
    return {f"{side}_{ours}": row.get(f"{entity}.{key}", str, default="") for ours, key in theirs.items()}


def _cue(row: RowView, i: int, cue: Any) -> CharSpan:
    if not isinstance(cue, dict) or not {"start", "end"} <= cue.keys():
        raise row.error(f"cues[{i}]", f'expected {{"start", "end"}}, found {shorten(cue)}')
    return cue["start"], cue["end"]


def _parse_text(row: RowView) -> Record:
    text = row.get("text", str)
    cues = row.get("cues", list, default=[])
    spans = {"head": row.span("head"), "tail": row.span("tail")}
    for i, cue in enumerate(cues):
        if not isinstance(cue, list) or len(cue) != 2:
            raise row.error(f"cues[{i}]", f"expected [start, end], found {shorten(cue)}")
        spans[f"cues[{i}]"] = (cue[0], cue[1])
    return _from_characters(row, text, spans, source="gold")


def _parse_sample(row: RowView) -> Record:
    text = row.get("context", str)
    head, tail = find_entities(row, text, row.get("head_entity", str), row.get("tail_entity", str))
    return _from_characters(row, text, {"head": head, "tail": tail}, source="scdg")


def _from_characters(row: RowView, text: str, spans: dict[str, CharSpan], source: str) -> Record:
    """A record from character spans: the head's, the tail's and then the cues'."""
    for field, (start, end) in spans.items():
        try:
            check_span(start, end, len(text), unit="characters")
        except ValueError as error:
            raise row.error(field, str(error)) from None
        if not text[start:end].strip():
            raise row.error(field, f"the span [{start}, {end}) holds only white space")
    tokens, _, (head, tail, *cues) = tokenize_text(text, list(spans.values()))
    return row.record(
        {"tokens": "text"} if "text" in row.data else {"tokens": "context"},
        id=row_id(row),
        tokens=tokens,
        head=head,
        tail=tail,
        relation=row.get("relation", str),
        cues=cues,
        source=source,
        head_type=row.get("head_type", str, default=""),
        tail_type=row.get("tail_type", str, default=""),
        head_name=text[slice(*spans["head"])].strip(),
        tail_name=text[slice(*spans["tail"])].strip(),
    )


def find_entities(row: RowView, text: str, head: str, tail: str) -> tuple[CharSpan, CharSpan]:
    """Where a generated sample's two entities stand in its text, verbatim.

    An entity is sought as whole words first ("Rome", not in "Romeo"), then anywhere. Of several places, the two
    entities take the first ones that don't overlap, so that "York" and "New York" each get their own mention; only
    where there are no such places may one lie inside the other.

    Raises:
        InvalidRowError: An entity doesn't stand in the text, or both are the same mention.
    """
    heads, tails = _mentions(row, "head_entity", text, head), _mentions(row, "tail_entity", text, tail)
    apart = [(h, t) for h in heads for t in tails if h[1] <= t[0] or t[1] <= h[0]]
    if apart:
        return apart[0]
    if heads[0] == tails[0]:
        raise row.error("tail_entity", f"{shorten(tail)} is the same mention as the head")
    return heads[0], tails[0]


def _mentions(row: RowView, field: str, text: str, entity: str) -> list[CharSpan]:
    check_text(row.file, row.row, **{field: entity})
    if not entity.strip():
        raise row.error(field, "expected the entity's words, found none")
    literal = re.escape(entity)
    places = list(re.finditer(rf"(?<!\w){literal}(?!\w)", text)) or list(re.finditer(literal, text))
    if not places:
        raise row.error(field, f"{shorten(entity)} does not stand in the context word for word")
    return [place.span() for place in places]


SHAPES: dict[str, tuple[Callable[[RowView], Record], str]] = {
    "token": (_parse_opennre, "token, h, t, relation (OpenNRE)"),
    "text": (_parse_text, "text, head, tail, relation (your own sentences)"),
    "context": (_parse_sample, "relation, context, head_entity, tail_entity (generated samples)"),
    "tokens": (_parse_record, "id, tokens, head, tail, relation, cues, source (records)"),
}
