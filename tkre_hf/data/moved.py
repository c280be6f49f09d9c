"""Pairs without a relation from sentences that have one: an entity's mark is moved to another noun.

K rows and as many samples show little of what no relation looks like, and a classifier then finds one everywhere. In a
labelled sentence most other pairs of nouns stand in no relation, or in none of those asked for: such pairs are free.
Some do stand in one, so they are noise as well; how many do best is measured in docs/results/kshot.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from datasets import Dataset

from tkre_hf.data.schema import RECORD_FEATURES, Record
from tkre_hf.errors import TkreError

_ROLES = ("head", "tail")
_SHORTEST = 3


def move_marks(records: Iterable[Mapping[str, Any]], na_label: str, count: int, seed: int = 0) -> list[Record]:
    """Makes rows without a relation by moving head or tail, one of them, to another word.

    A word that is an entity in some row counts as a noun, so no tagger is needed. Which of head and tail comes first
    in the sentence stays as it was, or the order would tell the made rows from the others.

    Args:
        records: Labelled rows, with or without a relation.
        na_label: The label that the rows get.
        count: The most rows made.
        seed: Of the choice among all that can be made; it depends on the records' ids, not on their order.

    Returns:
        At most ``count`` rows; fewer where there are no more nouns.
    """
    rows = list(records)
    nouns = {row["tokens"][row[role]["end"] - 1].casefold() for row in rows for role in _ROLES}
    nouns = {noun for noun in nouns if len(noun) >= _SHORTEST and noun.isalpha()}
    made: list[tuple[bytes, Record]] = []
    for row in rows:
        taken = {i for role in _ROLES for i in range(row[role]["start"], row[role]["end"])}
        places = [i for i, token in enumerate(row["tokens"]) if i not in taken and token.casefold() in nouns]
        for i in places:
            for role in _ROLES:
                entity = {**row[role], "start": i, "end": i + 1, "name": row["tokens"][i], "type": "", "kb_id": ""}
                record: Any = {**row, role: entity, "relation": na_label, "cues": []}
                record["id"] = f"{row['id']}-{role}-{i}"
                if _head_first(record) == _head_first(row):
                    rank = hashlib.sha256(f"{seed}\n{record['id']}".encode()).digest()
                    made.append((rank, {name: record[name] for name in RECORD_FEATURES}))
    made.sort(key=lambda pair: pair[0])
    return [record for _, record in made[:count]]


def with_moved_marks(records: Dataset, na_label: str | None, count: int, seed: int = 0) -> Dataset:
    """Records, and after them rows without a relation made of them (:func:`move_marks`).

    Raises:
        TkreError: There is no label for them.
    """
    if na_label is None:
        raise TkreError("moved_marks makes rows without a relation: say with na_label which label they get")
    made = move_marks(records, na_label, count, seed)
    rows = [*records, *made]
    return Dataset.from_dict({name: [row[name] for row in rows] for name in RECORD_FEATURES}, RECORD_FEATURES)


def _head_first(row: Mapping[str, Any]) -> bool:
    return bool(row["head"]["start"] < row["tail"]["start"])
