"""What a stage trains on: sources put together, relations kept out, texts found, and batches shared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tkre_hf.data import make_record
from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.training_data import (
    MSLMStageArguments,
    SCLStageArguments,
    TrainingSummary,
    batch_shares,
    hold_out_relations,
    load_training_records,
    relation_texts,
    training_summary,
)

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes records of some relations to a file: ``write("a", crosses=3, mother=2)``."""

    def write(name: str, **relations: int) -> str:
        path = tmp_path / f"{name}.jsonl"
        rows = [
            make_record(id=f"{name}-{label}-{i}", tokens=["x", str(i), "y"], head=(0, 1), tail=(2, 3), relation=label)
            for label, count in relations.items()
            for i in range(count)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def test_sources_are_put_together(write: Write) -> None:
    a, b, c, d = write("a", p=2, q=1), write("b", q=2), write("c", r=1), write("d", s=1)
    data = load_training_records(SCLStageArguments(sources=[a, b], add_sources=[c, d]))
    assert data.records["relation"] == ["p", "p", "q", "q", "q", "r", "s"]
    assert data.groups.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert data.held_out == []


def test_a_published_data_set_is_trained_on_by_its_training_part_alone(write: Write, tmp_path: Path) -> None:
    row = {"token": ["a", "b"], "h": {"pos": [0, 1]}, "t": {"pos": [1, 2]}, "relation": "Other"}
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text(json.dumps(row | {"id": name}))
    sources = ["semeval:opennre", write("a", p=1)]
    data = load_training_records(SCLStageArguments(sources=sources, data_dir=str(tmp_path)))
    assert data.records["id"] == ["train", "a-p-0"]


def test_relations_are_kept_out_of_every_source(write: Write) -> None:
    a, b = write("a", p=2, q=1, r=1, s=1), write("b", q=2, p=1, t=1)
    data = load_training_records(MSLMStageArguments(sources=[a, b], exclude_relations=["q"], hold_out=2))
    assert len(data.held_out) == 3 and "q" in data.held_out and "t" not in data.held_out
    assert set(data.records["relation"]) == {"p", "q", "r", "s", "t"} - set(data.held_out)
    assert len(data.groups) == len(data.records)


def test_added_sources_are_taken_whole(write: Write) -> None:
    a, samples = write("a", p=2, q=3), write("samples", q=1, r=1)
    data = load_training_records(SCLStageArguments(sources=[a], add_sources=[samples], exclude_relations=["q"]))
    assert data.records["relation"] == ["p", "p", "q", "r"]
    assert data.groups.tolist() == [0, 0, 1, 1] and data.held_out == ["q"]


def test_the_bundled_corpus() -> None:
    data = load_training_records(SCLStageArguments(sources=["sample:train"], hold_out=12))
    info = relation_texts(SCLStageArguments(sources=["sample:train"]), sorted(set(data.records["relation"])))
    assert len(info) == 629 and all(entry.name and entry.description for entry in info.values())
    assert len(data.held_out) == 12 and not set(data.held_out) & set(info)


@given(st.lists(st.text(min_size=1), min_size=1, unique=True), st.data())
def test_held_out_relations_depend_on_the_seed_alone(labels: list[str], data: st.DataObject) -> None:
    number, seed = data.draw(st.integers(0, len(labels) - 1)), data.draw(st.integers(0, 9))
    held_out = hold_out_relations(labels, number, seed)
    assert held_out == sorted(held_out) == hold_out_relations(data.draw(st.permutations(labels)), number, seed)
    assert len(set(held_out)) == number and set(held_out) <= set(labels)


def test_another_seed_holds_others_out() -> None:
    labels = [f"P{i}" for i in range(64)]
    assert hold_out_relations(labels, 12, 0) != hold_out_relations(labels, 12, 1)
    for number in (64, -1):
        with pytest.raises(TkreError, match=f"hold_out is {number}, but there are 64 relations"):
            hold_out_relations(labels, number)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": []}, "no sources: say what to train on"),
        ({"sources": ["absent.jsonl"]}, "absent.jsonl"),
        ({"sources": ["corpus:wiki"]}, "corpus:wiki is no source of records"),
        ({"exclude_relations": ["pp"]}, "exclude_relations names 'pp', which no record .* did you mean 'p'"),
        ({"exclude_relations": ["p", "q"]}, "nothing to train on"),
        ({"hold_out": 2}, "hold_out is 2, but there are 2 relations"),
    ],
)
def test_what_cannot_be_loaded_is_named(write: Write, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TkreError, match=message):
        load_training_records(MSLMStageArguments(**{"sources": [write("a", p=1, q=1)], **settings}))


def test_a_wrong_row_is_named_or_left_out(write: Write) -> None:
    path = write("a", p=2)
    with open(path, "a") as file:
        file.write('{"text": "x y", "head": [0, 9], "tail": [2, 3], "relation": "p"}\n')
    with pytest.raises(InvalidRowError, match=r"a\.jsonl, line 3, field 'head'"):
        load_training_records(MSLMStageArguments(sources=[path]))
    assert len(load_training_records(MSLMStageArguments(sources=[path], skip_invalid=True)).records) == 2


def test_texts_are_the_users_before_a_named_sources(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "pid2name.json"
    known = sorted(set(load_training_records(SCLStageArguments(sources=["sample:train"])).records["relation"]))[:2]
    file.write_text(json.dumps({known[0]: ["mine", "my words"], "own_one": ["own", ""]}))
    args = SCLStageArguments(sources=["sample:train"], relation_info=[str(file)])
    info = relation_texts(args, [*known, "own_one", "bare_label"])
    assert list(info) == [*known, "own_one", "bare_label"]
    assert (info[known[0]].name, info[known[0]].description) == ("mine", "my words")
    assert info[known[1]].description
    assert info["bare_label"].name == "bare label"
    assert "1 of 4 relations have neither name nor description" in caplog.text


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({}, None),
        ({"shares": [3, 1]}, [0.75, 0.25]),
        ({"shares": [1, 1], "add_share": 0.5}, [0.25, 0.25, 0.5]),
        ({"add_share": 0.4}, [0.4, 0.2, 0.4]),  # the others in proportion to their relations: two and one
    ],
)
def test_shares(write: Write, settings: dict[str, Any], shares: list[float] | None) -> None:
    args = SCLStageArguments(sources=[write("a", p=2, q=1), write("b", q=2, r=1)], **settings)
    if "add_share" in settings:
        args.add_sources = [write("c", s=1)]
    groups, found = batch_shares(args, load_training_records(args))
    if shares is None:
        assert groups is found is None
    else:
        assert found == pytest.approx(shares)
        assert isinstance(groups, np.ndarray) and set(groups.tolist()) == set(range(len(shares)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares": [1]}, "shares must be 2 numbers above 0"),
        ({"shares": [1, 0]}, "shares must be 2 numbers above 0"),
        ({"shares": [1, 1], "add_share": 0.5}, "give both or neither"),
        ({"shares": [1, 1], "add_sources": ["c"]}, "give both or neither"),
        ({"add_share": 1.0, "add_sources": ["c"]}, "add_share must lie between 0 and 1, found 1.0"),
        ({"shares": [1, 1], "exclude_relations": ["r"]}, r"b\.jsonl has a share, but no relation left"),
    ],
)
def test_shares_that_do_not_fit_are_refused(write: Write, settings: dict[str, Any], message: str) -> None:
    args = SCLStageArguments(sources=[write("a", p=2, q=1), write("b", q=2, r=1)], **settings)
    args.add_sources = [write(name, s=1) for name in args.add_sources]
    with pytest.raises(TkreError, match=message):
        batch_shares(args, load_training_records(args))


def test_a_summary_tells_of_all_stages(tmp_path: Path) -> None:
    first = {"stage": "A", "sources": ["x"], "add_sources": [], "seed": 1, "minutes": 2.0, "trained_relations": ["p"]}
    second = {**first, "stage": "B", "add_sources": ["new"], "seed": 3, "trained_relations": ["q"]}
    assert training_summary(tmp_path) is None
    TrainingSummary([first]).write(tmp_path)
    assert training_summary(tmp_path).knowledge == "descriptions"
    TrainingSummary([first, second]).write(tmp_path)
    summary = training_summary(tmp_path)
    assert (summary.seed, summary.minutes, summary.knowledge) == (3, 4.0, "synthetic")
    assert summary.relations == {"p", "q"}
    assert summary.data == "A: x; B: x, new"
