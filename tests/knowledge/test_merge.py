from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tkre_hf.data import RECORD_FEATURES, load_records, make_record
from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.knowledge.cli import merge_files
from tkre_hf.knowledge.merge import count_sources, merge_records, read_rows, write_rows
from tkre_hf.knowledge.settings import MergeArguments


def row(id: str, relation: str, source: str, **provenance: Any) -> dict[str, Any]:
    record = make_record(id=id, tokens=["a", "runs", "b"], head=(0, 1), tail=(2, 3), relation=relation, source=source)
    return {**record, "provenance": provenance}


GOLD = [
    make_record(id=f"g{i}", tokens=["a", "runs", "b"], head=(0, 1), tail=(2, 3), relation=f"r{i % 2}")
    for i in range(4)
]
EXPLANATIONS = [row(f"e{i}", f"r{i % 2}", "edkg", gold_id=f"g{i}", gold_cues=[[1, 2]] if i else []) for i in range(3)]
SAMPLES = [row(f"s{i:02}", f"r{i % 3}", "scdg") for i in range(30)]


def test_everything_is_merged_with_its_provenance() -> None:
    rows = merge_records(GOLD, EXPLANATIONS, SAMPLES)
    assert [each["id"] for each in rows[:7]] == ["g0", "g1", "g2", "g3", "e0", "e1", "e2"]
    assert len(rows) == 37 and len({each["id"] for each in rows}) == 37
    assert [len(each["cues"]) for each in rows[:4]] == [0, 1, 1, 0]
    assert rows[1]["provenance"] == {"cues_from": "e1"} and rows[0]["provenance"] == {}
    assert count_sources(rows) == {"gold": 4, "edkg": 3, "scdg": 30, "gold with cues": 2}
    # The records given are not changed.
    assert all(not record["cues"] and "provenance" not in record for record in GOLD)


def test_what_is_given_twice_counts_once() -> None:
    once = merge_records(GOLD, EXPLANATIONS, SAMPLES)
    assert merge_records(GOLD, EXPLANATIONS * 2, SAMPLES * 2) == once


def test_a_row_s_own_cues_are_kept() -> None:
    own = {**GOLD[1], "cues": [{"start": 0, "end": 1}]}
    assert merge_records([own], [EXPLANATIONS[1]])[0]["cues"] == [{"start": 0, "end": 1}]


def test_at_most_add_k_of_a_relation_are_added_by_the_seed() -> None:
    def chosen(seed: int, samples: list[dict[str, Any]]) -> list[str]:
        return [each["id"] for each in merge_records(GOLD, (), samples, add_k=4, seed=seed)[4:]]

    first = chosen(0, SAMPLES)
    assert len(first) == 12 and first == chosen(0, SAMPLES[::-1]) == chosen(0, SAMPLES + SAMPLES)
    assert first != chosen(1, SAMPLES)
    # Another relation's samples change nothing.
    without = chosen(0, [each for each in SAMPLES if each["relation"] != "r0"])
    assert without == [id for id in first if int(id[1:]) % 3 != 0]
    assert merge_records(GOLD, (), SAMPLES, add_k=0) == [{**record, "provenance": {}} for record in GOLD]


def test_explanations_of_other_rows_are_refused() -> None:
    for wrong in (
        row("e9", "r0", "edkg", gold_id="g9", gold_cues=[]),
        row("e9", "r1", "edkg", gold_id="g0", gold_cues=[]),
    ):
        with pytest.raises(ValueError, match="e9 is of the row .* right files"):
            merge_records(GOLD, [wrong])


def test_what_is_written_is_read_as_records(tmp_path: Path) -> None:
    rows = merge_records(GOLD, EXPLANATIONS, SAMPLES, add_k=2)
    write_rows(tmp_path / "deep" / "train.jsonl", rows)
    assert read_rows(tmp_path / "deep" / "train.jsonl") == rows
    loaded = load_records(tmp_path / "deep" / "train.jsonl", cache_dir=tmp_path / "cache")
    assert loaded.features == RECORD_FEATURES
    assert [dict(each) for each in loaded] == [{k: v for k, v in each.items() if k != "provenance"} for each in rows]


@pytest.mark.parametrize(
    ("rows", "source", "reason"),
    [
        (EXPLANATIONS, "scdg", "line 1, field 'source': expected scdg, found \"edkg\""),
        (SAMPLES, "edkg", "line 1, field 'source': expected edkg, found \"scdg\""),
        ([row("e1", "r0", "edkg", gold_id="g0")], "edkg", "field 'provenance': expected gold_cues and gold_id"),
    ],
)
def test_another_kind_of_run_is_named(rows: list[Any], source: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    assert len(read_rows(path)) == len(rows)
    with pytest.raises(InvalidRowError, match=re.escape(reason)):
        read_rows(path, source)


def test_the_training_set_takes_no_file_s_place_that_it_is_made_of(tmp_path: Path) -> None:
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps(each) + "\n" for each in GOLD))
    before = train.read_bytes()
    with pytest.raises(TkreError, match=r"train\.jsonl is both read and written"):
        merge_files(MergeArguments(train=str(train), output=str(train)))
    assert train.read_bytes() == before


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(SAMPLES[0]) + "\n" + json.dumps(GOLD[0]) + "\n")
    with pytest.raises(InvalidRowError, match=r"r\.jsonl, line 2: no generated record"):
        read_rows(path)
