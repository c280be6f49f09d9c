from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tkre_hf.data import EpisodeDataset, load_records
from tkre_hf.data.fewrel_leaderboard import (
    read_predictions,
    read_test_input,
    write_predictions,
    write_submission,
    write_test_input,
)
from tkre_hf.errors import InvalidRowError, TkreError

Sentence = Callable[[str, int], dict[str, Any]]


def test_own_episodes_survive_the_leaderboard_s_format(write_fewrel: Callable[..., Path], tmp_path: Path) -> None:
    records = load_records(write_fewrel({f"P{i}": 6 for i in range(5)}))
    episodes = EpisodeDataset(records["relation"][:], n_way=3, k_shot=2, n_query=2, na_rate=0.25, num_episodes=4)
    answers = write_test_input(tmp_path / "test_input-3-2.json", records, episodes)
    test = read_test_input(tmp_path / "test_input-3-2.json")

    queries = 3 * 2 + 2
    assert len(answers) == len(test.episodes.query) == 4 * queries
    assert len({tuple(record["tokens"]) for record in test.records}) == len(test.records), "each sentence once"
    assert {record["relation"] for record in test.records} == {"hidden"}
    assert (test.episodes.query_label == -1).all()

    def tokens(rows: Any, of: Any) -> list[list[str]]:
        return [of[row]["tokens"] for row in np.ravel(rows).tolist()]

    for i, answer in enumerate(answers):
        episode, j = episodes[i // queries], i % queries
        assert answer == episode.query_label[j]
        assert tokens(test.episodes.support[i], test.records) == tokens(episode.support, records)
        assert tokens(test.episodes.query[i], test.records) == tokens(episode.query[j], records)
        names = [episodes.relation_names[k] for k in episode.relations]
        assert [test.relation_names[k] for k in test.episodes.relations[i]] == names


def test_input_without_relations_is_read(fewrel_sentence: Sentence, tmp_path: Path) -> None:
    entry = {
        "meta_train": [[fewrel_sentence("P1", 0)], [fewrel_sentence("P2", 0)]],
        "meta_test": fewrel_sentence("P2", 1),
    }
    path = tmp_path / "input.json"
    path.write_text(json.dumps([entry, entry]))
    test = read_test_input(path)
    assert test.episodes.support.tolist() == [[[0], [1]]] * 2
    assert test.episodes.query.tolist() == [[2]] * 2
    assert test.episodes.relations.tolist() == [[-1, -1]] * 2
    assert test.relation_names == ()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"meta_test": None}, r"row \[1\], field 'meta_test': missing"),
        ({"meta_train": None}, r"row \[1\], field 'meta_train': missing"),
        ({"meta_train": [[], []]}, r"row \[1\], field 'meta_train': expected for each relation"),
        ({"meta_train": []}, r"row \[1\], field 'meta_train': expected for each relation"),
        ({"meta_train": [3, 4]}, r"row \[1\], field 'meta_train': expected for each relation"),
        ({"meta_train": [["x"], ["y"]]}, r"row \[1\].meta_train\[0\]\[0\]: expected an object"),
        ({"meta_test": {"tokens": ["a"]}}, r"row \[1\].meta_test, field 'h': missing"),
        ({"relation": ["P1"]}, r"row \[1\], field 'relation': expected 2 labels"),
    ],
)
def test_a_wrong_entry_is_named(fewrel_sentence: Sentence, tmp_path: Path, change: dict[str, Any], where: str) -> None:
    good = {
        "meta_train": [[fewrel_sentence("P1", 0)], [fewrel_sentence("P2", 0)]],
        "meta_test": fewrel_sentence("P2", 1),
    }
    path = tmp_path / "input.json"
    path.write_text(json.dumps([good, good | change]))
    with pytest.raises(InvalidRowError, match=rf"input\.json, {where}"):
        read_test_input(path)


def test_entries_of_different_settings_are_refused(fewrel_sentence: Sentence, tmp_path: Path) -> None:
    one = [[fewrel_sentence("P1", 0)], [fewrel_sentence("P2", 0)]]
    entries = [{"meta_train": train, "meta_test": fewrel_sentence("P2", 1)} for train in (one, one[:1])]
    path = tmp_path / "input.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(InvalidRowError, match="is 1-way 1-shot, but the first is 2-way 1-shot"):
        read_test_input(path)


@pytest.mark.parametrize("content", ["{}", "[]", "[1", "3"])
def test_a_file_that_is_no_test_input_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "input.json"
    path.write_text(content)
    with pytest.raises(InvalidRowError, match="input.json, line 1"):
        read_test_input(path)


def test_predictions_come_back(tmp_path: Path) -> None:
    path = tmp_path / "pred-5-1.json"
    write_predictions(path, np.array([0, 4, -1]), n_way=5)
    assert path.read_text() == "[0, 4, -1]"
    assert read_predictions(path, n_way=5) == [0, 4, -1]
    with pytest.raises(InvalidRowError, match=r"pred-5-1.json, row \[1\]: .*to 3, found 4"):
        read_predictions(path, n_way=4)


@pytest.mark.parametrize("wrong", [5, -2, 1.5])
def test_a_prediction_out_of_range_writes_nothing_and_keeps_what_was_there(tmp_path: Path, wrong: float) -> None:
    path, archive = tmp_path / "pred-5-1.json", tmp_path / "submission.zip"
    write_predictions(path, [3], n_way=5)
    write_submission(archive, {(5, 1): [3]})
    before = archive.read_bytes()
    with pytest.raises(TkreError, match="from -1 .* to 4, found"):
        write_predictions(path, [0, wrong], n_way=5)
    with pytest.raises(TkreError, match="from -1 .* to 4, found"):
        write_submission(archive, {(10, 1): [9], (5, 1): [0, wrong]})
    assert path.read_text() == "[3]" and archive.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path, archive]


def test_a_submission_holds_a_file_for_each_setting(tmp_path: Path) -> None:
    write_submission(tmp_path / "submission.zip", {(5, 1): [0, 4], (10, 5): [9, -1]})
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert {name: json.loads(archive.read(name)) for name in archive.namelist()} == {
            "pred-5-1.json": [0, 4],
            "pred-10-5.json": [9, -1],
        }
