"""Which answers become records: the checks, each with the reason it refuses for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
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
    script_of,
)
from tkre_hf.knowledge.duplicates import NearDuplicateIndex, similarity
from tkre_hf.knowledge.parse import Fragment
from tkre_hf.knowledge.prompts import Message, entity_of, sentence_of
from tkre_hf.knowledge.schema import Explanation, RelationSchema, Sample

REASONS = {
    "unparseable": "neither JSON nor known lines, or broken, cut off or nested too deep",
    "wrong_shape": "a field is missing or of the wrong kind",
    "wrong_relation": "the answer names another relation than was asked for",
    "surplus": "more samples than were asked for",
    "length": "too short or too long",
    "encoding": "control, replacement or mis-decoded characters",
    "language": "written in another script than the data",
    "instructions": "text that addresses a model or a reader of the prompt instead of being a sentence",
    "prompt_echo": "repeats the prompt",
    "label_leak": "names the relation's label",
    "head_not_in_text": "the head entity does not stand in the text",
    "tail_not_in_text": "the tail entity does not stand in the text",
    "same_entity": "head and tail are the same words",
    "overlap": "head and tail overlap wherever they stand",
    "type_not_allowed": "an entity type the relation's schema does not allow",
    "cues_not_in_sentence": "no cue is a quote from the sentence",
    "duplicate": "a copy of an accepted row",
    "near_duplicate": "almost a copy of an accepted row",
    "copy_of_demonstration": "a copy, or almost, of a labelled row",
    "copy_of_excluded": "a copy, or almost, of a row of a file given with --exclude",
    "low_consistency": "among those that express their relation worst, by the model's score",
}

# Each is (least, most), in characters; of entities also at most _ENTITY_WORDS words.
_CONTEXT, _EXPLANATION, _ENTITY = (15, 1200), (30, 2400), (1, 120)
_ENTITY_WORDS, _CUE_WORDS = 15, 15
_MOJIBAKE = re.compile("[ÃÂ][\u0080-\u00bf]|â€|ï»¿|ï¿½")
_INSTRUCTIONS = re.compile(
    r"<\|[^|<>\n]{0,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|```"
    r"|\b(?:ignore|disregard|forget) (?:all |any )?(?:of )?(?:the |your |my )?"
    r"(?:previous|prior|above|earlier|preceding)\b"
    r"|\bas an? (?:ai|artificial intelligence|large language model|language model)\b"
    r"|\bsystem prompt\b|\b(?:here are|below are) (?:\w+ )?(?:more |new )?samples\b|\bsure, here\b",
    re.I,
)
_QUOTED = re.compile(
    r"(?<!\w)'(.{2,120}?)'(?!\w)|\"([^\"]{2,120})\"|“([^”]{2,120})”|‘(.{2,120}?)’(?!\w)|«([^»]{2,120})»"
)
_DIRECTION = re.compile(r"\s*\(e[12],\s?e[12]\)$")
_ECHO_WORDS = 8


class Rejection(Exception):
    """A candidate that becomes no record.

    Args:
        reason: A key of ``REASONS``.
        detail: What exactly.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass
class TextChecks:
    """What any text must pass, whoever wrote it.

    Attributes:
        scripts: The scripts the data is written in, such as ``{"LATIN"}``; empty for any.
        echoes: Runs of eight words of the prompts, none of which may come back.
    """

    scripts: frozenset[str] = frozenset()
    echoes: frozenset[tuple[str, ...]] = frozenset()

    @classmethod
    def of(cls, texts: Iterable[str], prompts: Iterable[str]) -> TextChecks:
        """The checks for data like ``texts``, asked for with ``prompts`` (the messages' fixed parts)."""
        scripts = {script_of(char) for text in texts for char in set(text)} - {""}
        return cls(frozenset(scripts), frozenset(run for prompt in prompts for run in _word_runs(prompt)))

    def __call__(self, text: str, limits: tuple[int, int]) -> None:
        """Refuses a text as ``clean_text`` gives it.

        Raises:
            Rejection: ``length``, ``encoding``, ``language``, ``instructions`` or ``prompt_echo``.
        """
        check_encoding(text)
        least, most = limits
        if not least <= len(text) <= most:
            raise Rejection("length", f"{len(text)} characters, allowed are {least} to {most}")
        if self.scripts and not (text.isascii() and "LATIN" in self.scripts):
            letters = [script_of(char) for char in text if char.isalpha()]
            if letters and sum(script in self.scripts for script in letters) < 0.6 * len(letters):
                raise Rejection("language", f"letters of {', '.join(sorted(set(letters) - self.scripts))}")
        if match := _INSTRUCTIONS.search(text):
            raise Rejection("instructions", match[0])
        if not self.echoes.isdisjoint(_word_runs(text)):
            raise Rejection("prompt_echo")


def check_encoding(text: str) -> None:
    """Refuses characters that no text holds unless something went wrong on its way.

    Raises:
        Rejection: ``encoding``.
    """
    if text.isascii() and text.isprintable():
        return
    bad = [
        c for c in text if c == "\ufffd" or unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") and c not in "\n\t\r"
    ]
    if bad:
        raise Rejection("encoding", f"U+{ord(bad[0]):04X}")
    if match := _MOJIBAKE.search(text):
        raise Rejection("encoding", f"{match[0]!r} looks like UTF-8 read as another encoding")


def check_label(text: str, label: str) -> None:
    """Refuses a text that names a label; one of plain letters ("founder") is a word like any other.

    Raises:
        Rejection: ``label_leak``.
    """
    for name in _telltale(label):
        if find_mentions(text, name):
            raise Rejection("label_leak", name)


@lru_cache(maxsize=4096)
def _telltale(label: str) -> tuple[str, ...]:
    """What of a label is no word of the language: it as it is, and without its direction."""
    names = dict.fromkeys((label, _DIRECTION.sub("", label)))
    return tuple(name for name in names if not name.isalpha() and " " not in name)


def _word_runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", fold(text))
    return {tuple(words[i : i + _ECHO_WORDS]) for i in range(len(words) - _ECHO_WORDS + 1)}


def fixed_parts(messages: Iterable[Message]) -> list[str]:
    """The lines of a prompt, for ``TextChecks``."""
    return [line for message in messages for line in message["content"].splitlines()]


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
            if not _ENTITY[0] <= len(clean_text(entity)) <= _ENTITY[1] or len(entity.split()) > _ENTITY_WORDS:
                raise Rejection("length", f"entity of {len(entity)} characters and {len(entity.split())} words")
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
        return stated.strip()
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
        match = self.index.find(text)
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
