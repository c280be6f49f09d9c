"""Which answers become records: the checks, each with the reason it refuses for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from tkre_hf.data.schema import CharSpan, Record, check_span, make_record, tokenize_text
from tkre_hf.knowledge.align import (
    clean_text,
    find_mentions,
    find_quote,
    fold,
    gap,
    nearest_pair,
    not_inside,
)
from tkre_hf.knowledge.checks import (
    REASONS,
    Rejection,
    TextChecks,
    check_encoding,
    check_instructions,
    check_label,
    check_length,
    fixed_parts,
)
from tkre_hf.knowledge.duplicates import NearDuplicateIndex, similarity
from tkre_hf.knowledge.parse import Fragment
from tkre_hf.knowledge.prompts import entity_of, sentence_of
from tkre_hf.knowledge.schema import Explanation, RelationSchema, Sample

__all__ = [
    "REASONS",
    "ExplanationValidator",
    "Located",
    "Rejection",
    "SampleValidator",
    "TextChecks",
    "check_encoding",
    "check_label",
    "fixed_parts",
    "locate",
]

# Each is (least, most), in characters; of entities and types also at most _ENTITY_WORDS words.
_CONTEXT, _EXPLANATION, _ENTITY = (15, 1200), (30, 2400), (1, 120)
_TYPE = (0, _ENTITY[1])
_ENTITY_WORDS, _CUE_WORDS = 15, 15
_QUOTED = re.compile(
    r"(?<!\w)'(.{2,120}?)'(?!\w)|\"([^\"]{2,120})\"|“([^”]{2,120})”|‘(.{2,120}?)’(?!\w)|«([^»]{2,120})»"
)


def _shape(model: type[BaseModel], fields: Any) -> Any:
    if isinstance(fields, Fragment):
        raise Rejection("unparseable", fields.reason)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise Rejection("wrong_shape", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@dataclass
class Located:
    """A text as tokens, with two entities and any number of quotes in it; spans are token spans, end exclusive."""

    tokens: list[str]
    head: CharSpan
    tail: CharSpan
    head_mentions: list[CharSpan]
    tail_mentions: list[CharSpan]
    quotes: list[CharSpan] = field(default_factory=list)


def locate(text: str, head: str, tail: str, quotes: Sequence[str] = ()) -> Located:
    """Finds two entities in a text: every mention of each, and the pair that stands nearest to each other.

    Where one entity's words are part of the other's, they are a mention of their own only outside of it.

    Args:
        text: As ``clean_text`` gives it.
        head: The head entity's words. ``tail`` likewise.
        quotes: Words whose place in the text is wanted too; those not found are left out.

    Raises:
        Rejection: ``same_entity``, ``head_not_in_text``, ``tail_not_in_text`` or ``overlap``.
    """
    if fold(clean_text(head)) == fold(clean_text(tail)):
        raise Rejection("same_entity", head)
    heads, tails = find_mentions(text, head), find_mentions(text, tail)
    if not heads:
        raise Rejection("head_not_in_text", head)
    if not tails:
        raise Rejection("tail_not_in_text", tail)
    heads, tails = not_inside(heads, tails), not_inside(tails, heads)
    pair = nearest_pair(heads, tails)
    if pair is None:
        raise Rejection("overlap", f"{head} / {tail}")
    heads = [span for span in heads if gap(span, pair[1]) >= 0]
    tails = [span for span in tails if gap(span, pair[0]) >= 0]
    quoted = [span for quote in quotes for span in find_mentions(text, quote)]
    tokens, _, spans = tokenize_text(text, [*heads, *tails, *quoted])
    a, b = len(heads), len(heads) + len(tails)
    head_mentions, tail_mentions, found = spans[:a], spans[a:b], sorted(set(spans[b:]))
    nearest = head_mentions[heads.index(pair[0])], tail_mentions[tails.index(pair[1])]
    return Located(tokens, *nearest, head_mentions, tail_mentions, found)


class SampleValidator:
    """Turns the samples of an SCDG answer into records.

    Args:
        checks: What any text must pass.
        index: The texts that may not come again: demonstrations, excluded rows; accepted samples are added to it.
    """

    def __init__(self, checks: TextChecks, index: NearDuplicateIndex) -> None:
        self.checks, self.index = checks, index

    def remember(self, record: Record) -> None:
        """Takes a sample accepted earlier into account."""
        self.index.add(sentence_of(record), "sample")

    def __call__(self, fields: Any, schema: RelationSchema, id: str) -> tuple[Record, dict[str, Any]]:
        """Checks one sample.

        Args:
            fields: As the answer has them.
            schema: The relation that was asked for.
            id: The id of the record.

        Returns:
            The record, and what belongs to its provenance: ``head_mentions`` and ``tail_mentions``, token spans.

        Raises:
            Rejection: With one of ``REASONS``.
        """
        sample: Sample = _shape(Sample, fields)
        for text in (sample.context, sample.head_entity, sample.tail_entity, sample.head_type, sample.tail_type):
            check_encoding(text)
        stated = fold(clean_text(sample.relation))
        if stated and stated not in (fold(schema.relation), fold(schema.name)):
            raise Rejection("wrong_relation", sample.relation)
        context = clean_text(sample.context)
        self.checks(context, _CONTEXT)
        for entity in (sample.head_entity, sample.tail_entity):
            check_length(clean_text(entity), _ENTITY, _ENTITY_WORDS)
        check_label(context, schema.relation)
        head_type = _allowed_type(sample.head_type, schema.head_types)
        tail_type = _allowed_type(sample.tail_type, schema.tail_types)
        found = locate(context, sample.head_entity, sample.tail_entity)
        match = self.index.find_or_add(context, "sample")
        if match is not None:
            copy = "duplicate" if match.similarity == 1 else "near_duplicate"
            reason = copy if match.label == "sample" else f"copy_of_{match.label}"
            raise Rejection(reason, f"similarity {match.similarity:.2f}")
        record = make_record(
            id=id,
            tokens=found.tokens,
            head=found.head,
            tail=found.tail,
            relation=schema.relation,
            source="scdg",
            head_type=head_type,
            tail_type=tail_type,
        )
        return record, {"head_mentions": found.head_mentions, "tail_mentions": found.tail_mentions}


def _allowed_type(stated: str, allowed: Sequence[str]) -> str:
    def plain(name: str) -> str:
        return re.sub(r"[\s_-]+", "_", name.strip()).upper()

    if not allowed:
        # A type's name need not be in the data's language, but a name it must be.
        stated = clean_text(stated)
        check_length(stated, _TYPE, _ENTITY_WORDS)
        check_instructions(stated)
        return stated
    for name in allowed:
        if plain(name) == plain(stated):
            return name
    raise Rejection("type_not_allowed", f"{stated!r} is none of {', '.join(allowed)}")


class ExplanationValidator:
    """Turns an EDKG answer into a record, and quotes into cues of the labelled row.

    Args:
        checks: What any text must pass.
        index: The texts that may not come again: excluded rows; accepted explanations are added to it.
    """

    def __init__(self, checks: TextChecks, index: NearDuplicateIndex) -> None:
        self.checks, self.index = checks, index

    def remember(self, record: Record) -> None:
        """Takes an explanation accepted earlier into account."""
        self.index.add(sentence_of(record), "explanation")

    def __call__(self, fields: Any, gold: Record, id: str) -> tuple[Record, dict[str, Any]]:
        """Checks the explanation of one labelled row.

        The record's words are the explanation's; its head and tail are the nearest pair of mentions there, its cues
        the words it quotes from the sentence.

        Returns:
            The record, and what belongs to its provenance: ``gold_id``; ``gold_cues``, the token spans of the quotes
            in the labelled sentence; ``cues_dropped``, how many quotes were no usable words of it; ``head_mentions``
            and ``tail_mentions``.

        Raises:
            Rejection: With one of ``REASONS``.
        """
        answer: Explanation = _shape(Explanation, fields)
        for text in (answer.explanation, *(answer.cues or ())):
            check_encoding(text)
        text = clean_text(answer.explanation)
        self.checks(text, _EXPLANATION)
        check_label(text, gold["relation"])
        if similarity(text, sentence_of(gold)) >= self.index.threshold:
            raise Rejection("prompt_echo", "repeats the sentence")
        # Without a field for them, what the explanation puts between quotation marks are the quotes.
        quotes = answer.cues if answer.cues is not None else _quotations(text)
        cues = {quote: span for quote in quotes if (span := _cue(gold, quote)) is not None}
        if answer.cues is not None and not cues:
            raise Rejection("cues_not_in_sentence", "; ".join(answer.cues)[:200])
        found = locate(text, entity_of(gold, "head"), entity_of(gold, "tail"), list(cues))
        # A phrase of its own row is no copy of an excluded one that has it too.
        match = self.index.find(text, quoting=sentence_of(gold))
        if match is not None and match.label == "excluded":
            raise Rejection("copy_of_excluded", f"similarity {match.similarity:.2f}")
        if match is not None and match.similarity == 1:
            raise Rejection("duplicate")
        self.index.add(text, "explanation")
        record = make_record(
            id=id,
            tokens=found.tokens,
            head=found.head,
            tail=found.tail,
            relation=gold["relation"],
            cues=found.quotes,
            source="edkg",
            head_type=gold["head"]["type"],
            tail_type=gold["tail"]["type"],
            head_kb_id=gold["head"]["kb_id"],
            tail_kb_id=gold["tail"]["kb_id"],
        )
        return record, {
            "gold_id": gold["id"],
            "gold_cues": sorted(set(cues.values())),
            "cues_dropped": len(quotes) - len(cues),
            "head_mentions": found.head_mentions,
            "tail_mentions": found.tail_mentions,
        }


def _quotations(text: str) -> list[str]:
    return list(dict.fromkeys(next(filter(None, match.groups())) for match in _QUOTED.finditer(text)))


def _cue(gold: Record, quote: str) -> tuple[int, int] | None:
    """The place of a quote in a labelled sentence nearest to its entities; None where it is no usable cue."""
    head = (gold["head"]["start"], gold["head"]["end"])
    tail = (gold["tail"]["start"], gold["tail"]["end"])
    spans = [
        span
        for span in find_quote(gold["tokens"], quote)
        if span[1] - span[0] <= _CUE_WORDS and not any(e[0] <= span[0] and span[1] <= e[1] for e in (head, tail))
    ]
    for span in spans:
        check_span(*span, len(gold["tokens"]))
    return min(spans, key=lambda span: (max(gap(span, head), 0) + max(gap(span, tail), 0), span), default=None)
