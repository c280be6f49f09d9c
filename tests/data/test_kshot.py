from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from tkre_hf.data import KShotManifest, draw_kshot, find_kshot, load_kshot_split, load_records, make_record
from tkre_hf.errors import InvalidRowError, TkreError

SIZES = {"works_for": 9, "born_in": 12, "no_relation": 40, "rare": 3}


def rows(sizes: dict[str, int], order: int | None = None) -> Dataset:
    """Numbered rows of each relation, in an order of their own."""
    made = [
        make_record(
            id=f"{relation}-{i}",
            tokens=["Ada", "and", relation, str(i)],
            head=(0, 1),
            tail=(2, 3),
            relation=relation,
        )
        for relation, n in sizes.items()
        for i in range(n)
    ]
    if order is not None:
        random.Random(order).shuffle(made)
    return Dataset.from_list(made)


ENOUGH = {relation: n for relation, n in SIZES.items() if relation != "rare"}


def test_each_relation_has_k_rows_and_so_has_the_class_without_one() -> None:
    manifest = draw_kshot(rows(ENOUGH), 8, seed=1)
    assert {relation: len(set(ids)) for relation, ids in manifest.rows.items()} == dict.fromkeys(ENOUGH, 8)
    assert all(id.startswith(relation) for relation, ids in manifest.rows.items() for id in ids)
    assert manifest.short == {} and len(manifest.ids) == 24


def test_the_draw_is_this_one_on_every_machine() -> None:
    # A draw that changes would silently change every figure that was measured with it.
    manifest = draw_kshot(rows({"works_for": 9}), 3, seed=1)
    assert manifest.rows == {"works_for": ("works_for-8", "works_for-5", "works_for-7")}


@given(order=st.integers(0, 2**32), k=st.integers(1, 9), seed=st.integers())
def test_the_order_of_the_rows_does_not_count_and_fewer_are_a_part_of_more(order: int, k: int, seed: int) -> None:
    manifest = draw_kshot(rows(ENOUGH), k, seed)
    assert manifest == draw_kshot(rows(ENOUGH, order), k, seed)
    more = draw_kshot(rows(ENOUGH), k + 1, seed, allow_fewer=True)
    assert all(more.rows[relation][:k] == ids for relation, ids in manifest.rows.items())


def test_seeds_draw_evenly() -> None:
    # 400 draws of 3 out of 12: each row is expected 100 times, with a standard deviation of 8.7.
    drawn = Counter(id for seed in range(400) for id in draw_kshot(rows({"born_in": 12}), 3, seed).ids)
    assert len(drawn) == 12
    assert all(60 < count < 140 for count in drawn.values())


def test_the_class_without_a_relation_may_stay_whole() -> None:
    data = rows(ENOUGH)
    manifest = draw_kshot(data, 8, seed=1, keep_whole="no_relation")
    assert {relation: len(ids) for relation, ids in manifest.rows.items()} == {
        **dict.fromkeys(ENOUGH, 8),
        "no_relation": 40,
    }
    others = draw_kshot(data, 8, seed=1)
    assert manifest.rows["born_in"] == others.rows["born_in"]
    few = draw_kshot(rows({"born_in": 9, "no_relation": 2}), 8, seed=1, keep_whole="no_relation")
    assert len(few.rows["no_relation"]) == 2, "all it has is what was asked for"


def test_a_relation_with_too_few_rows_is_named_or_gives_all_it_has(caplog: pytest.LogCaptureFixture) -> None:
    data = rows(SIZES)
    with pytest.raises(
        TkreError, match="each relation needs 8 rows, but 'rare' has 3; allow_fewer takes all they have"
    ):
        draw_kshot(data, 8, seed=1)
    with pytest.raises(TkreError, match="but 'born_in' has 12, 'rare' has 3, 'works_for' has 9; allow_fewer"):
        draw_kshot(data, 40, seed=1)
    many = rows({f"r{i}": 1 for i in range(8)})
    with pytest.raises(TkreError, match="'r4' has 1 and 3 more relations have too few; allow_fewer"):
        draw_kshot(many, 2, seed=1)
    with caplog.at_level(logging.WARNING, "tkre_hf.data.kshot"):
        manifest = draw_kshot(data, 8, seed=1, allow_fewer=True)
    assert manifest.short == {"rare": 3} and sorted(manifest.rows["rare"]) == ["rare-0", "rare-1", "rare-2"]
    assert "each relation needs 8 rows, but 'rare' has 3: all they have are taken" in caplog.text


def test_a_validation_part_leaves_the_training_part_alone() -> None:
    data = rows(ENOUGH)
    train = draw_kshot(data, 4, seed=1)
    validation = draw_kshot(data, 4, seed=1, exclude=train.ids)
    assert not set(train.ids) & set(validation.ids)
    assert {len(ids) for ids in validation.rows.values()} == {4}
    with pytest.raises(TkreError, match="'works_for' has 5; allow_fewer"):
        draw_kshot(data, 6, seed=1, exclude=train.ids)
    gone = [f"works_for-{i}" for i in range(9)]
    with pytest.raises(TkreError, match="'works_for' has 0"):
        draw_kshot(data, 1, seed=1, exclude=gone)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k must be at least 1, not 0"),
        ({"keep_whole": "NA"}, "keep_whole is 'NA', but no row has this relation"),
        ({"exclude": ["x-1", "born_in-0"]}, "exclude names 'x-1', but no row has this id"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TkreError, match=message):
        draw_kshot(rows(ENOUGH), **{"k": 1, "seed": 1, **settings})


def test_ids_must_be_unique() -> None:
    one = rows({"works_for": 1})[0]
    with pytest.raises(TkreError, match="2 rows have the id 'works_for-0': a draw needs ids that are unique"):
        draw_kshot(Dataset.from_list([one, one]), 1, seed=1)


def test_a_manifest_is_written_and_read_back(tmp_path: Path) -> None:
    data = rows(ENOUGH)
    manifest = draw_kshot(data, 4, seed=-7, keep_whole="no_relation", source="own, train")
    manifest.write(tmp_path / "m.json")
    again = KShotManifest.read(tmp_path / "m.json")
    assert again == manifest and list(again.rows) == list(manifest.rows)
    chosen = again.select(rows(ENOUGH, order=5))
    assert chosen["id"][:] == manifest.ids
    assert chosen.to_list() == manifest.select(data).to_list()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": None}, "line 1, field 'k': missing"),
        ({"seed": "1"}, "line 1, field 'seed': expected a whole number"),
        ({"keep_whole": 3}, "line 1, field 'keep_whole': expected a string"),
        ({"rows": []}, "line 1, field 'rows': expected an object"),
        ({"rows": {"r": "x"}}, "row r, field 'rows': expected a list of ids"),
        ({"rows": {"r": [1]}}, "row r, field 'rows': expected a list of ids"),
        ({"rows": {"r": ["a", "b", "c"]}}, "row r, field 'rows': there are 3 ids, but k is 2"),
        ({"rows": {"r": ["a"], "s": ["a"]}}, "row s, field 'rows': 'a' was used before, in .*m.json, row r"),
        ({"na": "x"}, "line 1, field 'na': a manifest has no such field, but k, seed, source, keep_whole, rows"),
    ],
)
def test_a_wrong_manifest_names_file_and_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"k": 2, "seed": 1, "rows": {"r": ["a", "b"]}, **change}))
    with pytest.raises(InvalidRowError, match=rf"m\.json, {message}"):
        KShotManifest.read(path)


def test_a_manifest_of_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text("[]")
    with pytest.raises(InvalidRowError, match=r"m\.json, line 1: expected an object of k, seed, .*, found \[\]"):
        KShotManifest.read(path)
    draw_kshot(rows(ENOUGH), 4, seed=1).write(path)
    manifest = KShotManifest.read(path)
    fewer = rows({"works_for": 9, "no_relation": 40})
    with pytest.raises(InvalidRowError, match=r"m\.json, row born_in, field 'rows': the data have no row 'born_in-"):
        manifest.select(fewer)
    revised = rows(ENOUGH).map(lambda row: {"relation": "no_relation"})
    with pytest.raises(InvalidRowError, match="field 'rows': the data have 'born_in-.*' as 'no_relation'"):
        manifest.select(revised)


def test_a_published_split_is_read_as_it_is(write_lines: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "kshot" / "1-2"
    folder.mkdir(parents=True)
    data = rows({"born_in": 3, "works_for": 3})
    split = data.select([4, 1])
    split.to_json(folder / "train.txt")
    loaded = load_kshot_split(tmp_path, 1, 2)
    assert loaded.to_list() == split.to_list()
    with pytest.raises(TkreError, match=r"kshot/8-1/train\.txt: there is no such split; 1-2 are there"):
        load_kshot_split(tmp_path, 8, 1)
    with pytest.raises(TkreError, match="there is no such split; none are there"):
        load_kshot_split(folder, 8, 1)


def test_a_split_s_rows_are_found_in_the_data() -> None:
    data = rows({"born_in": 3, "works_for": 3}, order=1)
    wanted = draw_kshot(data, 2, seed=3)
    renamed = wanted.select(data).map(lambda row, i: {"id": f"train-{i}"}, with_indices=True)
    found = find_kshot(renamed, data, 2, 3, source="own")
    assert found.rows == wanted.rows and found.source == "own"
    with pytest.raises(
        TkreError, match=r"row 'train-0' of the split \(Ada and born_in \d \.\.\.\) is not in the data"
    ):
        find_kshot(renamed, rows({"works_for": 3}), 2, 3)
    twice = Dataset.from_list([renamed[0], renamed[0]])
    with pytest.raises(TkreError, match="is not in the data"):
        find_kshot(twice, data, 2, 3)


@pytest.mark.parametrize("k", [8, 16, 32])
def test_real_splits_are_rows_of_the_training_data(data_dir: Path, k: int) -> None:
    folder = data_dir / "semeval2010"
    train = load_records("semeval:opennre", data_dir=folder, split="train")
    for seed in range(1, 6):
        split = load_kshot_split(folder, k, seed)
        lines = (folder / "kshot" / f"{k}-{seed}" / "train.txt").read_text("utf-8").splitlines()
        assert split["tokens"][:] == [json.loads(line)["token"] for line in lines]
        manifest = find_kshot(split, train, k, seed)
        assert set(map(len, manifest.rows.values())) == {k} and len(manifest.rows) == 18, "Other among them"
        words = Counter(map(tuple, split["tokens"]))
        assert Counter(map(tuple, manifest.select(train)["tokens"])) == words


def test_real_data_can_be_drawn_from(data_dir: Path) -> None:
    data = data_dir / "semeval2010"
    train = load_records("semeval:opennre", data_dir=data, split="train")
    assert {len(ids) for ids in draw_kshot(train, 32, seed=1).rows.values()} == {32}
    validation = load_records("semeval:opennre", data_dir=data, split="validation")
    with pytest.raises(TkreError, match=r"'Entity-Destination\(e2,e1\)' has 1; allow_fewer"):
        draw_kshot(validation, 8, seed=1)
