"""Which words an answer rests on: each is left out in turn, and what that costs the answer is what the word did."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tkre_hf.errors import TkreError

from .inputs import Entity, Sentence, read_input
from .pipeline import RelationExtractionPipeline
from .words import MARK, plain_marks

# A word with its inner hyphens, apostrophes and points, as in "mother-in-law" and "U.S"; or one sign of punctuation.
_LETTERS = rf"\w[\w{MARK}]*"
_WORD = re.compile(rf"{_LETTERS}(?:[-'’.]{_LETTERS})*|[^\w\s]")


@dataclass(frozen=True)
class WordEffect:
    """What one word does for an answer.

    Args:
        start: Of its span in the text.
        end: Exclusive.
        text: The word.
        effect: The answer's score less what it is without the word; below zero where the word speaks against it.
    """

    start: int
    end: int
    text: str
    effect: float


def word_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of a text's words and signs of punctuation."""
    return [match.span() for match in _WORD.finditer(plain_marks(text))]


def word_effects(
    pipe: RelationExtractionPipeline, sentence: Any, limit: int = 64, batch_size: int = 32
) -> tuple[list[dict[str, Any]], list[WordEffect]]:
    """Extracts the relation of one pair, and says which words it rests on.

    The effect of a word is measured by occlusion (Zeiler and Fergus, 2014): the sentence is scored again without it.

    Args:
        pipe: The pipeline, which knows its relations.
        sentence: A text with one head and one tail, as the pipeline takes it.
        limit: How many words are left out at most: those nearest to the entities. It bounds the cost.
        batch_size: Sentences encoded at once.

    Returns:
        The pipeline's result with all relations, the best first; and the effect of each word on the best one's score,
        in the order of the text. The entities' own words and punctuation are left out of neither.

    Raises:
        TkreError: The sentence is given as words, or has not exactly one head and one tail.
    """
    read = read_input(sentence, "inputs", 0)
    if read.words is not None:
        raise TkreError("give a text, of which words can be left out, not a list of words")
    if read.pairs is None or len(read.pairs) != 1:
        raise TkreError("give one head and one tail: an answer about one pair is explained")
    (pair,) = read.pairs
    spans = [
        (start, end)
        for start, end in word_spans(read.text)
        if read.text[start].isalnum() and not any(start < entity.end and entity.start < end for entity in pair)
    ]
    nearest = sorted(spans, key=lambda span: min(_distance(span, entity) for entity in pair))[:limit]
    result = pipe(read, top_k=None)
    best = result[0]
    effects = []
    shorter = pipe([_without(read, span) for span in nearest], top_k=None, batch_size=batch_size)
    for (start, end), found in zip(nearest, shorter, strict=True):
        (score,) = (entry["score"] for entry in found if entry["relation"] == best["relation"])
        effects.append(WordEffect(start, end, read.text[start:end], best["score"] - score))
    return result, sorted(effects, key=lambda effect: effect.start)


def _distance(span: tuple[int, int], entity: Entity) -> int:
    return max(entity.start - span[1], span[0] - entity.end)


def _without(sentence: Sentence, span: tuple[int, int]) -> dict[str, Any]:
    """The sentence less one word, which lies outside of both entities."""
    start, end = span
    assert sentence.pairs is not None
    ends = {}
    for role, entity in zip(("head", "tail"), sentence.pairs[0], strict=True):
        shift = end - start if entity.start >= end else 0
        ends[role] = {"start": entity.start - shift, "end": entity.end - shift, "type": entity.type}
    return {"text": sentence.text[:start] + sentence.text[end:], **ends}
