"""Whose a card is: what wrote it leaves a mark, and what a person edited isn't written over."""

from __future__ import annotations

import logging
import re
from hashlib import sha256
from pathlib import Path

from tkre_hf.errors import TkreError
from tkre_hf.knowledge.journal import write_atomically

logger = logging.getLogger(__name__)

CARD, CARD_BESIDE = "README.md", "README.generated.md"

# The last line of a card that nobody has edited: the digest is that of all the rest.
_MARK = re.compile(r"\n<!-- written by tkre_hf, (?P<digest>[0-9a-f]{64}); [^\n]* -->\s*\Z")
_MARK_TEXT = "\n<!-- written by tkre_hf, {digest}; once a person edits this card, it isn't written over -->\n"


def marked(text: str) -> str:
    """A card with the mark by which it is known again as long as nobody edits it."""
    text = text.rstrip() + "\n"
    return text + _MARK_TEXT.format(digest=_digest(text))


def unmarked(text: str) -> str:
    """A card without its mark."""
    return _MARK.sub("", text)


def is_edited(text: str) -> bool:
    """Whether a person wrote a card, or changed it since it was written here."""
    text = text.replace("\r\n", "\n")
    found = _MARK.search(text)
    return found is None or _digest(text[: found.start()]) != found["digest"]


def card_text(folder: Path) -> str | None:
    """The card in a folder; ``None`` where there is none.

    Raises:
        TkreError: It is no text.
    """
    path = folder / CARD
    return read_text(path) if path.is_file() else None


def read_text(path: Path) -> str:
    """A card's text.

    Raises:
        TkreError: It is no text.
    """
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise TkreError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None


def write_text(folder: Path, text: str) -> Path:
    """Writes a card's text, or beside the one that a person edited; says which.

    Raises:
        TkreError: A person edited the one beside it too.
    """
    path = folder / CARD
    if _is_a_persons(path):
        path = folder / CARD_BESIDE
        if _is_a_persons(path):
            raise TkreError(
                f"{folder / CARD} and {path.name} beside it were both edited by a person and stay: rename or delete "
                f"{path.name}, and the new card is written there"
            )
        logger.warning(
            "%s was written or edited by a person and stays; the new card is %s beside it", folder / CARD, path.name
        )
    write_atomically(path, text)
    return path


def _is_a_persons(path: Path) -> bool:
    # What is no UTF-8 was not written here.
    return path.exists() and is_edited(path.read_text("utf-8", errors="replace"))


def _digest(text: str) -> str:
    return sha256(text.rstrip().encode()).hexdigest()
