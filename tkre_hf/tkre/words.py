"""Which words a text has: one rule for the records that models are trained on and for what a model is asked.

Copied beside a checkpoint with ``processing_tkre.py``, so it imports nothing but Python's own.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

# Stands for any combining mark, which Python's patterns have no class for: half a surrogate pair, which no text has.
MARK = "\udc80"
_JOINERS = "\u200c\u200d"
# A word with its marks, or one character that is neither a word's nor white space: "12%" is "12", "%".
_WORD = re.compile(rf"\w[\w{MARK}]*|[^\w\s]")
_MAYBE_MARK = re.compile(r"[^\w\s!-~]")


def split_text(
    text: str, spans: Sequence[Sequence[int]] = ()
) -> tuple[list[str], list[tuple[int, int]], list[tuple[int, int]]]:
    """Splits a text into words and signs of punctuation, and cuts words at the spans' edges.

    A letter keeps the marks that combine with it, and the joiners after it: "दिल्ली" is one word.

    Args:
        text: Any text.
        spans: Character spans inside it, end exclusive.

    Returns:
        The words, each word's character span, and for each of ``spans`` its span in words.

    Raises:
        ValueError: A span holds only white space.
    """
    plain = plain_marks(text)
    cuts = sorted({0, len(text), *(edge for span in spans for edge in span)})
    offsets = [match.span() for left, right in pairwise(cuts) for match in _WORD.finditer(plain, left, right)]
    starts = [start for start, _ in offsets]
    word_spans = []
    for start, end in spans:
        first, last = bisect_left(starts, start), bisect_left(starts, end)
        if first == last:
            raise ValueError(f"the span [{start}, {end}) holds only white space")
        word_spans.append((first, last))
    return [text[start:end] for start, end in offsets], offsets, word_spans


def plain_marks(text: str) -> str:
    """A text of the same length whose combining marks, and joiners, are all ``MARK``, for patterns to match."""
    return text if text.isascii() else _MAYBE_MARK.sub(_stand_in, text)


def _stand_in(match: re.Match[str]) -> str:
    char = match[0]
    return MARK if char in _JOINERS or unicodedata.category(char).startswith("M") else char
