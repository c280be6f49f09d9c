"""Reading data files row by row: where every wrong row gets its file, line and field, and may be skipped and counted.

A reader yields, for each row, the record or the error that stands in its place, so that it can go on after a wrong
row; :func:`checked` then either raises the first error or collects them all.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from tkre_hf.data.schema import CharSpan, Record, make_record
from tkre_hf.errors import InvalidRowError, TkreError

T = TypeVar("T")

_KINDS: dict[type, str] = {int: "a whole number", str: "a string", list: "a list", dict: "an object"}
_REQUIRED: Any = object()
_BOM = b"\xef\xbb\xbf"


@dataclass
class SkippedRows:
    """The rows that were left out because they were wrong, in the order of the files.

    Args:
        errors: One error for each row, each with its file, row, field and reason.
    """

    errors: list[InvalidRowError] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.errors)

    def __iter__(self) -> Iterator[InvalidRowError]:
        return iter(self.errors)

    def summary(self, limit: int = 10) -> str:
        """Says how many rows were skipped and lists the first ``limit`` of them, one a line."""
        lines = [f"skipped {len(self)} wrong {'row' if len(self) == 1 else 'rows'}"]
        lines += [f"  {error}" for error in self.errors[:limit]]
        if len(self) > limit:
            lines.append(f"  ... and {len(self) - limit} more")
        return "\n".join(lines)

    def to_json(self) -> str:
        return json.dumps([[e.file, e.row, e.field, e.reason] for e in self.errors], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> SkippedRows:
        return cls([InvalidRowError(*parts) for parts in json.loads(text)])


def checked(rows: Iterable[Record | InvalidRowError], skipped: SkippedRows | None = None) -> Iterator[Record]:
    """Passes the records on; a wrong row's error is raised, or collected in ``skipped``.

    Args:
        rows: What a reader yields: for each row its record, or the error that stands in its place.
        skipped: Takes the errors; without it the first one is raised.

    Raises:
        InvalidRowError: A row is wrong and ``skipped`` is None.
    """
    for row in rows:
        if not isinstance(row, InvalidRowError):
            yield row
        elif skipped is None:
            raise row
        else:
            skipped.errors.append(row)


class UniqueIds:
    """Refuses an id that was used before, naming the row that used it.

    Args:
        field: What the rows call it.
    """

    def __init__(self, field: str = "id") -> None:
        self._field = field
        self._first: dict[str, str] = {}

    def check(self, id: str, file: str | Path, row: int | str) -> None:
        """Raises an InvalidRowError if ``id`` came before, in this file or another."""
        where = f"line {row}" if isinstance(row, int) else f"row {row}"
        if id in self._first:
            raise InvalidRowError(file, row, self._field, f"{id!r} was used before, in {self._first[id]}")
        self._first[id] = f"{file}, {where}"


@dataclass(frozen=True)
class RowView:
    """One parsed row together with where it stands, so that every complaint about it says so.

    Args:
        file: The file the row stands in.
        row: Its line, counted from 1, or its key.
        data: The row's fields.
    """

    file: str | Path
    row: int | str
    data: dict[str, Any]

    def error(self, field: str, reason: str) -> InvalidRowError:
        return InvalidRowError(self.file, self.row, field, reason)

    def get(self, field: str, kind: type[T], default: Any = _REQUIRED) -> T:
        """The value at a dotted path such as ``h.pos``; null counts as absent.

        Raises:
            InvalidRowError: It is absent and there is no default, or it is not of this kind.
        """
        value: Any = self.data
        seen: list[str] = []
        for key in field.split("."):
            if not isinstance(value, dict):
                raise self.error(".".join(seen), f"expected an object, found {shorten(value)}")
            seen.append(key)
            value = value.get(key)
            if value is None:
                if default is not _REQUIRED:
                    return default
                raise self.error(".".join(seen), f"missing; expected {_KINDS[kind]}")
        if not isinstance(value, kind):
            raise self.error(field, f"expected {_KINDS[kind]}, found {shorten(value)}")
        return value

    def span(self, field: str) -> CharSpan:
        """The span ``[start, end]`` at a dotted path; whether it fits its sentence is for the caller to check."""
        edges = self.get(field, list)
        if len(edges) != 2:
            raise self.error(field, f"expected [start, end], found {shorten(edges)}")
        return edges[0], edges[1]

    def record(self, names: Mapping[str, str], **fields: Any) -> Record:
        """A record of ``fields``, as ``make_record`` checks it.

        Args:
            names: What the row calls those of a record's fields that it calls otherwise; errors use its names.

        Raises:
            InvalidRowError: A field is wrong.
        """
        try:
            return make_record(**fields, file=self.file, row=self.row)
        except InvalidRowError as error:
            raise self.error(names.get(error.field, error.field), error.reason) from None


def record_or_error(
    row: RowView | InvalidRowError, parse: Callable[[RowView], Record], ids: UniqueIds
) -> Record | InvalidRowError:
    """A row's record, or the error that stands in its place.

    Args:
        row: The row, or what is wrong with it already.
        parse: Turns a row into a record, or raises an InvalidRowError.
        ids: Refuses the record's id if an earlier row has it.
    """
    if isinstance(row, InvalidRowError):
        return row
    try:
        record = parse(row)
        ids.check(record["id"], row.file, row.row)
    except InvalidRowError as error:
        return error
    return record


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file, unpacked if its name ends in ``.gz``; a byte order mark at its beginning is dropped.

    Raises:
        TkreError: There is no such file, or it cannot be read.
    """
    with _opened(path) as file:
        return file.read().removeprefix(_BOM)


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, packed ones as they lie there.

    Raises:
        TkreError: There is no such file, or it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise TkreError(f"{path}: there is no such file") from None
    except OSError as error:
        raise TkreError(f"{path}: cannot be read: {error}") from error


@contextmanager
def _opened(path: str | Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The open file, unpacked if its name ends in ``.gz``; what can't be opened or read is a TkreError."""
    try:
        file: IO[bytes] | gzip.GzipFile = gzip.open(path) if Path(path).suffix == ".gz" else Path(path).open("rb")
        with file:
            yield file
    except FileNotFoundError:
        raise TkreError(f"{path}: there is no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise TkreError(f"{path}: cannot be read: {error}") from error


def read_json(path: str | Path) -> Any:
    """Reads a file that is one JSON value.

    Raises:
        InvalidRowError: It is not UTF-8 or not JSON, naming the line; such a file has no rows to skip.
    """
    raw = read_bytes(path)
    try:
        return _parse(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidRowError(path, raw.count(b"\n", 0, error.start) + 1, "", _not_utf8(error)) from None
    except json.JSONDecodeError as error:
        raise InvalidRowError(path, error.lineno, "", _broken(error)) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRowError(path, 1, "", f"broken JSON: {error}") from None


def read_json_lines(path: str | Path) -> Iterator[RowView | InvalidRowError]:
    """Reads a file that holds one JSON object a line, as the lines are asked for; blank ones don't count as rows.

    Yields:
        For each line its row, or the error that stands in its place.

    Raises:
        TkreError: There is no such file, or it cannot be read, which a packed one may tell only at its end.
    """
    with closing(_lines(path)) as lines:
        yield from parse_json_lines(lines, path)


def _lines(path: str | Path) -> Generator[bytes, None, None]:
    with _opened(path) as file:
        yield from file


def parse_json_lines(lines: Iterable[bytes], file: str | Path) -> Iterator[RowView | InvalidRowError]:
    """Reads lines that hold one JSON object each as they come, such as those of the standard input.

    Args:
        lines: With their ends or without; blank ones don't count as rows, nor does a byte order mark before the first.
        file: What errors call their source.

    Yields:
        For each line its row, or the error that stands in its place.
    """
    for line, raw in enumerate(lines, 1):
        if line == 1:
            raw = raw.removeprefix(_BOM)
        if not raw.strip():
            continue
        try:
            # With its end an error at the end would stand in the next line.
            data = _parse(decode(file, line, raw.removesuffix(b"\n")))
        except InvalidRowError as error:
            yield error
        except json.JSONDecodeError as error:
            yield InvalidRowError(file, line, "", _broken(error))
        except (ValueError, RecursionError) as error:
            yield InvalidRowError(file, line, "", f"broken JSON: {error}")
        else:
            if isinstance(data, dict):
                yield RowView(file, line, data)
            else:
                yield InvalidRowError(file, line, "", f"expected a JSON object, found {shorten(data)}")


def decode(file: str | Path, row: int | str, raw: bytes) -> str:
    """The text of a row.

    Raises:
        InvalidRowError: It is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRowError(file, row, "", _not_utf8(error)) from None


def shorten(value: Any, limit: int = 60) -> str:
    """A value as it is shown in an error."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON allows a key twice and Python keeps the last one: the rows of the first would be gone without a word.
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return data


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start}; save the file as UTF-8"


def _broken(error: json.JSONDecodeError) -> str:
    return f"broken JSON: {error.msg} (column {error.colno})"
