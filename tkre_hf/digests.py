"""Digests of settings and of files' contents, by which what was made of the same is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tkre_hf.data.reading import file_sha256
from tkre_hf.hub.facts import OF_WEIGHTS
from tkre_hf.hub.folder import FILES_AT_HOME
from tkre_hf.hub.marks import CARD, CARD_BESIDE

# What is said of a checkpoint or taught to it afterwards, and is no part of it.
_NOT_CONTENT = frozenset((CARD, CARD_BESIDE, *OF_WEIGHTS))


def digest(entries: Any) -> str:
    """Of anything that JSON has a form for, or a text; the order of a mapping's keys counts for nothing."""
    text = json.dumps(entries, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def by_content(settings: Mapping[str, Any], named: Iterable[str]) -> dict[str, Any]:
    """Settings with files' names replaced by digests of what is in them."""
    found = dict(settings)
    for key in named:
        value = found.get(key)
        if value:
            files = [value] if isinstance(value, str) else value
            found[key] = [file_digest(Path(file)) for file in files]
    return found


def _is_content(name: str) -> bool:
    return name not in _NOT_CONTENT and not FILES_AT_HOME.fullmatch(name)


def file_digest(path: Path) -> str:
    """Of a file's content, or a folder's files; of a name that is neither (a Hub id, a published data set), itself.

    A checkpoint with another card, other figures or other relations beside it is the same checkpoint.
    """
    if path.is_file():
        return file_sha256(path)
    if path.is_dir():
        files = sorted(file for file in path.glob("*") if file.is_file() and _is_content(file.name))
        return digest([(file.name, file_sha256(file)) for file in files])
    return str(path)
