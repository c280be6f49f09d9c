"""Builds the bundled corpus anew: ``python -m tkre_hf.data.sample --data-dir DIR``."""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tkre_hf.data.jsonl import parse_row
from tkre_hf.data.reading import read_json_lines
from tkre_hf.data.relations import RelationInfo, read_relation_info
from tkre_hf.data.sample import SAMPLE_DIR, SAMPLE_RELATIONS, SAMPLE_SPLITS
from tkre_hf.data.schema import Record
from tkre_hf.errors import InvalidRowError, TkreError

SOURCES = {
    "train": Path("wikidata_synthetic", "samples.jsonl"),
    "validation": Path("fewrel", "knowledge", "val_wiki_synthetic.jsonl"),
}
RELATION_NAMES = Path("fewrel", "pid2name.json")


def build_sample(data_dir: Path, output_dir: Path = SAMPLE_DIR) -> None:
    """Writes the corpus's records and its relations' names and descriptions.

    Args:
        data_dir: Holds ``SOURCES`` and ``RELATION_NAMES``.
        output_dir: Takes ``train.jsonl.gz``, ``validation.jsonl.gz`` and ``relations.jsonl``.

    Raises:
        TkreError: A file is missing, a row is wrong, or a relation stands in both splits or has no description.
    """
    splits = {split: _read_samples(data_dir / source) for split, source in SOURCES.items()}
    labels = {split: {record["relation"] for record in records} for split, records in splits.items()}
    if shared := labels["train"] & labels["validation"]:
        raise TkreError(f"relations of both splits: {', '.join(sorted(shared))}")
    info = read_relation_info(data_dir / RELATION_NAMES)
    relations = sorted(labels["train"] | labels["validation"])
    if unknown := [label for label in relations if label not in info]:
        raise TkreError(f"{data_dir / RELATION_NAMES} lacks {', '.join(unknown)}")

    output_dir.mkdir(parents=True, exist_ok=True)
    for split, records in splits.items():
        # No time and no name in the header: the same records give the same file.
        packed = gzip.compress(_json_lines(records), compresslevel=9, mtime=0)
        (output_dir / SAMPLE_SPLITS[split].name).write_bytes(packed)
    rows = [_name_and_description(label, info[label]) for label in relations]
    (output_dir / SAMPLE_RELATIONS.name).write_bytes(_json_lines(rows))


def _read_samples(path: Path) -> list[Record]:
    seen: Counter[str] = Counter()
    records = []
    for row in read_json_lines(path):
        if isinstance(row, InvalidRowError):
            raise row
        record = parse_row(row)
        seen[record["relation"]] += 1
        records.append(record | {"id": f"{record['relation']}-scdg-{seen[record['relation']]}"})
    return records


def _name_and_description(label: str, info: RelationInfo) -> dict[str, str]:
    return {"relation": label, "name": info.name, "description": info.description}


def _json_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Builds the bundled corpus anew.")
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder that holds the source files")
    build_sample(parser.parse_args().data_dir)
