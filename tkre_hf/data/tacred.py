"""TACRED in the LDC's JSON, and its two revisions: TACREV and Re-TACRED, patches of its labels.

Sources: Zhang et al., "Position-aware Attention and Supervised Data Improve Slot Filling", EMNLP 2017 (LDC2018T24);
Alt et al., "TACRED Revisited: A Thorough Evaluation of the TACRED Relation Extraction Task", ACL 2020; Stoica et al.,
"Re-TACRED: Addressing Shortcomings of the TACRED Dataset", AAAI 2021.

A file is one JSON list of rows, a row being ``{"id", "relation", "token": [words], "subj_start", "subj_end",
"obj_start", "obj_end", "subj_type", "obj_type"}`` and more that is not read (document, parts of speech, parse). Its
ends are inclusive; a record's are exclusive. The subject is the head, the object the tail, and brackets, which the LDC
writes as the Penn Treebank does (``-LRB-``), are characters again.

A patch is read in its publisher's form. TACREV's, of ``dev.json`` and ``test.json``, is a list of
``{"id", "relation"}`` and changes the rows it names. Re-TACRED's, of all three, is an object of id to label and drops
the rows it does not name. A patch that names a row which is not there is of other data, and an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tkre_hf.data.builder import PublishedConfig, RecordsBuilder
from tkre_hf.data.reading import RowView, UniqueIds, read_json, record_or_error, shorten
from tkre_hf.data.schema import CharSpan, Record
from tkre_hf.errors import InvalidRowError, TkreError

logger = logging.getLogger(__name__)

NA_LABEL = "no_relation"
FILES = {"train": "data/json/train.json", "validation": "data/json/dev.json", "test": "data/json/test.json"}
PUBLISHER = (
    "TACRED is LDC2018T24, licensed by the LDC at https://catalog.ldc.upenn.edu/LDC2018T24; give as data_dir the "
    "folder with its data/json/train.json, dev.json and test.json, or the folder that holds these three themselves"
)
# The Penn Treebank's names of brackets. Its quotes (`` and '') are words of the text like any others, and stay.
BRACKETS = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "-lcb-": "{", "-rcb-": "}"}


@dataclass
class TacredConfig(PublishedConfig):
    """Which labels to read.

    Args:
        patch_files: The patch of each split that has one; all of them lie in ``data_dir``.
        patch_url: Where their publisher has them.
        drop_unpatched: Whether a patch drops the rows that it does not name.
    """

    split_files: dict[str, str] = field(default_factory=lambda: dict(FILES))
    publisher: str = PUBLISHER
    patch_files: dict[str, str] = field(default_factory=dict)
    patch_url: str = ""
    drop_unpatched: bool = False

    def source_files(self) -> dict[str, list[Path]]:
        if self.patch_files and self.data_files:
            raise TkreError(f"{self.name} takes no data_files but a data_dir, with its patches and TACRED's own files")
        return super().source_files()

    def side_files(self) -> list[Path]:
        return list(self.patches().values())

    def patches(self) -> dict[Path, Path]:
        """The patch of each data file that has one.

        Raises:
            TkreError: A split is there and its patch is not.
        """
        found: dict[Path, Path] = {}
        for split, files in self.source_files().items():
            name = self.patch_files.get(split)
            if name is None:
                continue
            patch = Path(str(self.data_dir), name)
            if not patch.is_file():
                raise TkreError(f"{self.data_dir} lacks {name}, a patch of {self.name}: get it from {self.patch_url}")
            found |= {file: patch for file in files}
        return found


class Tacred(RecordsBuilder):
    """TACRED as records: ``head`` is the subject, ``tail`` the object, ``type`` as in the file, ``id`` the LDC's.

    Configurations: ``tacred`` (the LDC's labels), ``tacrev`` (those of ``dev_patch.json`` and ``test_patch.json``
    where they name a row; training data as they are) and ``retacred`` (those of ``train_id2label.json``,
    ``dev_id2label.json`` and ``test_id2label.json``; other rows are dropped, as their publisher's script does). The
    class without a relation is ``no_relation``.

    Example::

        builder = Tacred(config_name="retacred", data_dir="tacred")
        builder.download_and_prepare()
        validation = builder.as_dataset("validation")
    """

    VERSION = "1.0.0"
    BUILDER_CONFIG_CLASS = TacredConfig
    BUILDER_CONFIGS = [
        TacredConfig(name="tacred"),
        TacredConfig(
            name="tacrev",
            patch_files={"validation": "dev_patch.json", "test": "test_patch.json"},
            patch_url="https://github.com/DFKI-NLP/tacrev (folder patch)",
        ),
        TacredConfig(
            name="retacred",
            patch_files={
                "train": "train_id2label.json",
                "validation": "dev_id2label.json",
                "test": "test_id2label.json",
            },
            patch_url="https://github.com/gstoica27/Re-TACRED (folder Re-TACRED)",
            drop_unpatched=True,
        ),
    ]
    config: TacredConfig

    def read(self, path: Path, ids: UniqueIds) -> Iterator[Record | InvalidRowError]:
        rows = list(_rows(path, read_json(path), "rows, as TACRED's files are"))
        patch_file = self.config.patches().get(path)
        patch = read_patch(patch_file) if patch_file else {}
        known = {id for row in rows if (id := _id(row)) is not None}
        for id, entry in patch.items():
            if id not in known:
                yield entry.error("id", f"{path} has no row with the id {id!r}: the patch is of other data")
        dropped = known - patch.keys() if self.config.drop_unpatched else set[str]()
        if dropped:
            logger.info("%s: %d rows are not in %s and dropped", path, len(dropped), patch_file)
        labels = {id: entry.data["relation"] for id, entry in patch.items()}
        parse = partial(parse_row, labels=labels)
        for row in rows:
            if _id(row) not in dropped:
                yield record_or_error(row, parse, ids)


def parse_row(row: RowView, labels: dict[str, str] | None = None) -> Record:
    """Turns a row of TACRED's format into a record.

    Args:
        row: The row.
        labels: Labels in place of the row's own, by id.

    Raises:
        InvalidRowError: A field is missing or wrong.
    """
    id = row.get("id", str)
    tokens = [restore_bracket(word) for word in row.get("token", list)]
    return row.record(
        {"tokens": "token", "head": "subj_start", "tail": "obj_start"},
        id=id,
        tokens=tokens,
        head=exclusive_span(row, "subj", len(tokens)),
        tail=exclusive_span(row, "obj", len(tokens)),
        relation=(labels or {}).get(id) or row.get("relation", str),
        head_type=row.get("subj_type", str),
        tail_type=row.get("obj_type", str),
    )


def exclusive_span(row: RowView, entity: str, length: int) -> CharSpan:
    """The token span ``[start, end)`` of an entity whose row gives its first word and its last.

    Args:
        row: The row.
        entity: ``subj`` or ``obj``.
        length: How many words the row has.

    Raises:
        InvalidRowError: A word's number is none, or lies outside the row, or the last word stands before the first.
    """
    fields = f"{entity}_start", f"{entity}_end"
    for name in fields:
        position = row.get(name, int)
        if isinstance(position, bool):
            raise row.error(name, f"expected a whole number, found {shorten(position)}")
        if not 0 <= position < length:
            raise row.error(name, f"there is no word {position}: the row has {length}, counted from 0")
    first, last = (row.get(name, int) for name in fields)
    if last < first:
        raise row.error(fields[1], f"the last word, {last}, stands before the first, {first}")
    return first, last + 1


def restore_bracket(word: Any) -> Any:
    """The bracket that the Penn Treebank's name stands for; any other word as it is."""
    return BRACKETS.get(word.lower(), word) if isinstance(word, str) else word


def read_patch(path: Path) -> dict[str, RowView]:
    """Reads a patch of TACRED's labels in either publisher's form.

    Returns:
        For each id its row, of which ``data["relation"]`` is the label.

    Raises:
        InvalidRowError: An entry is wrong, or gives an id that another one has given another label.
    """
    data = read_json(path)
    entries: Iterable[RowView | InvalidRowError]
    if isinstance(data, dict):
        entries = (RowView(path, id, {"id": id, "relation": label}) for id, label in data.items())
    else:
        entries = _rows(path, data, '{"id", "relation"} (TACREV), or an object of id: label (Re-TACRED)')
    patch: dict[str, RowView] = {}
    for row in entries:
        if isinstance(row, InvalidRowError):
            raise row
        id, label = row.get("id", str), row.get("relation", str)
        if not label:
            raise row.error("relation", "expected the relation's label, a non-empty string")
        if extra := sorted(set(row.data) - {"id", "relation"}):
            raise row.error(extra[0], "a patch gives a row's relation and nothing else")
        if patch.setdefault(id, row).data["relation"] != label:
            raise row.error("relation", f"{id!r} has another label in row {patch[id].row}")
    return patch


def _rows(path: Path, data: Any, what: str) -> Iterator[RowView | InvalidRowError]:
    if not isinstance(data, list):
        raise InvalidRowError(path, 1, "", f"expected a list of {what}, found {shorten(data)}")
    for number, fields in enumerate(data):
        if not isinstance(fields, dict):
            yield InvalidRowError(path, f"[{number}]", "", f"expected an object, found {shorten(fields)}")
        else:
            row = RowView(path, f"[{number}]", fields)
            # A file is one long line, so that its number alone would not help anybody to find the row.
            id = _id(row)
            yield row if id is None else replace(row, row=f"[{number}] {id}")


def _id(row: RowView | InvalidRowError) -> str | None:
    id = row.data.get("id") if isinstance(row, RowView) else None
    return id if isinstance(id, str) else None
