"""What the pipeline reads: a sentence, and between which of its entities relations are sought.

One sentence comes as text with character spans, as words with word spans, or as text with marks around head and tail;
a JSON line's fields and a Python caller's are the same. Spans are ``[start, end)``, never widened, clipped or guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

from tkre_hf.data.reading import RowView, shorten
from tkre_hf.data.schema import check_span, check_text
from tkre_hf.errors import InvalidRowError, TkreError

from .markers import ROLES
from .words import split_text

_TEXT, _WORDS = "text", ("words", "tokens", "token")
_MARK = re.compile(r"\[(/?)E([12])\]|<(/?)e([12])>")
# What token classification, records and people call the type of an entity.
_TYPES = ("type", "entity_group", "entity", "label")
_EXPECTED = (
    "give head and tail, or entities, or mark both as in '[E1]Oslo[/E1] is the capital of [E2]Norway[/E2].' or with "
    "<e1>…</e1> and <e2>…</e2>."
)


@dataclass(frozen=True)
class Entity:
    """One mention.

    Args:
        start: Of its span: in characters of a text, or in words.
        end: Exclusive.
        text: What stands there.
        type: Such as ``"PERSON"``; may be empty, and only typed markers show it.
    """

    start: int
    end: int
    text: str
    type: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the pipeline's results have it; without an empty type."""
        found = {"start": self.start, "end": self.end, "text": self.text}
        return {**found, "type": self.type} if self.type else found


Pair = tuple[Entity, Entity]


@dataclass(frozen=True)
class Sentence:
    """A sentence that was read.

    Args:
        text: Its text, or the words joined by spaces.
        words: Its words, where it was given as words; the spans then count words.
        pairs: Head and tail of each relation sought; ``None`` where the entities are yet to be found.
        row: Where it stands, for errors.
        encoded: The processor's features of each pair, where somebody has asked for them already.
    """

    text: str
    words: tuple[str, ...] | None
    pairs: tuple[Pair, ...] | None
    row: RowView = field(repr=False)
    encoded: tuple[dict[str, Any], ...] | None = field(default=None, repr=False, compare=False)

    def records(self) -> list[dict[str, Any]]:
        """One for each pair, as ``TKREProcessor.encode`` reads them.

        Raises:
            InvalidRowError: The entities are yet to be found.
        """
        if self.pairs is None:
            raise self.unmarked()
        records = []
        for pair in self.pairs:
            spans = [(entity.start, entity.end) for entity in pair]
            tokens: Sequence[str] = self.words or ()
            if self.words is None:
                tokens, _, spans = split_text(self.text, spans)
            entities = {
                role: {"start": start, "end": end, "type": entity.type}
                for role, (start, end), entity in zip(ROLES, spans, pair, strict=True)
            }
            records.append({"id": self.row.row, "tokens": tokens, **entities})
        return records

    def unmarked(self) -> InvalidRowError:
        """What is wrong where nothing finds the entities of a sentence that has none."""
        return self.row.error("", f"no entities are given: {_EXPECTED} Or let a model find them (ner)")

    def field(self, role: str | None) -> str:
        """What the row calls its head or tail, for errors; nothing for no role."""
        if role is None:
            return ""
        return next((name for name in (role, role[0], "entities") if self.row.data.get(name) is not None), _TEXT)

    def with_entities(self, entities: Iterable[Mapping[str, Any]]) -> Sentence:
        """The sentence with all ordered pairs of what a token classification pipeline found in it.

        Raises:
            InvalidRowError: What was found has no place in the text.
        """
        found = [self._found(entity) for entity in entities]
        return replace(self, pairs=tuple(permutations(dict.fromkeys(found), 2)))

    def _found(self, entity: Mapping[str, Any]) -> Entity:
        start, end = entity.get("start"), entity.get("end")
        if not isinstance(start, int) or not isinstance(end, int) or not self.text[start:end].strip():
            raise self.row.error(
                "text", f"ner found {shorten(entity)}, which has no place in it: use a model with a fast tokenizer"
            )
        # Byte-level tokenizers count the space before a word as the word's.
        words = self.text[start:end]
        start, end = start + len(words) - len(words.lstrip()), end - len(words) + len(words.rstrip())
        return Entity(start, end, self.text[start:end], _type_of(entity))


def read_sentence(row: RowView) -> Sentence:
    """Reads a sentence from the fields of a row.

    ``text`` comes with character spans, ``words`` (also ``tokens``, ``token``) with word spans. ``head`` and ``tail``
    (``h`` and ``t`` of OpenNRE) are ``[start, end]``, or mappings with ``start``, ``end`` and perhaps ``type``;
    ``entities`` is a list of such spans, of which all ordered pairs are meant. With none of these, head and tail are
    marked in the text, or are yet to be found in it.

    Raises:
        InvalidRowError: A field is missing or wrong.
    """
    given = [name for name in (_TEXT, *_WORDS) if row.data.get(name) is not None]
    if len(given) != 1:
        keys = given or sorted(map(str, row.data))
        raise row.error("", f"expected either 'text' or 'words', found {', '.join(keys) or 'nothing'}")
    (source,) = given
    value = row.data[source]
    words = None
    if source == _TEXT:
        text = row.get(_TEXT, str)
        if not text.strip():
            raise row.error(_TEXT, "expected a sentence, found none")
    else:
        if not isinstance(value, list | tuple) or not value or not all(isinstance(word, str) for word in value):
            raise row.error(source, f"expected a list of at least one word, found {shorten(value)}")
        words, text = tuple(value), " ".join(value)
    check_text(row.file, row.row, **{source: text})
    sentence = Sentence(text, words, None, row)
    names = ("h", "t") if source == "token" and "h" in row.data else ROLES
    ends = {name: row.data[name] for name in names if row.data.get(name) is not None}
    entities = row.data.get("entities")
    if ends and entities is not None:
        raise row.error("entities", "give either head and tail, or entities: all their pairs are meant")
    if ends:
        missing = [name for name in names if name not in ends]
        if missing:
            raise row.error(missing[0], f"missing; '{next(iter(ends))}' is given, and a relation has two ends")
        head, tail = (_entity(sentence, name, end) for name, end in ends.items())
        return replace(sentence, pairs=(_pair(row, names[1], head, tail),))
    if entities is not None:
        if not isinstance(entities, list | tuple):
            raise row.error("entities", f"expected a list of spans, found {shorten(entities)}")
        mentions = [_entity(sentence, f"entities[{i}]", entity) for i, entity in enumerate(entities)]
        spans: set[tuple[int, int]] = set()
        for i, mention in enumerate(mentions):
            span = mention.start, mention.end
            if span in spans:
                raise row.error(f"entities[{i}]", f"the span [{span[0]}, {span[1]}) stands there before")
            spans.add(span)
        return replace(sentence, pairs=tuple(permutations(mentions, 2)))
    if words is not None:
        raise row.error("", "words come with head and tail, or with entities")
    return _read_marks(sentence)


def read_input(value: Any, file: str, index: int) -> Sentence:
    """Reads what a caller gives for a sentence: a text with marks or without, or a mapping of fields.

    Args:
        value: It.
        file: What errors call the list that it stands in.
        index: Its place there.

    Raises:
        InvalidRowError: It isn't one, or a field is wrong.
    """
    if isinstance(value, Sentence):
        return value
    if isinstance(value, str):
        value = {_TEXT: value}
    if not isinstance(value, Mapping):
        reason = f"expected a text, or a mapping with 'text' or 'words', found {shorten(value)}"
        raise InvalidRowError(file, f"[{index}]", "", reason)
    return read_sentence(RowView(file, f"[{index}]", dict(value)))


def read_support(value: Any, index: int, label: str | None = None) -> tuple[str, Sentence]:
    """Reads a labelled sentence.

    Args:
        value: As for :func:`read_input`, a mapping with ``relation``.
        index: Its place in the list of supports.
        label: The relation, if the list itself is one relation's; the sentence need not say it then.

    Returns:
        The label, and the sentence with its one pair.

    Raises:
        InvalidRowError: It isn't one, has no label or another, or hasn't one head and one tail.
    """
    sentence = read_input(value, "supports", index)
    row = sentence.row
    said = row.data.get("relation") or label
    if not isinstance(said, str):
        raise row.error("relation", "missing; expected the label of the relation, a string")
    check_text(row.file, row.row, relation=said)
    if label is not None and said != label:
        raise row.error("relation", f"it is {said!r}, in a list of {label!r}")
    if sentence.pairs is None or len(sentence.pairs) != 1:
        raise row.error("", "a support has one head and one tail, or marks around them")
    return said, sentence


def read_supports(supports: Any) -> tuple[list[str], list[Sentence]]:
    """Reads labelled sentences: a list of them, or for each relation a list.

    Returns:
        Of each its label, and its sentence.

    Raises:
        TkreError: It is neither, or a sentence is wrong.
    """
    lists = list(supports.items()) if isinstance(supports, Mapping) else [(None, supports)]
    given = []
    for label, rows in lists:
        if isinstance(rows, str | Mapping) or not isinstance(rows, Iterable):
            whose = "supports" if label is None else f"supports of {label!r}"
            raise TkreError(f"{whose}: expected a list of labelled sentences, found {shorten(rows)}")
        given += [(row, label) for row in rows]
    found = [read_support(value, i, label) for i, (value, label) in enumerate(given)]
    return [label for label, _ in found], [sentence for _, sentence in found]


def _entity(sentence: Sentence, name: str, value: Any) -> Entity:
    row, words = sentence.row, sentence.words
    type = row.data.get(f"{name}_type") or ""
    span = value
    if isinstance(value, Mapping):
        type = _type_of(value) or type
        # OpenNRE's own key; otherwise start and end.
        span = value["pos"] if "pos" in value else [value.get("start"), value.get("end")]
    if not isinstance(span, list | tuple) or len(span) != 2:
        raise row.error(name, f"expected [start, end], found {shorten(value)}")
    if not isinstance(type, str):
        raise row.error(f"{name}_type", f"expected a string, found {shorten(type)}")
    check_text(row.file, row.row, **{f"{name}_type": type})
    length, unit = (len(sentence.text), "characters") if words is None else (len(words), "words")
    start, end = span
    try:
        check_span(start, end, length, unit)
    except ValueError as error:
        raise row.error(name, str(error)) from None
    text = sentence.text[start:end] if words is None else " ".join(words[start:end])
    if not text.strip():
        raise row.error(name, f"the span [{start}, {end}) holds only white space")
    return Entity(start, end, text, type)


def _pair(row: RowView, name: str, head: Entity, tail: Entity) -> Pair:
    if (head.start, head.end) == (tail.start, tail.end):
        raise row.error(name, f"the head is the same span [{tail.start}, {tail.end})")
    return head, tail


def _type_of(entity: Mapping[str, Any]) -> str:
    return next((entity[name] for name in _TYPES if entity.get(name)), "")


def _read_marks(sentence: Sentence) -> Sentence:
    """Takes the marks out of the text; without any the entities are yet to be found."""
    row, marked = sentence.row, sentence.text
    parts: list[str] = []
    places: dict[tuple[int, bool], int] = {}
    length = last = 0
    for mark in _MARK.finditer(marked):
        parts.append(marked[last : mark.start()])
        length, last = length + len(parts[-1]), mark.end()
        key = (int(mark[2] or mark[4]), not (mark[1] or mark[3]))
        if key in places:
            raise row.error(_TEXT, f"the mark {mark[0]} stands there twice; {_EXPECTED}")
        places[key] = length
    if not places:
        return sentence
    text = "".join([*parts, marked[last:]])
    plain = replace(sentence, text=text)
    ends = []
    for number, role in enumerate(ROLES, 1):
        start, end = places.get((number, True)), places.get((number, False))
        if start is None or end is None or start >= end or not text[start:end].strip():
            raise row.error(_TEXT, f"the marks of the {role}, [E{number}] and [/E{number}], enclose no words")
        inside = text[start:end]
        edges = [start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())]
        ends.append(_entity(plain, role, edges))
    return replace(plain, pairs=(_pair(row, _TEXT, *ends),))
