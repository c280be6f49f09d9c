"""What any text must pass, whoever wrote it: characters, script, length, and not speaking of its own prompt."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tkre_hf.knowledge.align import find_mentions, fold, script_of, written_in
from tkre_hf.knowledge.prompts import Message

REASONS = {
    "unparseable": "neither JSON nor known lines, or broken, cut off or nested too deep",
    "wrong_shape": "a field is missing or of the wrong kind",
    "wrong_relation": "the answer names another relation than was asked for",
    "surplus": "more samples than were asked for",
    "length": "too short or too long",
    "encoding": "control, invisible, replacement or mis-decoded characters",
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
    "not_encodable": "the checkpoint of --consistency can't read it: it has no mark for an entity, or no room",
    "low_consistency": "among those that express their relation worst, by the model's score",
}

# A script with a smaller share of the data's letters is not what the data is written in: a name, a quotation.
_SCRIPT_SHARE = 0.01
# What shows nothing and can hide or turn round what a reader sees: zero-width characters, bidirectional embeddings,
# overrides and isolates, tags. Marks of direction (U+200E, U+200F) and joiners have their places in some scripts.
_INVISIBLE = re.compile("[\u200b\u2060-\u2064\u206a-\u206f\ufeff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_JOINED_SCRIPTS = frozenset(
    ("ARABIC", "SYRIAC", "MANDAIC", "NKO", "ADLAM", "MONGOLIAN", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI")
    + ("ORIYA", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "TIBETAN", "MYANMAR", "KHMER", "BALINESE")
)
# Emoji are joined to each other, after a skin tone (Sk) or a variation selector (Mn) too.
_EMOJI_PARTS = ("So", "Sk", "Mn")
_MOJIBAKE = re.compile("[ÃÂ][\u0080-\u00bf]|â€|ï»¿|ï¿½")
_INSTRUCTIONS = re.compile(
    r"<\|[^|<>\n]{0,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|```"
    r"|\b(?:(?:ignore|disregard|forget) (?:all |any )?(?:of )?(?:the |your |my )?"
    r"(?:previous|prior|above|earlier|preceding)"
    r"|as an? (?:ai|artificial intelligence|large language model|language model)"
    r"|system prompt|(?:here are|below are) (?:\w+ )?(?:more |new )?samples|sure, here)\b",
    re.I,
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
        chars: Counter[str] = Counter()
        for text in texts:
            chars.update(text)
        letters: Counter[str] = Counter()
        for char, count in chars.items():
            letters[script_of(char)] += count
        del letters[""]
        scripts = {script for script, count in letters.items() if count >= _SCRIPT_SHARE * letters.total()}
        return cls(frozenset(scripts), frozenset(run for prompt in prompts for run in _word_runs(prompt)))

    def __call__(self, text: str, limits: tuple[int, int]) -> None:
        """Refuses a text as ``clean_text`` gives it.

        Raises:
            Rejection: ``length``, ``encoding``, ``language``, ``instructions`` or ``prompt_echo``.
        """
        check_encoding(text)
        check_length(text, limits)
        if self.scripts and not (text.isascii() and "LATIN" in self.scripts):
            letters = [script_of(char) for char in text if char.isalpha()]
            if letters and sum(script in self.scripts for script in letters) < 0.6 * len(letters):
                raise Rejection("language", f"letters of {', '.join(sorted(set(letters) - self.scripts))}")
        check_instructions(text)
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
    bad += _INVISIBLE.findall(text)
    bad += [
        char
        for at, char in enumerate(text)
        if char in "\u200c\u200d" and not _joins(text[max(at - 1, 0) : at], text[at + 1 : at + 2])
    ]
    if bad:
        raise Rejection("encoding", f"U+{ord(bad[0]):04X}")
    if match := _MOJIBAKE.search(text):
        raise Rejection("encoding", f"{match[0]!r} looks like UTF-8 read as another encoding")


def check_length(text: str, limits: tuple[int, int], most_words: int | None = None) -> None:
    """Refuses a text that has too few or too many characters, or too many words.

    Raises:
        Rejection: ``length``.
    """
    least, most = limits
    if not least <= len(text) <= most:
        raise Rejection("length", f"{len(text)} characters, allowed are {least} to {most}")
    if most_words is not None and (words := len(text.split())) > most_words:
        raise Rejection("length", f"{words} words, allowed are {most_words}")


def check_instructions(text: str) -> None:
    """Refuses a text with a chat template's marks, or that speaks to a model or of its prompt.

    Raises:
        Rejection: ``instructions``.
    """
    if match := _INSTRUCTIONS.search(text):
        raise Rejection("instructions", match[0])


def _joins(left: str, right: str) -> bool:
    """Whether a joiner has something to do: in scripts whose letters change by their neighbours, and in emoji."""
    if left and written_in(left) in _JOINED_SCRIPTS:
        return True
    return bool(left and right) and unicodedata.category(right) == "So" and unicodedata.category(left) in _EMOJI_PARTS


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
