"""Stage 0's recipe: its configurations are read, and it makes the training set of real recorded knowledge."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from recipes import stage0_generate
from tkre_hf.arguments import parse_arguments, run
from tkre_hf.data import load_records, read_relation_info
from tkre_hf.knowledge.settings import Stage0Arguments

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("stage0_*.yaml")), ids=lambda path: path.name)
def test_configurations_are_read_whole(config: Path) -> None:
    (args,) = parse_arguments([Stage0Arguments], ["--config", str(config)])
    for key, value in yaml.safe_load(config.read_text()).items():
        assert getattr(args, key) == value
    if args.relations:
        assert read_relation_info(Path(__file__).parents[2] / args.relations)


def test_the_relations_of_semeval_are_all_described() -> None:
    info = read_relation_info(CONFIGS / "semeval_relations.yaml")
    assert len(info) == 19 and all(entry.name and entry.description for entry in info.values())
    assert len({entry.name for entry in info.values()}) == 19


def test_recorded_knowledge_becomes_a_training_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "TKRE_DATA_DIR" not in os.environ:
        pytest.skip("reads real data: set TKRE_DATA_DIR to its folder")
    semeval = Path(os.environ["TKRE_DATA_DIR"]) / "semeval2010"
    options = ["--config", CONFIGS / "stage0_semeval.yaml", "--train", semeval / "kshot" / "8-1" / "train.txt"]
    options += ["--relations", CONFIGS / "semeval_relations.yaml", "--output", tmp_path, "--per_relation", 12]
    options += ["--backend", "recorded", "--recorded", semeval / "knowledge" / "8-1", "--add_k", 8]
    options += ["--exclude", semeval / "test.txt"]
    code = stage0_generate.main(list(map(str, options)))
    out = capsys.readouterr().out
    # 18 relations of 8 gold rows, each explained, and at most 8 samples each.
    rows = load_records(tmp_path / "train.jsonl", cache_dir=tmp_path / "cache")
    sources = rows["source"]
    gold, explained, samples = (sum(source == name for source in sources) for name in ("gold", "edkg", "scdg"))
    assert gold == 144 and 130 <= explained <= 144 and 130 <= samples <= 144
    assert f"{len(rows)} rows" in out
    with_cues = sum(bool(row["cues"]) for row in rows if row["source"] == "gold")
    assert with_cues > 120
    assert code == 0 and "samples: 216 rows, 0 short of the quota" in out
    report = json.loads((tmp_path / "samples" / "report.json").read_text())
    assert report["accepted"] + report["rejected"] == 18 * 12


@pytest.fixture
def recorded(tmp_path: Path) -> list[str]:
    """The options of a run over one labelled row and what was recorded for it."""
    row = {"token": "Unit7 was built over River7 in stone".split(), "relation": "crosses"}
    row |= {"h": {"name": "Unit7", "pos": [0, 1]}, "t": {"name": "River7", "pos": [4, 5]}}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "knowledge").mkdir()
    told = {"row": 0, "explanation": "That Unit7 goes over River7 is what the words 'built over' tell the reader."}
    (tmp_path / "knowledge" / "e.jsonl").write_text(json.dumps(told) + "\n")
    sample = {"relation": "crosses", "context": "Since May a rope Span3 has hung above the small Creek4 near us."}
    sample |= {"head_entity": "Span3", "tail_entity": "Creek4"}
    (tmp_path / "knowledge" / "s.jsonl").write_text(json.dumps(sample) + "\n")
    options = ["--train", tmp_path / "train.jsonl", "--output", tmp_path / "out", "--per_relation", 1]
    return list(map(str, [*options, "--backend", "recorded", "--recorded", tmp_path / "knowledge"]))


def code_of(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["stage0_generate.py", *argv])
    try:
        run(stage0_generate.main)
    except SystemExit as ended:
        return ended.code
    return 0


def test_the_exit_code_says_what_became_of_it(
    recorded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert code_of([*recorded, "--max_requests", "0"], monkeypatch) == 1
    out = capsys.readouterr().out
    assert out.count("0 rows, 1 short of the quota; stopped: the budget of 0 requests is used up") == 2
    assert code_of(recorded, monkeypatch) == 0
    assert "samples: 1 rows, 0 short of the quota" in capsys.readouterr().out
    assert code_of([*recorded, "--per_relation", "2", "--output", str(tmp_path / "more")], monkeypatch) == 1
    assert code_of([*recorded, "--dry_run"], monkeypatch) == 0


def test_a_wrong_add_k_is_found_before_anything_is_asked(
    recorded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of([*recorded, "--add_k", "-1"], monkeypatch) == 2
    assert "--add_k must not be negative, found -1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
