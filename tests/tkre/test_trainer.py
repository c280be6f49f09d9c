"""The stages' trainers: they learn, log each part of the loss, and give heads a learning rate of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tkre_hf.epoch_loader import EpochDataLoader
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
from tkre_hf.tkre.modeling_tkre import TKREForMaskedSpanLM, TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords
from tkre_hf.tkre.trainer import MSLMTrainer, RelationTrainer, SCLTrainer
from tkre_hf.tkre.training_args import MSLMTrainingArguments, RelationTrainingArguments, SCLTrainingArguments

COMMON: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "disable_tqdm": True,
    "learning_rate": 1e-3,
}


@pytest.fixture
def dataset(processor: TKREProcessor, records: list[dict[str, Any]]) -> EncodedRecords:
    return EncodedRecords(records, processor)


def scl_trainer(
    model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, folder: Path, **settings: Any
) -> SCLTrainer:
    args = SCLTrainingArguments(
        output_dir=str(folder),
        **{"relations_per_batch": 4, "sentences_per_relation": 2, "max_steps": 3, **COMMON, **settings},
    )
    return SCLTrainer(model, args, dataset, processor.encode_anchors(dataset.relations), processor)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("mslm", {}),
        ("kshot", {}),
        ("scl", {"lambda_mslm": 0.0}),
        ("scl", {"lambda_mslm": 0.5, "span_weight": 0.0}),
        ("scl", {"lambda_mslm": 0.0, "num_learned_anchors": 6}),
    ],
)
def test_a_sharded_models_optimizer_has_what_the_loss_reads(
    stage: str,
    changes: dict[str, Any],
    model: TKREForPreTraining,
    dataset: EncodedRecords,
    processor: TKREProcessor,
    tmp_path: Path,
) -> None:
    names = {
        "id2label": dict(enumerate(dataset.relations)),
        "label2id": {name: i for i, name in enumerate(dataset.relations)},
    }
    config = TKREConfig(**{**model.config.to_dict(), **names, **changes})
    common = {"output_dir": str(tmp_path), **COMMON}
    trainer: MSLMTrainer | RelationTrainer | SCLTrainer
    if stage == "scl":
        trainer = scl_trainer(TKREForPreTraining(config), dataset, processor, tmp_path)
    elif stage == "mslm":
        trainer = MSLMTrainer(TKREForMaskedSpanLM(config), MSLMTrainingArguments(**common), dataset, processor)
    else:
        classifier = TKREForRelationClassification(config)
        trainer = RelationTrainer(classifier, RelationTrainingArguments(**common), dataset, processor)
    trainer.is_fsdp_enabled = True
    optimizer = trainer.create_optimizer()
    trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader()))).backward()
    number = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    trained = {name for name, parameter in trainer.model.named_parameters() if id(parameter) in number}
    assert trained == {name for name, parameter in trainer.model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("stage", ["mslm", "scl"])
def test_workers_make_the_same_batches(
    stage: str, model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    def loader(**settings: Any) -> EpochDataLoader:
        if stage == "scl":
            return scl_trainer(model, dataset, processor, tmp_path, **settings).get_train_dataloader()
        args = MSLMTrainingArguments(output_dir=str(tmp_path), **COMMON, **settings)
        return MSLMTrainer(TKREForMaskedSpanLM(model.config), args, dataset, processor).get_train_dataloader()

    alone = loader()
    shared = loader(dataloader_num_workers=2, dataloader_persistent_workers=True, dataloader_prefetch_factor=3)
    assert shared.persistent_workers and shared.prefetch_factor == 3
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        for ours, theirs in zip(alone, shared, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(
    ("setting", "value"),
    [("data_seed", 1), ("dataloader_drop_last", True), ("train_sampling_strategy", "group_by_length")],
)
def test_settings_of_other_batches_are_refused(
    setting: str,
    value: Any,
    model: TKREForPreTraining,
    dataset: EncodedRecords,
    processor: TKREProcessor,
    tmp_path: Path,
) -> None:
    if not hasattr(SCLTrainingArguments, setting):
        setting, value = "group_by_length", True  # transformers 4's name for it
    with pytest.raises(ValueError, match=f"{setting} is .*: leave it out"):
        scl_trainer(model, dataset, processor, tmp_path, **{setting: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"within_class_shrinkage": -1.0}, "within_class_shrinkage must not be below 0"),
        ({"within_class_sentences": 1}, "within_class_sentences not below 2, found 2.0 and 1"),
    ],
)
def test_settings_of_the_space_are_checked(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        SCLTrainingArguments(output_dir=str(tmp_path), **COMMON, **settings)


def test_labels_that_are_not_there_are_not_smoothed(
    model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="label_smoothing_factor is 0.1: leave it out"):
        scl_trainer(model, dataset, processor, tmp_path, label_smoothing_factor=0.1)


def test_of_several_gpus_one_is_used_where_nothing_launched_more(
    model: TKREForPreTraining,
    dataset: EncodedRecords,
    processor: TKREProcessor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    args = MSLMTrainingArguments(output_dir=str(tmp_path), **COMMON)
    args._n_gpu = 2
    trainer = MSLMTrainer(TKREForMaskedSpanLM(model.config), args, dataset, processor)
    assert trainer.args.n_gpu == 1 and trainer._wrap_model(trainer.model) is trainer.model
    assert "training on one of 2 GPUs: start it with accelerate launch" in caplog.text


def test_sentences_per_second_count_the_batch_of_stage_2(
    model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    # The argument's 8 sentences per device play no part in it.
    metrics = scl_trainer(model, dataset, processor, tmp_path, sentences_per_relation=5).train().metrics
    rate = metrics["train_samples_per_second"] / metrics["train_steps_per_second"]
    assert rate == pytest.approx(20, rel=0.05)


def test_stage_1_learns(
    model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    stage1 = TKREForMaskedSpanLM.from_pretrained(tmp_path)
    args = MSLMTrainingArguments(
        output_dir=str(tmp_path), max_steps=40, per_device_train_batch_size=16, **{**COMMON, "learning_rate": 3e-3}
    )
    trainer = MSLMTrainer(stage1, args, dataset, processor)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]


def test_stage_2_learns_relations_and_logs_parts(
    model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    trainer = scl_trainer(model, dataset, processor, tmp_path, max_steps=40, learning_rate=3e-3)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    for entry in steps:
        expected = entry["relation_loss"] + model.config.span_weight * entry["span_loss"] + 0.5 * entry["mslm_loss"]
        assert entry["loss"] == pytest.approx(expected, abs=1e-3)
    assert steps[-1]["relation_loss"] < 0.7 * steps[0]["relation_loss"]
    assert steps[-1]["span_loss"] < steps[0]["span_loss"]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"lambda_mslm": 0.0}, {"relation_loss", "span_loss"}),
        ({"lambda_mslm": 0.0, "span_weight": 0.0}, {"relation_loss"}),
        ({"span_weight": 0.0}, {"relation_loss", "mslm_loss"}),
    ],
)
def test_a_weight_of_zero_leaves_a_part_out(
    settings: dict[str, float],
    parts: set[str],
    model: TKREForPreTraining,
    dataset: EncodedRecords,
    processor: TKREProcessor,
    tmp_path: Path,
) -> None:
    for name, value in settings.items():
        setattr(model.config, name, value)
    trainer = scl_trainer(model, dataset, processor, tmp_path)
    trainer.train()
    logged = {name for name in trainer.state.log_history[0] if name.endswith("_loss")}
    assert logged == parts


def test_heads_have_a_learning_rate_of_their_own(
    model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    trainer = scl_trainer(model, dataset, processor, tmp_path, head_learning_rate=0.5, weight_decay=0.1)
    rates = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in trainer.create_optimizer().param_groups
        for parameter in group["params"]
    }
    assert len(rates) == len(list(model.parameters()))  # each one once
    for name, parameter in model.named_parameters():
        rate, decay = rates[id(parameter)]
        assert rate == (1e-3 if ".encoder." in name else 0.5)
        assert decay == (0.0 if parameter.ndim == 1 else 0.1)


def test_a_loaded_checkpoint_changes_no_batch(
    model: TKREForPreTraining,
    dataset: EncodedRecords,
    processor: TKREProcessor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tkre_hf.tkre.sampling._NEIGHBOURHOOD", 1)  # or all of the few relations are neighbours
    settings = {"relations_per_batch": 2, "hard_share": 1.0}
    batches = list(scl_trainer(model, dataset, processor, tmp_path, **settings).batch_sampler())
    resumed = scl_trainer(model, dataset, processor, tmp_path, **settings)
    with torch.no_grad():
        for parameter in model.parameters():  # as loading does
            parameter.normal_()
    assert list(resumed.batch_sampler()) == batches
    assert list(scl_trainer(model, dataset, processor, tmp_path, **settings).batch_sampler()) != batches


@pytest.mark.parametrize("rate", [None, 0.0])
def test_a_head_s_learning_rate_may_be_nothing(
    rate: float | None, model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    groups = scl_trainer(model, dataset, processor, tmp_path, head_learning_rate=rate).create_optimizer().param_groups
    assert {group["lr"] for group in groups} == ({1e-3} if rate is None else {1e-3, 0.0})


def test_a_batch_that_does_not_fit_is_made_smaller(
    model: TKREForPreTraining,
    dataset: EncodedRecords,
    processor: TKREProcessor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    def training_step(self: MSLMTrainer, model: Any, inputs: dict[str, Any], *args: Any) -> torch.Tensor:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 6:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return step(self, model, inputs, *args)

    step = MSLMTrainer.training_step
    monkeypatch.setattr(MSLMTrainer, "training_step", training_step)
    model.save_pretrained(tmp_path)
    stage1 = TKREForMaskedSpanLM.from_pretrained(tmp_path)
    settings = {"max_steps": 2, "per_device_train_batch_size": 8, "auto_find_batch_size": True}
    args = MSLMTrainingArguments(output_dir=str(tmp_path), **settings, **COMMON)
    assert MSLMTrainer(stage1, args, dataset, processor).train().global_step == 2
    assert sizes[0] == 8 and sizes[-1] <= 6
    with pytest.raises(ValueError, match="auto_find_batch_size can't lower a batch of relations_per_batch x sent"):
        scl_trainer(model, dataset, processor, tmp_path, auto_find_batch_size=True)


def test_halves_of_a_batch_are_not_a_batch(
    model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="gradient_accumulation_steps must be 1"):
        scl_trainer(model, dataset, processor, tmp_path, gradient_accumulation_steps=2)


def test_accumulated_stage_1_batches_are_one(
    model: TKREForPreTraining, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    """The loss is averaged over the step's masked tokens, however many batches they came in."""
    model.save_pretrained(tmp_path)
    weights = []
    for size, steps in ((48, 1), (12, 4)):
        stage1 = TKREForMaskedSpanLM.from_pretrained(tmp_path)
        args = MSLMTrainingArguments(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            optim="sgd",
            max_grad_norm=0.0,
            warmup_steps=0,
            **COMMON,
        )
        MSLMTrainer(stage1, args, dataset, processor).train()
        weights.append(stage1.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-6, rtol=1e-5)


def test_warm_up_may_be_a_share_of_all_steps(tmp_path: Path) -> None:
    args = SCLTrainingArguments(output_dir=str(tmp_path), warmup_steps=0.1, use_cpu=True)
    assert args.get_warmup_steps(200) == 20
    assert SCLTrainingArguments(output_dir=str(tmp_path), warmup_steps=7, use_cpu=True).get_warmup_steps(200) == 7


def test_bfloat16_is_what_the_processor_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bf16(**settings: Any) -> bool:
        return MSLMTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **settings).bf16

    for has in (True, False):
        monkeypatch.setattr("tkre_hf.tkre.training_args.bf16_supported", lambda *_, has=has: has)
        monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
        assert bf16() is has
        monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
        assert (bf16(bf16=True), bf16(bf16=False)) == (True, False)
    monkeypatch.setattr("tkre_hf.tkre.training_args.bf16_supported", lambda *_: True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # the launcher has seen to it
    assert bf16() is False


def test_checkpointed_activations_let_parameters_be_unused(tmp_path: Path) -> None:
    for kind in (MSLMTrainingArguments, SCLTrainingArguments, RelationTrainingArguments):
        args = kind(output_dir=str(tmp_path), use_cpu=True, gradient_checkpointing=True)
        assert args.ddp_find_unused_parameters is True
        assert args.gradient_checkpointing_kwargs == {"use_reentrant": False}
        plain = kind(output_dir=str(tmp_path), use_cpu=True)
        assert (plain.ddp_find_unused_parameters, plain.gradient_checkpointing_kwargs) == (None, None)
    asked = {"ddp_find_unused_parameters": False, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    args = SCLTrainingArguments(output_dir=str(tmp_path), use_cpu=True, gradient_checkpointing=True, **asked)
    assert {name: getattr(args, name) for name in asked} == asked
    # Autograd that is entered again marks a parameter twice, which DDP takes for an error if it looks for unused ones.
    del asked["ddp_find_unused_parameters"]
    args = SCLTrainingArguments(output_dir=str(tmp_path), use_cpu=True, gradient_checkpointing=True, **asked)
    assert not args.ddp_find_unused_parameters
