"""Where an entity or a quote stands in a text: every mention, by position, however the answer spelled its case.

Matching ignores case, the kind of white space and the kind of quotation mark or dash, and nothing else; what it
returns are positions in the text as it stands.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from tkre_hf.data.schema import CharSpan

_PLAIN = str.maketrans("‘’‛ʼ“”„‟«»‐‑‒–—―\u00a0", '\'\'\'\'""""""------ ')
# Scripts written without spaces, where a mention may touch the next word.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "HANGUL")


def clean_text(text: str) -> str:
    """The text in Unicode's composed form (NFC), each run of white space one space, none at the ends."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def fold(text: str) -> str:
    """The text in lower case with plain quotes and dashes, as many characters long as it was."""
    if text.isascii() or (text := text.translate(_PLAIN)).isascii():
        return text.lower()
    # A few letters have a lower case of two characters ("İ"): they stay, so that positions do.
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


@lru_cache(maxsize=4096)
def written_in(char: str) -> str:
    """The first word of a character's Unicode name: of a letter or a sign of a script the script, as ``LATIN``."""
    return unicodedata.name(char, "UNKNOWN").split(" ")[0].split("-")[0]


def script_of(char: str) -> str:
    """The script of a letter, such as ``LATIN``; "" for anything else."""
    return written_in(char) if char.isalpha() else ""


def _extends(char: str) -> bool:
    """Whether a character belongs to the one before it: vowel signs, accents, and joiners of letters."""
    return unicodedata.category(char)[0] == "M" or char in "\u200c\u200d"


def _unspaced(char: str) -> bool:
    return (written_in(char) if _extends(char) else script_of(char)) in _UNSPACED


def _same_word(left: str, right: str) -> bool:
    if _extends(right):
        return True
    if not (right.isalnum() or right == "_") or not (left.isalnum() or left == "_" or _extends(left)):
        return False
    return not (_unspaced(left) or _unspaced(right))


def find_mentions(text: str, entity: str) -> list[CharSpan]:
    """Every place where an entity stands in a text as whole words.

    Args:
        text: A text as ``clean_text`` gives it.
        entity: The entity's words; case, white space and kinds of quotes and dashes do not matter.

    Returns:
        Character spans ``(start, end)``, end exclusive, in order, not overlapping each other; empty if there is none.
    """
    entity = clean_text(entity)
    if not entity:
        return []
    haystack, needle = fold(text), fold(entity)
    spans, start = [], haystack.find(needle)
    while start >= 0:
        end = start + len(needle)
        inside_word = (start > 0 and _same_word(text[start - 1], text[start])) or (
            end < len(text) and _same_word(text[end - 1], text[end])
        )
        if not inside_word:
            spans.append((start, end))
        start = haystack.find(needle, start + 1 if inside_word else end)
    return spans


def gap(left: CharSpan, right: CharSpan) -> int:
    """How far two spans lie apart; negative where they overlap."""
    return max(left[0], right[0]) - min(left[1], right[1])


def not_inside(spans: Sequence[CharSpan], others: Sequence[CharSpan]) -> list[CharSpan]:
    """The spans that lie within none of the others: the "York" of a "New York" is no mention of York."""
    return [span for span in spans if not any(other[0] <= span[0] and span[1] <= other[1] for other in others)]


def nearest_pair(heads: Sequence[CharSpan], tails: Sequence[CharSpan]) -> tuple[CharSpan, CharSpan] | None:
    """The head mention and the tail mention that stand nearest to each other, the first such pair in reading order.

    Returns:
        None when every head mention overlaps every tail mention.
    """
    apart = [(gap(head, tail), head, tail) for head in heads for tail in tails if gap(head, tail) >= 0]
    if not apart:
        return None
    _, head, tail = min(apart)
    return head, tail


def find_quote(tokens: Sequence[str], quote: str) -> list[tuple[int, int]]:
    """Every place where a quotation stands in a tokenised sentence, however the two were tokenised.

    White space is left out of the comparison ("do n't" is "don't"), and the quote must begin and end with whole
    tokens; a quote's own final punctuation may be missing from the sentence.

    Args:
        tokens: The sentence's words.
        quote: The words quoted.

    Returns:
        Token spans, end exclusive, in order; empty when the sentence doesn't hold the quote.
    """
    folded = [fold("".join(token.split())) for token in tokens]
    sentence = "".join(folded)
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    position = 0
    for i, token in enumerate(folded):
        if token:
            starts[position] = i
            position += len(token)
            ends[position] = i + 1
    whole = fold("".join(unicodedata.normalize("NFC", quote).split()))
    for needle in dict.fromkeys((whole, whole.rstrip(".,;:!?"), whole.strip(".,;:!?'\" "))):
        spans, at = [], sentence.find(needle) if needle else -1
        while at >= 0:
            if at in starts and at + len(needle) in ends:
                spans.append((starts[at], ends[at + len(needle)]))
            at = sentence.find(needle, at + 1)
        if spans:
            return spans
    return []
