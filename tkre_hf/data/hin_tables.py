"""A typed network's tables on disk: rows of CSV or Parquet whose every error says file, row and field."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from tkre_hf.errors import InvalidRowError, TkreError

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class Table:
    """Columns of text, and where their rows stand.

    Args:
        path: The file.
        columns: Each of pyarrow's type ``string``, without nulls.
    """

    path: Path
    columns: dict[str, pa.Array]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def error(self, row: int, field: str, reason: str) -> InvalidRowError:
        """The error of a row, counted from 0; a CSV file's is told by its line, a Parquet file's by its number."""
        where: int | str = row + 2 if self.path.suffix == ".csv" else str(row + 1)
        return InvalidRowError(self.path, where, field, reason)

    def value(self, row: int, field: str) -> str:
        return str(self.columns[field][row].as_py())

    def filled(self, field: str) -> pa.Array:
        """A column that must not have an empty cell.

        Raises:
            InvalidRowError: One is empty.
        """
        empty = np.flatnonzero(pc.equal(self.columns[field], "").to_numpy(zero_copy_only=False))
        if len(empty):
            raise self.error(int(empty[0]), field, "is empty")
        return self.columns[field]

    def numbered(self, field: str, values: pa.Array, what: str) -> NDArray[np.int64]:
        """The place of each cell of a column among known values.

        Raises:
            InvalidRowError: A cell is none of them; ``what`` says what they are.
        """
        found = pc.index_in(self.filled(field), value_set=values)
        if found.null_count:
            row = int(np.flatnonzero(pc.is_null(found).to_numpy(zero_copy_only=False))[0])
            raise self.error(row, field, f"{self.value(row, field)!r} is no {what}")
        return found.to_numpy(zero_copy_only=False).astype(np.int64)

    def encoded(self, field: str) -> tuple[NDArray[np.int64], list[str]]:
        """Numbers for a column's values, and the values, sorted (as numbers where all are whole numbers)."""
        values = sorted_names(pc.unique(self.filled(field)).to_pylist())
        return self.numbered(field, pa.array(values, pa.string()), field), values

    def unique(self, field: str, within: str | None = None) -> None:
        """Refuses a cell that stood in an earlier row already, or did with the same value in the column ``within``.

        Raises:
            InvalidRowError: It did; the error names that row.
        """
        cells: Sequence[Any] = self.columns[field].to_pylist()
        if within is not None:
            cells = list(zip(self.columns[within].to_pylist(), cells, strict=True))
        first: dict[Any, int] = {}
        for row, cell in enumerate(cells):
            if cell in first:
                other = self.error(first[cell], field, "").row
                where = f"line {other}" if isinstance(other, int) else f"row {other}"
                raise self.error(row, field, f"{self.value(row, field)!r} was used before, in {where}")
            first[cell] = row

    def floats(self, field: str) -> NDArray[np.float32]:
        """A column of numbers, with white space around them or without; NaN where a cell is empty.

        Raises:
            InvalidRowError: A cell is neither empty nor a finite number.
        """
        cells = pc.utf8_trim_whitespace(self.columns[field])
        empty = pc.equal(cells, "")
        try:
            # An empty cell has no number, and pyarrow casts no empty text.
            numbers = pc.if_else(empty, None, cells).cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            # Some cell is no number to pyarrow, which doesn't say where; "+1" is none to it either.
            numbers = np.array([_number(cell) for cell in cells.to_pylist()])
        out = numbers.astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(out) & ~empty.to_numpy(zero_copy_only=False))
        if len(wrong):
            row = int(wrong[0])
            raise self.error(row, field, f"expected a finite number or nothing, found {self.value(row, field)!r}")
        return out


def _number(cell: str) -> float:
    """What a cell says; NaN where it is no number, or one that only Python spells so: "1_0"."""
    try:
        return math.nan if "_" in cell else float(cell)
    except ValueError:
        return math.nan


def sorted_names(names: Sequence[str]) -> list[str]:
    """Names in ascending order: as numbers where all of them are whole numbers, else as text."""
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names)


def find_table(folder: Path, name: str) -> Path | None:
    """The file of a table, ``NAME.csv`` or ``NAME.parquet``, if the folder has one.

    Raises:
        TkreError: It has both.
    """
    found = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").exists()]
    if len(found) > 1:
        raise TkreError(f"{folder} holds {found[0].name} and {found[1].name}: keep the one that is meant")
    return found[0] if found else None


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] = (), prefix: str = "") -> Table:
    """Reads a table of CSV (UTF-8, a header line, one row a line) or Parquet.

    Args:
        path: The file; its suffix tells what it is.
        required: Columns that it must have.
        optional: Columns that it may have.
        prefix: Columns whose name begins so are read as well; "" none.

    Raises:
        InvalidRowError: A row has too few or too many cells, or a cell of a Parquet file is null.
        TkreError: There is no such file, it is of another format, or a column is missing, unknown or there twice.
    """
    try:
        table = _read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)
    except FileNotFoundError:
        raise TkreError(f"{path}: there is no such file") from None
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError, csv.Error) as error:
        raise TkreError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    names = table.column_names
    for name in required:
        if name not in names:
            raise TkreError(f"{path}: has no column {name!r}; found {', '.join(names) or 'none'}")
    for name in names:
        if names.count(name) > 1:
            raise TkreError(f"{path}: has the column {name!r} twice")
        if name not in {*required, *optional} and not (prefix and name.startswith(prefix)):
            known = [*required, *optional, *([f"{prefix}…"] if prefix else [])]
            raise TkreError(f"{path}: unknown column {name!r}; it may have {', '.join(known)}")
    columns = {}
    for name in names:
        column = table.column(name).combine_chunks()
        if column.null_count:
            row = int(np.flatnonzero(pc.is_null(column).to_numpy(zero_copy_only=False))[0])
            raise Table(path, {}).error(row, name, "is null")
        columns[name] = column.cast(pa.string())
    return Table(path, columns)


def _read_csv(path: Path) -> pa.Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), None)
    if header is None:
        raise TkreError(f"{path}: is empty; expected a header line")
    wrong: list[Any] = []

    def refuse(row: Any) -> str:
        wrong.append(row)
        return "error"

    try:
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            # Of a row that spans lines no line number could be told.
            parse_options=pyarrow.csv.ParseOptions(
                invalid_row_handler=refuse, newlines_in_values=False, ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        if not wrong:
            raise
        row = wrong[0]
        reason = f"has {row.actual_columns} cells, expected {row.expected_columns}: {row.text!r}"
        raise InvalidRowError(path, row.number, "", reason) from None


def write_table(path: Path, columns: dict[str, Sequence[str]]) -> None:
    """Writes columns of text, in the format that the path's suffix says.

    Raises:
        TkreError: A cell holds a line break, which a CSV file of one row a line can't.
    """
    table = pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
        return
    for name, cells in columns.items():
        for cell in cells:
            if "\n" in cell or "\r" in cell:
                raise TkreError(f"{path}: {name} {cell!r} has a line break; write Parquet instead")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
