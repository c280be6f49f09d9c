"""Pickles under other names: in archives, as ``torch.save`` writes them, and in NumPy's files."""

from __future__ import annotations

import ast
import re
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

# A pickle's first bytes, from protocol 2 on.
PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NUMPY = b"\x93NUMPY"
# No header of an array is as long.
_LONGEST = 2**20


def pickle_in(path: Path) -> str:
    """Says what of a file runs code when it is loaded: an archive's member, or an array of Python objects.

    Args:
        path: The file, whatever its name.

    Returns:
        What stands after the file's name in a sentence; empty where there is nothing of the kind.
    """
    with path.open("rb") as stream:
        if found := _array(stream):
            return found
        if not zipfile.is_zipfile(stream):
            return ""
        try:
            with zipfile.ZipFile(stream) as archive:
                for member in archive.infolist():
                    if found := _member(archive, member):
                        return found
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError):
            # Damaged, encrypted, or packed as Python can't unpack it.
            return "is an archive that can't be looked into"
    return ""


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    holds = f"holds {member.filename}, "
    if member.filename.lower().endswith((".pkl", ".pickle")):
        return f"{holds}a pickle, as torch.save writes it under any name"
    with archive.open(member) as stream:
        if PICKLE.match(stream.read(2)):
            return f"{holds}a pickle"
    with archive.open(member) as stream:
        found = _array(stream)
    return f"{holds}which {found}" if found else ""


def _array(stream: IO[bytes]) -> str:
    """What is wrong with a NumPy file, by its header; the stream may be left anywhere."""
    if stream.read(len(_NUMPY)) != _NUMPY:
        return ""
    major = int.from_bytes(stream.read(2)[:1], "little")
    length = int.from_bytes(stream.read(2 if major == 1 else 4), "little")
    try:
        if length > _LONGEST:
            raise ValueError
        header = ast.literal_eval(stream.read(length).decode("utf-8" if major > 2 else "latin-1"))
        dtype = np.lib.format.descr_to_dtype(header["descr"])
    except (ValueError, SyntaxError, KeyError, TypeError, IndexError, RecursionError, MemoryError):
        return "is a NumPy array whose header can't be read"
    return "is a NumPy array of Python objects, which are pickled" if dtype.hasobject else ""
