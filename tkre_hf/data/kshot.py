"""K labelled rows for each relation: a draw that is a function of the seed and the rows' ids, and its manifest.

Source: the K-shot setting of Gao et al., "Making Pre-trained Language Models Better Few-shot Learners", ACL 2021, as
KnowPrompt (Chen et al., WWW 2022) and TKRE have it for relations: K rows for each relation, the class without a
relation being one of them.

A row's rank is a digest of the seed and its id, and a relation's rows are its K lowest. So the draw does not depend on
the order of the rows, on other relations or on a library's random numbers; and with the same seed, K = 8 is a part of
K = 16. Where ids are lines, as in files that have none, another order is another draw.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from tkre_hf.data.episodes import list_short
from tkre_hf.data.load import load_records
from tkre_hf.data.reading import RowView, UniqueIds, read_json, shorten
from tkre_hf.errors import InvalidRowError, TkreError

logger = logging.getLogger(__name__)

_FIELDS = ("k", "seed", "source", "keep_whole", "rows")


@dataclass(frozen=True)
class KShotManifest:
    """Which rows a K-shot split is made of, so that anybody who has the data has the split.

    Args:
        k: Rows for each relation.
        seed: Of the draw.
        rows: The ids of each relation's rows.
        source: What they are ids of, for the reader, such as ``tacred:tacrev, train``.
        keep_whole: The class without a relation, if all its rows were taken.
        file: Where the manifest was read, for errors.
    """

    k: int
    seed: int
    rows: Mapping[str, tuple[str, ...]]
    source: str = ""
    keep_whole: str | None = None
    file: str = field(default="<memory>", compare=False)

    @property
    def ids(self) -> list[str]:
        """All ids, relation by relation."""
        return [id for ids in self.rows.values() for id in ids]

    @property
    def short(self) -> dict[str, int]:
        """The relations that have fewer than K rows, and how many they have."""
        return {relation: len(ids) for relation, ids in self.rows.items() if len(ids) < self.k}

    def select(self, records: Dataset) -> Dataset:
        """The rows themselves, in the manifest's order.

        Args:
            records: The data that the manifest was made of, in any order, and with any more rows.

        Raises:
            InvalidRowError: A row is not there, or has another relation there.
        """
        ids, relations = list(records["id"]), list(records["relation"])
        place = {id: i for i, id in enumerate(ids)}
        places = []
        for relation, chosen in self.rows.items():
            for id in chosen:
                if id not in place:
                    raise InvalidRowError(self.file, relation, "rows", f"the data have no row {id!r}")
                if relations[place[id]] != relation:
                    reason = f"the data have {id!r} as {relations[place[id]]!r}"
                    raise InvalidRowError(self.file, relation, "rows", reason)
                places.append(place[id])
        return records.select(places)

    def write(self, path: str | Path) -> None:
        """Writes the manifest as JSON."""
        data = {name: getattr(self, name) for name in _FIELDS}
        Path(path).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> KShotManifest:
        """Reads a manifest.

        Raises:
            InvalidRowError: A field is missing or wrong, an id stands twice, or a relation has more than K rows.
            TkreError: There is no such file.
        """
        data = read_json(path)
        if not isinstance(data, dict):
            raise InvalidRowError(path, 1, "", f"expected an object of {', '.join(_FIELDS)}, found {shorten(data)}")
        view = RowView(path, 1, data)
        if unknown := sorted(set(data) - set(_FIELDS)):
            raise view.error(unknown[0], f"a manifest has no such field, but {', '.join(_FIELDS)}")
        k, seed = view.get("k", int), view.get("seed", int)
        keep_whole: str | None = view.get("keep_whole", str, default=None)
        ids = UniqueIds("rows")
        for relation, chosen in view.get("rows", dict).items():
            row = RowView(path, relation, data)
            if not isinstance(chosen, list) or not all(isinstance(id, str) for id in chosen):
                raise row.error("rows", f"expected a list of ids, found {shorten(chosen)}")
            if len(chosen) > k and relation != keep_whole:
                raise row.error("rows", f"there are {len(chosen)} ids, but k is {k}")
            for id in chosen:
                ids.check(id, path, relation)
        rows = {relation: tuple(chosen) for relation, chosen in data["rows"].items()}
        return cls(k, seed, rows, view.get("source", str, default=""), keep_whole, str(path))


def draw_kshot(
    records: Dataset,
    k: int,
    seed: int,
    *,
    keep_whole: str | None = None,
    allow_fewer: bool = False,
    exclude: Iterable[str] = (),
    source: str = "",
) -> KShotManifest:
    """Draws K rows of each relation, the class without a relation being one like the others.

    Args:
        records: Rows with ``id`` and ``relation``; no id twice.
        k: Rows for each relation, at least 1.
        seed: Any whole number; another one draws other rows.
        keep_whole: The class without a relation, to take all its rows.
        allow_fewer: Let a relation that has fewer rows give all it has, with a warning that lists such relations.
        exclude: Ids of rows not to draw, such as those of the training part when a validation part is drawn.
        source: What the ids are ids of, for the manifest.

    Returns:
        The manifest; relations are sorted, and a relation's rows in the order of the draw.

    Raises:
        TkreError: A relation has fewer than K rows, an id stands twice, or one of the settings names what isn't there.
    """
    if k < 1:
        raise TkreError(f"k must be at least 1, not {k}")
    ids, relations = list(records["id"]), list(records["relation"])
    id, count = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if count > 1:
        raise TkreError(f"{count} rows have the id {id!r}: a draw needs ids that are unique")
    if keep_whole is not None and keep_whole not in relations:
        raise TkreError(f"keep_whole is {keep_whole!r}, but no row has this relation")
    excluded = set(exclude)
    if strangers := sorted(excluded.difference(ids)):
        raise TkreError(f"exclude names {strangers[0]!r}, but no row has this id")

    ranked: dict[str, list[tuple[bytes, str]]] = {relation: [] for relation in sorted(set(relations))}
    for id, relation in zip(ids, relations, strict=True):
        if id not in excluded:
            ranked[relation].append((_rank(seed, id), id))
    rows = {}
    for relation, ranks in ranked.items():
        chosen = sorted(ranks)
        rows[relation] = tuple(id for _, id in (chosen if relation == keep_whole else chosen[:k]))
    manifest = KShotManifest(k, seed, rows, source, keep_whole)
    short = [(relation, n) for relation, n in manifest.short.items() if relation != keep_whole]
    if short:
        reason = f"each relation needs {k} rows, but {list_short(short)}"
        if not allow_fewer:
            raise TkreError(f"{reason}; allow_fewer takes all they have")
        logger.warning("%s: all they have are taken", reason)
    return manifest


def load_kshot_split(folder: str | Path, k: int, seed: int) -> Dataset:
    """Loads a published K-shot split, ``kshot/{k}-{seed}/train.txt``, as it is.

    Args:
        folder: The data set's folder, which holds ``kshot``.
        k: Rows for each relation.
        seed: Of the split.

    Raises:
        InvalidRowError: A row is wrong.
        TkreError: There is no such split.
    """
    path = Path(folder, "kshot", f"{k}-{seed}", "train.txt")
    if not path.is_file():
        there = sorted(file.parent.name for file in Path(folder, "kshot").glob("*/train.txt"))
        raise TkreError(f"{path}: there is no such split; {', '.join(there) or 'none'} are there")
    return load_records(path)


def find_kshot(split: Dataset, records: Dataset, k: int, seed: int, *, source: str = "") -> KShotManifest:
    """The manifest of a split that somebody else drew, whose rows have the ids of another file.

    Args:
        split: The split; a row is found by its words, spans and relation.
        records: The data that it was drawn from.
        k: Rows for each relation.
        seed: Of the split.
        source: What the ids are ids of.

    Raises:
        TkreError: A row of the split is not in the data, or not as often as in the split.
    """
    places: dict[Any, list[str]] = defaultdict(list)
    for record in records:
        places[_content(record)].append(record["id"])
    rows: dict[str, list[str]] = {relation: [] for relation in sorted(set(split["relation"]))}
    for record in split:
        found = places[_content(record)]
        if not found:
            words = " ".join(record["tokens"][:8])
            raise TkreError(f"row {record['id']!r} of the split ({words} ...) is not in the data")
        rows[record["relation"]].append(found.pop(0))
    return KShotManifest(k, seed, {relation: tuple(ids) for relation, ids in rows.items()}, source)


def _rank(seed: int, id: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{id}".encode()).digest()


def _content(record: Mapping[str, Any]) -> tuple[Any, ...]:
    spans = [(record[side]["start"], record[side]["end"]) for side in ("head", "tail")]
    return (*record["tokens"], *spans, record["relation"])
