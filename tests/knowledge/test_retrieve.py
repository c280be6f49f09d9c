from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tkre_hf.data import RelationInfo, make_record
from tkre_hf.errors import TkreError
from tkre_hf.knowledge.consistency import margins, prototypes, unit_rows, worst
from tkre_hf.knowledge.retrieve import DemonstrationIndex, in_context_prompt

RNG = np.random.default_rng(0)
RECORDS = [
    make_record(id=f"g{i}", tokens=[f"H{i}", "verb", f"T{i}", "."], head=(0, 1), tail=(2, 3), relation=f"r{i % 3}")
    for i in range(30)
]
VECTORS = {record["id"]: RNG.normal(size=8).astype(np.float32) * (1 + i) for i, record in enumerate(RECORDS)}


def encode(records: Sequence[Any]) -> np.ndarray:
    return np.stack([VECTORS[record["id"]] for record in records])


def test_the_nearest_rows_are_those_of_an_exhaustive_search() -> None:
    pytest.importorskip("faiss", reason="needs the extra [retrieval]")
    index = DemonstrationIndex(RECORDS, encode)
    cosine = unit_rows(encode(RECORDS)) @ unit_rows(encode(RECORDS)).T
    np.fill_diagonal(cosine, -2)
    for same in (False, True):
        found = index.nearest(RECORDS, 4, same_relation=same)
        for i, rows in enumerate(found):
            allowed = [j for j in range(30) if j != i and (not same or j % 3 == i % 3)]
            expected = sorted(allowed, key=lambda j: -cosine[i, j])[:4]
            assert [row["id"] for row in rows] == [f"g{j}" for j in expected]
            assert rows[0] == RECORDS[expected[0]]
    assert index.nearest([], 4) == []
    unseen = {**RECORDS[0], "id": "new"}
    VECTORS["new"] = VECTORS["g0"]
    assert index.nearest([unseen], 1)[0][0]["id"] == "g0"


def test_demonstrations_are_a_row_and_its_neighbours_of_the_relation() -> None:
    pytest.importorskip("faiss", reason="needs the extra [retrieval]")
    index = DemonstrationIndex(RECORDS, encode)
    for attempt in range(12):
        shown = index.demonstrations("r1", attempt, 3)
        assert shown[0]["id"] == f"g{1 + 3 * (attempt % 10)}"
        assert len({row["id"] for row in shown}) == 3 and {row["relation"] for row in shown} == {"r1"}
    assert index.demonstrations("r9", 0, 3) == [] and len(index.demonstrations("r1", 0, 99)) == 10
    assert len(index.demonstrations("r1", 0, 1)) == 1
    with pytest.raises(TkreError, match="no labelled rows"):
        DemonstrationIndex([], encode)


def test_the_relation_is_asked_for_directly() -> None:
    relations = {"r0": RelationInfo("zeroth", "of nothing"), "r1": RelationInfo("first")}
    messages, schema = in_context_prompt(RECORDS[5], RECORDS[:2], relations)
    text = messages[-1]["content"]
    assert "- r0: zeroth: of nothing\n- r1: first\n" in text
    shown = [json.loads(line) for line in text.splitlines() if line.startswith('{"context"')]
    assert [row["relation"] for row in shown] == ["r1", "r0"]
    assert 'Head entity: "H5"' in text and "r2" not in text
    assert schema["properties"]["relation"]["enum"] == ["r0", "r1"]


def test_a_prototype_is_the_direction_of_rows_and_anchor() -> None:
    labelled = {"r0": [RECORDS[0], RECORDS[3]], "r1": []}
    anchors = {"r1": np.eye(8, dtype=np.float32)[0], "r0": np.eye(8, dtype=np.float32)[1]}
    relations, centres = prototypes(encode, labelled, anchors)
    assert relations == ["r0", "r1"] and np.allclose(np.linalg.norm(centres, axis=1), 1)
    expected = unit_rows(np.stack([VECTORS["g0"], VECTORS["g3"], anchors["r0"]])).sum(0)
    assert np.allclose(centres[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert np.allclose(centres[1], anchors["r1"])
    with pytest.raises(ValueError, match="neither a labelled row nor an anchor"):
        prototypes(encode, {"r5": []}, {})


def test_margins_compare_a_relation_with_the_nearest_other() -> None:
    centres = np.eye(3, dtype=np.float32)
    vectors = np.array([[2, 0, 0], [0, 3, 4], [0, 3, 4]], np.float32)
    scores = margins(vectors, ["a", "b", "c"], ["a", "b", "c"], centres)
    assert np.allclose(scores, [1, -0.2, 0.2])
    assert np.allclose(margins(vectors, ["a"] * 3, ["a"], centres[:1]), [1, 0, 0])


def test_the_worst_share_of_each_relation_is_dropped() -> None:
    scores = np.array([3, 1, 2, 0, 9, 8, 7, 7, 7, 7], np.float32)
    labels = ["a"] * 4 + ["b"] * 6
    assert np.flatnonzero(worst(labels, scores, 0.5)).tolist() == [1, 3, 7, 8, 9]
    assert not worst(labels, scores, 0.1).any() and not worst(labels, scores, 0).any()
    with pytest.raises(ValueError, match="share"):
        worst(labels, scores, 1)
