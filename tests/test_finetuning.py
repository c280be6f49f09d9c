"""Fine-tuning from settings to a folder: what the classifier starts from, what is refused, adapters, best epochs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tkre_hf.data import load_records
from tkre_hf.data.semeval import LABELS
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.kshot import load_classifier, predict
from tkre_hf.finetuning import ADAPTER, _lengthen, _validation, train_relations
from tkre_hf.hub.marks import is_edited
from tkre_hf.tkre.adapters import load_adapter
from tkre_hf.tkre.training_args import RelationTrainingArguments
from tkre_hf.training import SCLStageArguments, SCLTrainingArguments, train_scl
from tkre_hf.training_data import RelationStageArguments, training_summary

from .conftest import RELATIONS

SETTINGS: dict[str, Any] = {"use_cpu": True, "bf16": False, "disable_tqdm": True, "save_strategy": "no"}

Train = Callable[..., Path]


@pytest.fixture(scope="module")
def checkpoint(corpus_files: tuple[Path, Path], backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 2's checkpoint on the corpus."""
    sources, info = map(str, corpus_files)
    folder = tmp_path_factory.mktemp("stage2")
    stage = SCLStageArguments(sources=[sources], backbone=str(backbone), max_length=64, relation_info=[info])
    settings = {**SETTINGS, "max_steps": 30, "relations_per_batch": 6, "learning_rate": 3e-3}
    return train_scl(stage, SCLTrainingArguments(output_dir=str(folder), **settings))


@pytest.fixture
def train(corpus_files: tuple[Path, Path], checkpoint: Path, tmp_path: Path) -> Train:
    """Fine-tunes on the corpus: ``train("folder", max_steps=3, adapter="lora")``."""
    sources, info = map(str, corpus_files)

    def train(name: str, **settings: Any) -> Path:
        own = RelationStageArguments.__dataclass_fields__
        stage = {"sources": [sources], "relation_info": [info], "checkpoint": str(checkpoint)}
        stage |= {key: settings.pop(key) for key in list(settings) if key in own}
        args = RelationTrainingArguments(
            output_dir=str(tmp_path / name),
            **{"max_steps": 3, "per_device_train_batch_size": 12, **SETTINGS, **settings},
        )
        return train_relations(RelationStageArguments(**stage), args)

    return train


def accuracy(folder: Path, records: list[dict[str, Any]]) -> float:
    found = predict(*load_classifier(str(folder)), records)
    return sum(a == b for a, b in zip(found.gold, found.predicted, strict=True)) / len(records)


def test_from_settings_to_a_folder(train: Train, records: list[dict[str, Any]]) -> None:
    folder = train("out", na_label="mother", max_steps=40, learning_rate=3e-3)
    model, _ = load_classifier(str(folder))
    assert list(model.config.id2label.values()) == sorted(RELATIONS)
    assert model.config.label2id == {label: i for i, label in enumerate(sorted(RELATIONS))}
    assert model.config.na_label == "mother"
    assert accuracy(folder, records) > 0.9
    summary = training_summary(folder)
    assert summary is not None
    assert [stage["stage"] for stage in summary.stages] == ["TKREForPreTraining", "TKREForRelationClassification"]
    assert not (folder / "training_args.bin").exists()


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"num_train_epochs": 2, "min_steps": 0}, 8),
        ({"num_train_epochs": 2, "min_steps": 9}, 12),
        ({"num_train_epochs": 4, "min_steps": 9}, 16),
        ({"num_train_epochs": 1, "min_steps": 9, "max_steps": 3}, 3),
    ],
)
def test_few_rows_are_passed_over_more_often(settings: dict[str, Any], steps: int, train: Train) -> None:
    # 48 rows in batches of 12.
    folder = train("out", **{"max_steps": -1, "save_strategy": "epoch", "save_total_limit": 1, **settings})
    (last,) = folder.glob("checkpoint-*")
    assert last.name == f"checkpoint-{steps}"


def test_passes_are_counted_for_the_one_gpu_that_is_used(tmp_path: Path) -> None:
    args = RelationTrainingArguments(str(tmp_path), use_cpu=True, per_device_train_batch_size=12, num_train_epochs=1)
    args._n_gpu = 2
    _lengthen(args, rows=48)
    assert args.num_train_epochs == 60  # of 4 steps each, for 240


@pytest.mark.parametrize(("start", "least"), [("anchors", 0.7), ("supports", 0.8)])
def test_before_any_step_it_knows_what_stage_2_knows(
    start: str, least: float, train: Train, records: list[dict[str, Any]]
) -> None:
    # No step moves anything at a learning rate of 0.
    folder = train("out", classifier_init=start, max_steps=1, learning_rate=0.0, head_learning_rate=0.0)
    # 0 is no rate of its own for the head, but warm-up makes the first step's rate 0 anyway.
    assert accuracy(folder, records) > least
    blank = train("random", classifier_init="random", max_steps=1, learning_rate=0.0)
    assert accuracy(blank, records) < 0.5


def test_a_classifier_of_other_relations_starts_anew(
    train: Train, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    first = train("first", max_steps=3)
    settings = {"checkpoint": str(first), "max_steps": 1, "learning_rate": 0.0, "head_learning_rate": 0.0}
    settings |= {"classifier_init": "random"}
    tables = [load_classifier(str(first))[0].classifier.weight]
    kept = sorted(RELATIONS)[1:]
    for name, rows in (
        ("same", records),
        ("fewer", [row for row in records if row["relation"] in kept]),
        ("renamed", [{**row, "relation": row["relation"][::-1]} for row in records]),
    ):
        source = tmp_path / f"{name}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        model, _ = load_classifier(str(train(name, sources=[str(source)], relation_info=[], **settings)))
        assert set(model.config.id2label.values()) == {row["relation"] for row in rows}
        tables.append(model.classifier.weight)
    first_table, same, fewer, renamed = tables
    assert torch.equal(same, first_table)
    assert len(fewer) == len(kept) and not torch.equal(fewer, first_table[1:])
    assert not torch.equal(renamed, first_table)


def test_an_adapter_is_kept_alone_and_merged(
    train: Train, checkpoint: Path, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train("out", adapter="lora", adapter_rank=4, max_steps=8, learning_rate=1e-2)
    assert {path.name for path in (folder / ADAPTER).iterdir()} >= {"adapter_model.safetensors", "config.json"}
    assert not (folder / "adapter_model.safetensors").exists()
    # Where it lay on this machine stays here.
    named = json.loads((folder / ADAPTER / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == checkpoint.name
    for path in folder.rglob("*"):
        assert path.is_dir() or str(checkpoint.parent).encode() not in path.read_bytes(), path
    assert not is_edited((folder / "README.md").read_text())  # our card, not PEFT's
    merged, processor = load_classifier(str(folder))
    alone = load_adapter(folder / ADAPTER, base=str(checkpoint))
    batch = processor("Ada works for Kiel .", head=(0, 3), tail=(14, 18))
    del batch["truncated"]
    with torch.no_grad():
        torch.testing.assert_close(alone.eval()(**batch).logits, merged.eval()(**batch).logits, atol=1e-5, rtol=1e-4)
    monkeypatch.chdir(checkpoint.parent)
    load_adapter(folder / ADAPTER)  # by the name it has


def test_a_published_data_set_has_its_own_development_set(records: list[dict[str, Any]], tmp_path: Path) -> None:
    labels = dict(zip(RELATIONS, LABELS, strict=False))
    rows = [
        {
            "token": row["tokens"],
            "h": {"name": "h", "pos": [row["head"]["start"], row["head"]["end"]]},
            "t": {"name": "t", "pos": [row["tail"]["start"], row["tail"]["end"]]},
            "relation": labels[row["relation"]],
        }
        for row in records
    ]
    for name, part in (("train", rows[::2]), ("val", rows[1::2]), ("test", rows[:1])):
        (tmp_path / f"{name}.txt").write_text("".join(json.dumps(row) + "\n" for row in part))
    args = RelationStageArguments(validation="semeval:opennre", data_dir=str(tmp_path), validation_k=2)
    found = _validation(args, load_records(str(tmp_path / "train.txt")), sorted(labels.values()))
    assert found is not None and Counter(found["relation"]) == dict.fromkeys(labels.values(), 2)
    texts = {" ".join(row["token"]) for row in rows[1::2]}
    assert {" ".join(tokens) for tokens in found["tokens"]} <= texts


def test_the_best_epoch_is_chosen_on_a_small_development_set(
    train: Train, corpus_files: tuple[Path, Path], records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tkre_hf.finetuning

    seen: list[Counter[str]] = []
    original = tkre_hf.finetuning._validation

    def watched(*args: Any) -> Any:
        rows = original(*args)
        seen.append(Counter(rows["relation"]))
        return rows

    monkeypatch.setattr(tkre_hf.finetuning, "_validation", watched)
    # A rate that ruins the model in the end: an earlier epoch is better than the last one.
    settings = {
        "max_steps": -1,
        "num_train_epochs": 4,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "min_steps": 0,
    }
    folder = train("best", validation=str(corpus_files[0]), validation_k=3, warmup_steps=0, **settings)
    assert seen == [Counter(dict.fromkeys(RELATIONS, 3))]
    state = json.loads(sorted(folder.glob("checkpoint-*/trainer_state.json"))[-1].read_text())
    scores = {entry["step"]: entry["eval_f1"] for entry in state["log_history"] if "eval_f1" in entry}
    assert len(scores) == 4
    assert state["best_metric"] == max(scores.values())
    assert state["best_global_step"] == min(step for step, f1 in scores.items() if f1 == max(scores.values()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"na_label": "Other"}, "na_label is 'Other', but no training row has this relation"),
        ({"adapter": "lora", "checkpoint": None}, "there is no checkpoint"),
        ({"record_sources": ["silver"]}, "record_sources names 'silver'"),
        ({"record_sources": ["scdg"]}, "nothing to train on"),
        ({"validation": "absent.jsonl"}, "absent.jsonl"),
    ],
)
def test_what_is_wrong_is_said(settings: dict[str, Any], message: str, train: Train, backbone: Path) -> None:
    if "checkpoint" in settings:
        settings = {**settings, "backbone": str(backbone), "max_length": 64}
    with pytest.raises(TkreError, match=message):
        train("out", **settings)
