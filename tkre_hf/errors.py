"""The errors a user can cause: one clear sentence each, printed by the command line without a traceback."""

from __future__ import annotations

from pathlib import Path


class TkreError(Exception):
    """Something the user can mend; its message says what and how."""


class InvalidRowError(TkreError, ValueError):
    """A row of a data file breaks the format.

    Args:
        file: The file the row stands in.
        row: Its place in the file: a line number, counted from 1, or a key such as ``P177[3]``.
        field: The field that is wrong, such as ``head.end``; empty when the whole row is.
        reason: What is wrong, and what was expected.
    """

    def __init__(self, file: str | Path, row: int | str, field: str, reason: str) -> None:
        self.file, self.field, self.reason = _printable(str(file)), _printable(field), _printable(reason)
        self.row = _printable(row) if isinstance(row, str) else row
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"line {self.row}" if isinstance(self.row, int) else f"row {self.row}"
        field = f", field '{self.field}'" if self.field else ""
        return f"{self.file}, {where}{field}: {self.reason}"

    def __reduce__(self) -> tuple[type[InvalidRowError], tuple[str, int | str, str, str]]:
        return type(self), (self.file, self.row, self.field, self.reason)


def _printable(text: str) -> str:
    """Half a surrogate pair, which a wrong row may hold, as its escape: it can be neither printed nor written."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
