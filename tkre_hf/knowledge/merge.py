"""Gold rows, explanations and samples as one training set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tkre_hf.data.reading import read_json_lines, shorten
from tkre_hf.data.schema import Record
from tkre_hf.errors import InvalidRowError
from tkre_hf.knowledge.journal import write_atomically
from tkre_hf.knowledge.tasks import group_by_relation

# What a record's provenance has to tell, by the record's source: explanations' and samples'.
_TOLD: dict[str, set[str]] = {"edkg": {"gold_id", "gold_cues"}, "scdg": set()}


def read_rows(path: str | Path, source: str | None = None) -> list[dict[str, Any]]:
    """Reads generated records with their provenance, as a run's ``records.jsonl`` holds them.

    Args:
        path: The file.
        source: ``edkg`` where they are to be explanations, ``scdg`` for samples; they may be both by default.

    Raises:
        InvalidRowError: A line is no record of such a run.
        TkreError: There is no such file.
    """
    rows = []
    for row in read_json_lines(path):
        if isinstance(row, InvalidRowError):
            raise row
        if not {"id", "tokens", "head", "tail", "relation", "provenance"} <= row.data.keys():
            raise row.error("", "no generated record: expected a line of a run's records.jsonl")
        if source is not None:
            found, provenance = row.data.get("source"), row.data["provenance"]
            if found != source:
                raise row.error("source", f"expected {source}, found {shorten(found)}: is it another kind of run's?")
            if not isinstance(provenance, dict) or not _TOLD[source] <= provenance.keys():
                raise row.error("provenance", f"expected {' and '.join(sorted(_TOLD[source])) or 'a mapping'}")
        rows.append(row.data)
    return rows


def merge_records(
    gold: Iterable[Record],
    explanations: Iterable[dict[str, Any]] = (),
    samples: Iterable[dict[str, Any]] = (),
    *,
    add_k: int | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Puts gold rows, their explanations and synthetic samples together.

    A gold row without cues gets those that its explanation quotes from it.

    Args:
        gold: Labelled records.
        explanations: Rows of EDKG runs over them; one that is there twice, by its id, counts once.
        samples: Rows of SCDG runs; a sample that is there twice, by its id, counts once.
        add_k: The most samples that are added to a relation; None for all.
        seed: Of the choice of these, which depends neither on the samples' order nor on other relations.

    Returns:
        The records, gold ones first, then explanations, then samples by relation; each with a ``provenance``: the
        run's own, or for a gold row the id of the explanation that gave it cues, if one did.

    Raises:
        ValueError: An explanation is of a row that is not among ``gold``.
    """
    rows = [{**record, "provenance": {}} for record in gold]
    by_id = {row["id"]: row for row in rows}
    told = {explanation["id"]: explanation for explanation in explanations}
    for explanation in told.values():
        provenance = explanation["provenance"]
        row = by_id.get(provenance["gold_id"])
        if row is None or row["relation"] != explanation["relation"]:
            raise ValueError(
                f"the explanation {explanation['id']} is of the row {provenance['gold_id']!r} "
                f"({explanation['relation']}), which is not among the gold rows: are these the right files?"
            )
        if not row["cues"] and provenance["gold_cues"]:
            row["cues"] = [{"start": start, "end": end} for start, end in provenance["gold_cues"]]
            row["provenance"] = {"cues_from": explanation["id"]}
    rows += told.values()
    unique = {sample["id"]: sample for sample in samples}
    for relation, members in sorted(group_by_relation(unique.values()).items()):
        members.sort(key=lambda row: row["id"])
        order = np.random.default_rng([seed, *relation.encode()]).permutation(len(members))
        rows += [members[i] for i in order[:add_k]]
    return rows


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows as JSON lines, all or none; ``load_records`` reads them, provenance aside."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def count_sources(rows: Iterable[dict[str, Any]]) -> Counter[str]:
    """How many rows there are of each source, and how many gold rows have cues (``gold with cues``)."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row["source"]] += 1
        counts["gold with cues"] += row["source"] == "gold" and bool(row["cues"])
    return counts
