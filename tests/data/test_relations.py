from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tkre_hf.data import RelationInfo, load_relation_info, read_relation_info
from tkre_hf.errors import InvalidRowError, TkreError


def test_fewrel_s_names_are_read_and_completed(tmp_path: Path) -> None:
    path = tmp_path / "pid2name.json"
    path.write_text('{"P177": ["crosses", "what a bridge crosses"], "P1": ["x", ""]}')
    assert list(read_relation_info(path)) == ["P177", "P1"]
    assert read_relation_info(path, ["is_a_part", "P177"]) == {
        "is_a_part": RelationInfo("is a part"),
        "P177": RelationInfo("crosses", "what a bridge crosses"),
    }


def test_json_lines_are_read_with_all_fields(write_lines: Callable[..., Path]) -> None:
    full = {
        "relation": "P177",
        "name": "crosses",
        "description": "what a bridge crosses",
        "explanation": "Look for 'spans'.",
        "head_types": ["FACILITY"],
        "tail_types": ["LOCATION", "FACILITY"],
        "verbalizations": ["{head} crosses {tail}"],
    }
    info = read_relation_info(write_lines(full, {"relation": "P1", "name": "x"}))
    assert info["P177"].tail_types == ("LOCATION", "FACILITY")
    assert info["P177"].verbalizations == ("{head} crosses {tail}",)
    assert info["P177"].explanation == "Look for 'spans'."
    assert info["P1"] == RelationInfo("x")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"relation": "P1", "name": 7}, "field 'name': expected a string"),
        ({"name": "x"}, "field 'relation': missing"),
        ({"relation": "P0", "name": "y"}, "field 'relation': 'P0' was used before, in .*line 1"),
        ({"relation": "P1", "name": "y", "head_types": "PERSON"}, "field 'head_types': expected a list"),
        ({"relation": "P1", "name": "y", "head_types": [1]}, "field 'head_types': expected a list of strings"),
        ({"relation": "P1", "description": "\ud83d"}, "field 'description': not UTF-8"),
        (b"{", "broken JSON"),
    ],
)
def test_a_wrong_line_names_file_line_and_field(write_lines: Callable[..., Path], row: Any, reason: str) -> None:
    path = write_lines({"relation": "P0", "name": "x"}, row)
    with pytest.raises(InvalidRowError, match=rf"rows\.jsonl, line 2.*{reason}"):
        read_relation_info(path)


def test_yaml_is_read_as_a_list_or_a_mapping_and_a_label_is_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- relation: part_of\n  head_types: [WORK]\n")
    (tmp_path / "mapping.yml").write_text("part_of:\n  head_types: [WORK]\nother:\n")
    part_of = RelationInfo("part of", head_types=("WORK",))
    assert read_relation_info(tmp_path / "list.yaml") == {"part_of": part_of}
    assert read_relation_info(tmp_path / "mapping.yml") == {"part_of": part_of, "other": RelationInfo("other")}


@pytest.mark.parametrize("content", ["a: [", "7", "a: 7", "- 7", "- name: x"])
def test_wrong_yaml_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "relations.yaml"
    path.write_text(content)
    with pytest.raises(InvalidRowError, match=r"relations\.yaml"):
        read_relation_info(path)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("a:\n  name: x\nb:\na:\n  name: y\n", "line 4, field 'a'"),
        ("- relation: a\n  name: x\n  name: y\n", "line 3, field 'name'"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, content: str, where: str) -> None:
    path = tmp_path / "relations.yaml"
    path.write_text(content)
    with pytest.raises(InvalidRowError, match=rf"relations\.yaml, {where}: stands twice in one mapping"):
        read_relation_info(path)


def test_what_is_merged_may_be_said_anew(tmp_path: Path) -> None:
    path = tmp_path / "relations.yaml"
    path.write_text("a: &a\n  name: x\n  description: z\nb: &b\n  <<: *a\n  name: y\nc:\n  <<: *b\n")
    assert read_relation_info(path)["c"] == RelationInfo("y", "z")


@pytest.mark.parametrize("content", ['["P1"]', '{"P1": ["x"]}', '{"P1": ["x", 1]}', '{"P1": "x"}'])
def test_a_wrong_file_of_names_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pid2name.json"
    path.write_text(content)
    with pytest.raises(InvalidRowError, match="expected .*name, description"):
        read_relation_info(path)


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TkreError, match="pid2name.json: there is no such file"):
        load_relation_info("fewrel:wiki", data_dir=tmp_path)


def test_real_files_cover_their_relations(data_dir: Path) -> None:
    schema = read_relation_info(data_dir / "fewrel" / "relation_schema.jsonl")
    labels: set[str] = set()
    for name in ("train_wiki", "val_wiki", "val_pubmed"):
        labels |= set(json.loads((data_dir / "fewrel" / f"{name}.json").read_text("utf-8")))
    assert set(schema) == labels
    assert all(info.description and info.head_types and len(info.verbalizations) == 3 for info in schema.values())
    names = load_relation_info("fewrel:wiki", data_dir=data_dir / "fewrel")
    assert all(schema[label].name == names[label].name for label in labels & set(names))
