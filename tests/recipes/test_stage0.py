"""Stage 0's recipe: its configurations are read, and it makes the training set of real recorded knowledge."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from recipes import stage0_generate
from tkre_hf.arguments import parse_arguments
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
    stage0_generate.main(list(map(str, options)))
    out = capsys.readouterr().out
    # 18 relations of 8 gold rows, each explained, and at most 8 samples each.
    rows = load_records(tmp_path / "train.jsonl", cache_dir=tmp_path / "cache")
    sources = rows["source"]
    gold, explained, samples = (sum(source == name for source in sources) for name in ("gold", "edkg", "scdg"))
    assert gold == 144 and 130 <= explained <= 144 and 130 <= samples <= 144
    assert f"{len(rows)} rows" in out
    with_cues = sum(bool(row["cues"]) for row in rows if row["source"] == "gold")
    assert with_cues > 120
    report = json.loads((tmp_path / "samples" / "report.json").read_text())
    assert report["accepted"] + report["rejected"] == 18 * 12
