"""How much a training set has in common with a test set: copies, near-duplicates, and phrases of several words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tkre_hf.knowledge.align import fold
from tkre_hf.knowledge.duplicates import NearDuplicateIndex


@dataclass(frozen=True)
class Overlap:
    """What rows share with the rows that they should not repeat.

    Args:
        rows: How many were looked at.
        copies: Those whose text is one of the others', case, spaces and punctuation aside.
        near_duplicates: Those as similar to one as the threshold says, copies among them.
        phrases: Those that share a phrase of so many words with one.
    """

    rows: int
    copies: int
    near_duplicates: int
    phrases: int


def find_overlap(
    rows: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]], threshold: float = 0.5, words: int = 8
) -> Overlap:
    """Compares rows with others by their words alone; see :class:`Overlap`.

    Args:
        rows: Such as synthetic ones. See ``tkre_hf.data.schema``.
        others: Such as a test set.
        threshold: Jaccard similarity of five-letter shingles from which on two texts are near-duplicates.
        words: Of a phrase.
    """
    index = NearDuplicateIndex(threshold)
    phrases: set[tuple[str, ...]] = set()
    for row in others:
        index.add(" ".join(row["tokens"]), "other")
        phrases |= _phrases(row["tokens"], words)
    count = copies = near = shared = 0
    for row in rows:
        match = index.find(" ".join(row["tokens"]))
        count += 1
        copies += match is not None and match.similarity >= 1
        near += match is not None
        shared += not phrases.isdisjoint(_phrases(row["tokens"], words))
    return Overlap(count, copies, near, shared)


def _phrases(tokens: Iterable[str], words: int) -> set[tuple[str, ...]]:
    folded = [word for word in (fold(token) for token in tokens) if any(map(str.isalnum, word))]
    return {tuple(folded[i : i + words]) for i in range(len(folded) - words + 1)}
