"""The systems of docs/results/fewrel.md, on a FewRel of a few made-up sentences."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import read_rows
from tkre_hf.reproduction import HELD_OUT
from tkre_hf.training_data import training_summary

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = ["Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal"]


def sentences(relation: str) -> list[dict[str, Any]]:
    return [
        {"tokens": [name, "is", relation, "to", "Zoe", "."], "h": [name, "", [[0]]], "t": ["Zoe", "", [[4]]]}
        for name in NAMES
    ]


def samples(relations: Sequence[str]) -> str:
    rows = [
        {"relation": name, "context": f"{who} was {name} of Yva", "head_entity": who, "tail_entity": "Yva"}
        for name in relations
        for who in NAMES
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def fewrel(tmp_path: Path) -> Path:
    """A folder of FewRel's files: 22 training relations, 12 of them those held out, and others to measure on."""
    parts = {"train_wiki": [*HELD_OUT, *(f"P{n}" for n in range(9000, 9010))]}
    parts |= {"val_wiki": [f"P{n}" for n in range(9100, 9112)], "val_pubmed": [f"made_of_{n}" for n in range(10)]}
    folder = tmp_path / "fewrel"
    (folder / "knowledge").mkdir(parents=True)
    names = {}
    for part, relations in parts.items():
        (folder / f"{part}.json").write_text(json.dumps({name: sentences(name) for name in relations}))
        names |= {name: [f"name of {name}", f"what {name} means"] for name in relations if name.startswith("P")}
        (folder / "knowledge" / f"{part}_synthetic.jsonl").write_text(samples(relations))
    (folder / "pid2name.json").write_text(json.dumps(names))
    return folder


@pytest.fixture
def recipes(tmp_path: Path, backbone: Path) -> Path:
    """The recipes' own settings, but for a tiny encoder, tiny batches, and FewRel alone."""
    folder = tmp_path / "recipes"
    for kind in ("configs", "knowledge"):
        (folder / kind).mkdir(parents=True)
    for config in ("stage1_fewrel", "stage2_fewrel", "stage2_fewrel_knowledge"):
        settings = yaml.safe_load((RECIPES / "configs" / f"{config}.yaml").read_text())
        settings |= {"sources": ["fewrel:wiki"], "backbone": str(backbone), "max_length": 64}
        if "shares" in settings:
            settings |= {"shares": [1.0], "relations_per_batch": 4}
        (folder / "configs" / f"{config}.yaml").write_text(yaml.safe_dump(settings))
    (folder / "knowledge" / "train_wiki.jsonl").write_text(samples(HELD_OUT))
    return folder


def reproduce(*words: object) -> None:
    runpy.run_path(str(RECIPES / "reproduce_fewrel.py"))["main"]([str(word) for word in words])


def test_a_system_is_trained_once_and_measured_on_its_own_relations(
    fewrel: Path, recipes: Path, tmp_path: Path
) -> None:
    output, work = tmp_path / "rows.json", tmp_path / "work"
    common = ["--data_dir", fewrel, "--knowledge_dir", fewrel / "knowledge", "--work_dir", work, "--output", output]
    common += ["--recipes", recipes, "--max_steps", 1, "--num_episodes", 20, "--seeds", 0, "--systems"]
    reproduce(*common, "stages 1 + 2", "16 samples of the new relations", "held out, 48 samples")
    rows = {(row.benchmark, row.system, row.setting): row for row in read_rows(output)}

    shots = ["5w1s", "5w5s", "10w1s", "10w5s", "5w0s", "10w0s"]
    settings: dict[tuple[str, str], list[str]] = {}
    for benchmark, system, setting in rows:
        settings.setdefault((benchmark, system), []).append(setting)
    rejecting = [f"{shot} na{rate}" for shot in shots for rate in (0, 15, 30, 50)]
    assert settings.pop(("fewrel_nota", "stages 1 + 2")) == rejecting
    names = ("stages 1 + 2", "16 samples of the new relations")
    measured = {(f"fewrel_val_{part}", name) for part in ("wiki", "pubmed") for name in names}
    assert set(settings) == {*measured, ("fewrel_held_out", "held out, 48 samples")}
    assert all(found == shots for found in settings.values())
    known = {system: row.knowledge for (_, system, _), row in rows.items()}
    assert known["stages 1 + 2"] == "descriptions" and known["16 samples of the new relations"] == "synthetic"

    held_out = training_summary(work / "held_out" / "stage1" / "seed0")
    assert held_out is not None and not held_out.relations & set(HELD_OUT)
    with_samples = training_summary(work / "held_out" / "stage1-stage2-samples48" / "seed0")
    assert with_samples is not None and set(HELD_OUT) <= with_samples.relations
    # Of those held out it has seen the samples, and none of their own sentences.
    assert with_samples.stages[1]["sentences"] == (12 + 10) * len(NAMES)

    weights = work / "all" / "stage1-stage2" / "seed0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    reproduce(*common, "without descriptions")
    assert weights.stat().st_mtime_ns == before


def test_an_unknown_system_is_refused(fewrel: Path) -> None:
    with pytest.raises(TkreError, match="unknown systems nonsense: choose of backbone, stage 1 only"):
        reproduce("--data_dir", fewrel, "--systems", "nonsense")


def test_samples_need_a_folder(fewrel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce("--data_dir", fewrel, "--work_dir", tmp_path, "--systems", "64 samples of the new relations")
    assert "left out, it needs --knowledge_dir" in capsys.readouterr().err
