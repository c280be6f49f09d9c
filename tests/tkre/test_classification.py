"""The classifier of relations: what it starts from, what it returns, its trainer and its adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tkre_hf.tkre.adapters import ADAPTERS, add_adapter, count_trained, load_adapter
from tkre_hf.tkre.data_collator import RelationCollator
from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
from tkre_hf.tkre.modeling_parts import unit
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords
from tkre_hf.tkre.trainer import RelationTrainer
from tkre_hf.tkre.training_args import RelationTrainingArguments

from .test_trainer import COMMON

Make = Callable[..., TKREForRelationClassification]


@pytest.fixture
def dataset(processor: TKREProcessor, records: list[dict[str, Any]]) -> EncodedRecords:
    return EncodedRecords(records, processor)


@pytest.fixture
def checkpoint(model: TKREForPreTraining, tmp_path: Path) -> Path:
    """Stage 2's checkpoint."""
    model.save_pretrained(tmp_path / "stage2")
    return tmp_path / "stage2"


@pytest.fixture
def make(checkpoint: Path, dataset: EncodedRecords) -> Make:
    """Makes a classifier of the corpus' relations from stage 2's checkpoint."""

    def make(**settings: Any) -> TKREForRelationClassification:
        torch.manual_seed(0)
        labels = dict(enumerate(dataset.relations))
        label2id = {label: i for i, label in labels.items()}
        return TKREForRelationClassification.from_pretrained(
            checkpoint, **{"id2label": labels, "label2id": label2id, **settings}
        ).eval()

    return make


def batch_of(dataset: EncodedRecords, processor: TKREProcessor, count: int = 8) -> dict[str, torch.Tensor]:
    return RelationCollator(processor)([dataset[i * 5 % len(dataset)] for i in range(count)])


def relation_trainer(
    model: Any, dataset: EncodedRecords, processor: TKREProcessor, folder: Path, **settings: Any
) -> RelationTrainer:
    kwargs = {name: settings.pop(name) for name in ("model_init", "eval_dataset") if name in settings}
    args = RelationTrainingArguments(
        output_dir=str(folder), **{"max_steps": 3, "per_device_train_batch_size": 12, **COMMON, **settings}
    )
    return RelationTrainer(model, args, dataset, processor, **kwargs)


@pytest.mark.parametrize("turned", [False, True])
def test_from_anchors_it_is_the_zero_shot_classifier(
    turned: bool, make: Make, dataset: EncodedRecords, processor: TKREProcessor
) -> None:
    """A linear layer gives the cosines that few-shot use compares by, up to each sentence's own length."""
    model = make()
    if turned:
        model.base.turn(torch.diag(torch.linspace(0.5, 2, model.config.projection_dim)))
    model.base.relation_projection.bias.data.normal_()
    anchors = torch.randn(6, model.config.projection_dim)
    model.set_class_vectors(anchors, length=1.0)
    batch = batch_of(dataset, processor)
    del batch["labels"]
    with torch.no_grad():
        logits, outputs = model(**batch).logits, model.tkre(**batch)
    cosine = outputs.relation_embeds @ unit(anchors).T / model.config.tau
    torch.testing.assert_close(logits / logits.norm(dim=1, keepdim=True), cosine / cosine.norm(dim=1, keepdim=True))


def test_padding_and_order_of_a_batch_change_nothing(
    make: Make, dataset: EncodedRecords, processor: TKREProcessor
) -> None:
    model, collator = make(), RelationCollator(processor)
    rows = [dataset[i] for i in range(12)]
    with torch.no_grad():
        together = model(**collator(rows)).logits
        reversed_ = model(**collator(rows[::-1])).logits.flip(0)
        alone = torch.cat([model(**collator([row])).logits for row in rows])
    torch.testing.assert_close(reversed_, together)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_loss_is_cross_entropy_and_may_be_a_part_of_a_larger_batch(
    make: Make, dataset: EncodedRecords, processor: TKREProcessor
) -> None:
    model, batch = make(), batch_of(dataset, processor)
    with torch.no_grad():
        outputs = model(**batch)
        expected = torch.nn.functional.cross_entropy(outputs.logits, batch["labels"])
        torch.testing.assert_close(outputs.loss, expected)
        torch.testing.assert_close(model(**batch, num_items_in_batch=16).loss, expected / 2)


def test_it_says_what_is_missing(make: Make, dataset: EncodedRecords, processor: TKREProcessor) -> None:
    batch = batch_of(dataset, processor)
    del batch["entity_spans"]
    with pytest.raises(ValueError, match="entity_spans"):
        make()(**batch)
    with pytest.raises(ValueError, match="na_label is 'Other', which is none of the 6 labels"):
        make(na_label="Other")


def test_saved_and_loaded_by_the_auto_class(
    make: Make, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    model = make(na_label="mother")
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert type(loaded) is TKREForRelationClassification
    assert loaded.config.id2label == model.config.id2label and loaded.config.na_label == "mother"
    batch = batch_of(dataset, processor)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits)
    assert (tmp_path / "saved" / "modeling_classification.py").exists()


def test_trainer_learns_and_evaluates(
    make: Make, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    trainer = relation_trainer(
        make(),
        dataset,
        processor,
        tmp_path / "out",
        max_steps=120,
        eval_dataset=dataset,
        learning_rate=3e-3,
        head_learning_rate=1e-2,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    predictions = trainer.predict(dataset)
    assert trainer.evaluate()["eval_loss"] < 0.3 * before
    assert predictions.predictions.shape == (len(dataset), 6)
    assert (predictions.predictions.argmax(-1) == dataset.labels).mean() > 0.9


def test_accumulated_batches_are_one(
    make: Make, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    weights = []
    for size, steps in ((48, 1), (12, 4)):
        model = make()
        trainer = relation_trainer(
            model,
            dataset,
            processor,
            tmp_path,
            max_steps=1,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            optim="sgd",
            max_grad_norm=0.0,
            warmup_steps=0,
        )
        trainer.train()
        weights.append(model.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-6, rtol=1e-5)


def test_hyperparameters_can_be_searched(
    make: Make, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    trainer = relation_trainer(
        None, dataset, processor, tmp_path, model_init=lambda trial=None: make(), eval_dataset=dataset, max_steps=4
    )
    rates: list[tuple[float, float]] = []

    def space(trial: Any) -> dict[str, Any]:
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        head = trial.suggest_float("head_learning_rate", 1e-3, 1e-1, log=True)
        rates.append((rate, head))
        return {"learning_rate": rate, "head_learning_rate": head}

    best = trainer.hyperparameter_search(
        hp_space=space,
        n_trials=3,
        direction="minimize",
        compute_objective=lambda metrics: metrics["eval_loss"],
        backend="optuna",
    )
    assert len(set(rates)) == 3
    assert (best.hyperparameters["learning_rate"], best.hyperparameters["head_learning_rate"]) in rates
    # Both rates reach the optimizer of the last trial.
    found = {group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert found == set(rates[-1])


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_is_saved_alone_and_loaded_merged_and_not(
    kind: str, make: Make, checkpoint: Path, dataset: EncodedRecords, processor: TKREProcessor, tmp_path: Path
) -> None:
    model = make()
    frozen = {name: weight.clone() for name, weight in model.state_dict().items()}
    adapted = add_adapter(model, kind, rank=4)
    trained, total = count_trained(adapted)
    assert 0 < trained < total / 2
    relation_trainer(adapted, dataset, processor, tmp_path / "out", max_steps=5, learning_rate=1e-2).train()
    adapted.save_pretrained(tmp_path / "adapter")
    model.config.save_pretrained(tmp_path / "adapter")

    # Nothing of the encoder has moved, and the adapter has.
    base = adapted.get_base_model().state_dict()
    for name, weight in frozen.items():
        if not name.startswith("classifier"):
            inside = next(key for key in base if key.replace(".base_layer", "") == name)
            torch.testing.assert_close(base[inside], weight)
    batch = batch_of(dataset, processor)
    adapted.eval()
    with torch.no_grad():
        expected = adapted(**batch).logits
        assert not torch.allclose(expected, make()(**batch).logits, atol=1e-3)
        loaded = load_adapter(tmp_path / "adapter", base=str(checkpoint), merge=False).eval()
        torch.testing.assert_close(loaded(**batch).logits, expected)
        merged = load_adapter(tmp_path / "adapter", base=str(checkpoint)).eval()
        assert type(merged) is TKREForRelationClassification
        torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-5, rtol=1e-4)


def test_an_unknown_adapter_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="there is no adapter 'prefix'; choose of lora, ia3"):
        add_adapter(make(), "prefix")
