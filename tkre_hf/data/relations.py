"""What is known of a relation besides its label: a name, a description and, where someone wrote them, more words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tkre_hf.data.reading import RowView, UniqueIds, read_bytes, read_json, read_json_lines, shorten
from tkre_hf.data.schema import check_text
from tkre_hf.errors import InvalidRowError


@dataclass(frozen=True)
class RelationInfo:
    """What is known of one relation.

    Args:
        name: A short name, such as "crosses".
        description: One sentence; empty where there is none.
        explanation: Which words express it, and what it is easily mistaken for; may be empty.
        head_types: Types that its head may have, such as ``"PERSON"``; may be empty. ``tail_types`` likewise.
        verbalizations: Templates with ``{head}`` and ``{tail}``; may be empty.
    """

    name: str
    description: str = ""
    explanation: str = ""
    head_types: tuple[str, ...] = ()
    tail_types: tuple[str, ...] = ()
    verbalizations: tuple[str, ...] = ()

    @classmethod
    def from_label(cls, label: str) -> RelationInfo:
        """All that a label itself says: its words, underscores read as spaces."""
        return cls(name=label.replace("_", " "))

    def check(self, label: Any, file: str | Path = "<memory>") -> None:
        """Refuses what a model can't read, or a file can't keep.

        Args:
            label: The relation's.
            file: What errors call the place where it was said.

        Raises:
            InvalidRowError: The label is no string or empty, name or description is no string, or one is no text.
        """
        if not isinstance(label, str) or not label.strip():
            raise InvalidRowError(file, shorten(label), "relation", "expected a label, a string that is not empty")
        for field, value in (("relation", label), ("name", self.name), ("description", self.description)):
            if not isinstance(value, str):
                raise InvalidRowError(file, label, field, f"expected a string, found {shorten(value)}")
            check_text(file, label, **{field: value})


def read_relation_info(path: str | Path, relations: Iterable[str] | None = None) -> dict[str, RelationInfo]:
    """Reads relation names and descriptions.

    Args:
        path: FewRel's ``pid2name.json`` (``{label: [name, description]}``); or JSON lines (``.jsonl``) with
            ``relation`` and optionally the fields of :class:`RelationInfo`; or the same as YAML, a list of such rows
            or a mapping from label to fields. Without a name, the label's own words are the name.
        relations: The labels wanted; one without an entry gets its own words as its name. Without it: every entry.

    Raises:
        InvalidRowError: An entry is wrong; names the line or label, and the field.
        TkreError: There is no such file.
    """
    suffixes = Path(path).suffixes
    if ".jsonl" in suffixes:
        info = _read_rows(read_json_lines(path))
    elif ".yaml" in suffixes or ".yml" in suffixes:
        info = _read_rows(_yaml_rows(path))
    else:
        info = _read_pid2name(path)
    return info if relations is None else complete_relation_info(relations, info)


def complete_relation_info(relations: Iterable[str], info: Mapping[str, RelationInfo]) -> dict[str, RelationInfo]:
    """One entry for each of ``relations``; where ``info`` has none, the label's own words are the name."""
    return {label: info.get(label) or RelationInfo.from_label(label) for label in relations}


def _read_pid2name(path: str | Path) -> dict[str, RelationInfo]:
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise InvalidRowError(path, 1, "", "expected an object of label: [name, description]")
    for label, entry in entries.items():
        if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)):
            raise InvalidRowError(path, label, "", f"expected [name, description], found {entry!r}")
        RelationInfo(*entry).check(label, path)
    return {label: RelationInfo(name, description) for label, (name, description) in entries.items()}


def _read_rows(rows: Iterable[RowView | InvalidRowError]) -> dict[str, RelationInfo]:
    info: dict[str, RelationInfo] = {}
    labels = UniqueIds("relation")
    for row in rows:
        if isinstance(row, InvalidRowError):
            raise row
        for field in ("relation", "name", "description"):
            check_text(row.file, row.row, **{field: row.get(field, str, default="")})
        label = row.get("relation", str)
        labels.check(label, row.file, row.row)
        info[label] = RelationInfo(
            name=row.get("name", str, default="") or RelationInfo.from_label(label).name,
            description=row.get("description", str, default=""),
            explanation=row.get("explanation", str, default=""),
            head_types=_strings(row, "head_types"),
            tail_types=_strings(row, "tail_types"),
            verbalizations=_strings(row, "verbalizations"),
        )
    return info


class _TwiceError(yaml.YAMLError):
    def __init__(self, key: str, line: int) -> None:
        super().__init__(key)
        self.key, self.line = key, line


class _UniqueKeys(yaml.SafeLoader):
    """YAML forbids a key twice, but the library keeps the last: the first one would be gone without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise _TwiceError(key.value, key.start_mark.line + 1)
                seen.add((key.tag, key.value))
        return node


def _yaml_rows(path: str | Path) -> Iterator[RowView]:
    try:
        data = yaml.load(read_bytes(path), _UniqueKeys)
    except _TwiceError as error:
        raise InvalidRowError(path, error.line, error.key, "stands twice in one mapping") from None
    except yaml.YAMLError as error:
        raise InvalidRowError(path, 1, "", f"broken YAML: {' '.join(str(error).split())}") from None
    if isinstance(data, dict):
        for label, fields in data.items():
            if not isinstance(fields, dict | None):
                raise InvalidRowError(path, str(label), "", f"expected the relation's fields, found {fields!r}")
        data = [{"relation": label, **(fields or {})} for label, fields in data.items()]
    if not isinstance(data, list):
        raise InvalidRowError(path, 1, "", "expected a list of relations, or a mapping from label to fields")
    for i, fields in enumerate(data):
        if not isinstance(fields, dict):
            raise InvalidRowError(path, f"[{i}]", "", f"expected a relation's fields, found {fields!r}")
        yield RowView(path, f"[{i}]", fields)


def _strings(row: RowView, field: str) -> tuple[str, ...]:
    values = row.get(field, list, default=[])
    if not all(isinstance(value, str) for value in values):
        raise row.error(field, "expected a list of strings")
    return tuple(values)
