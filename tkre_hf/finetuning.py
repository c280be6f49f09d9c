"""K-shot fine-tuning, from settings to a saved classifier."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from tkre_hf.data import load_split
from tkre_hf.data.kshot import draw_kshot
from tkre_hf.data.moved import with_moved_marks
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.kshot import load_classifier, trainer_metrics
from tkre_hf.hub.marks import CARD
from tkre_hf.hub.model_card import write_card
from tkre_hf.hub.trainers import RelationTrainer
from tkre_hf.places import without_folders
from tkre_hf.sharding import refuse_sharding
from tkre_hf.tkre.adapters import add_adapter, count_trained
from tkre_hf.tkre.embedding import embed_anchors, embed_records
from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
from tkre_hf.tkre.modeling_parts import relation_prototypes, relation_states
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords, sample_per_label
from tkre_hf.tkre.training_args import RelationTrainingArguments
from tkre_hf.training import (
    StageTrainer,
    build,
    encode_records,
    find_checkpoint,
    settings_errors,
    train_stage,
)
from tkre_hf.training_data import (
    RelationStageArguments,
    TrainingSummary,
    load_training_records,
    relation_texts,
    training_summary,
)

logger = logging.getLogger(__name__)

ADAPTER = "adapter"

# Rows whose mean length stands for that of all: it hardly varies.
_ROWS_FOR_LENGTH = 64


def train_relations(args: RelationStageArguments, training_args: RelationTrainingArguments) -> Path:
    """Fine-tunes a classifier of relations on labelled rows.

    Args:
        args: What is trained, and on what.
        training_args: How. ``resume_from_checkpoint`` is a checkpoint's folder, or ``auto`` for the last whole one.

    Returns:
        ``training_args.output_dir``, which holds the classifier, the processor, ``train_results.json`` and
        ``training_data.json``; with an adapter the classifier with the adapter's weights merged into it, and the
        adapter alone in the folder ``adapter``.

    Raises:
        TkreError: A setting or a row is wrong, or the folder holds another run's work.
    """
    resume = find_checkpoint(training_args)
    data = load_training_records(args, training_args)
    if args.moved_marks:
        records = with_moved_marks(data.records, args.na_label, args.moved_marks, training_args.seed)
        data = replace(data, records=records, groups=np.zeros(len(records), dtype=np.int64))
    labels = sorted(set(data.records["relation"]))
    if args.na_label is not None and args.na_label not in labels:
        raise TkreError(f"na_label is {args.na_label!r}, but no training row has this relation")
    processor, model = build(
        TKREForRelationClassification,
        args,
        training_args,
        data.records,
        args.init_seed,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        na_label=args.na_label,
    )
    dataset = encode_records(data.records, processor, labels)
    initialise_classifier(model, processor, dataset, args, training_args)
    validation = _validation(args, data.records, labels)
    eval_dataset = encode_records(validation, processor, labels) if validation is not None else None
    if eval_dataset is not None:
        _choose_best_epoch(training_args)
    _lengthen(training_args, len(dataset))
    with settings_errors():
        trainer = RelationTrainer(
            _with_adapter(model, args) if args.adapter else model,
            training_args,
            dataset,
            processor,
            eval_dataset,
            compute_metrics=trainer_metrics(labels, args.na_label),
        )
        trainer.batch_sampler()
    if args.adapter:
        refuse_sharding(trainer, f"an encoder with {args.adapter}")
    trained, total = count_trained(trainer.model)
    logger.info("%d of %d parameters are trained (%.1f%%)", trained, total, 100 * trained / total)
    return train_stage(trainer, args, data, resume, _merge_adapter if args.adapter else None)


def average_classifiers(folders: Sequence[Path], output: Path) -> None:
    """Saves a classifier whose weights are the mean of those of several, with a processor, a summary and a card.

    All were fine-tuned from the same weights with different seeds: their mean is one model, as fast as each, and
    mostly better ("model soups", Wortsman et al., ICML 2022).

    Args:
        folders: Where they are.
        output: Where the mean goes.

    Raises:
        TkreError: One can't be loaded.
    """
    model, processor = load_classifier(str(folders[0]))
    total = {name: value.double() for name, value in model.state_dict().items()}
    for folder in folders[1:]:
        for name, value in load_classifier(str(folder))[0].state_dict().items():
            total[name] += value
    # Loading rounds each to its own type again.
    model.load_state_dict({name: value / len(folders) for name, value in total.items()})
    model.save_pretrained(output)
    processor.save_pretrained(output)
    summaries = [training_summary(folder) for folder in folders]
    last = [summary.stages[-1] for summary in summaries if summary is not None]
    assert summaries[0] is not None
    settings = {**(last[0].get("settings") or {}), "averaged": len(folders)}
    stage = {**last[0], "minutes": round(sum(each["minutes"] for each in last), 2), "settings": settings}
    TrainingSummary([*summaries[0].stages[:-1], stage]).write(output)
    write_card(output)


def initialise_classifier(
    model: TKREForRelationClassification,
    processor: TKREProcessor,
    dataset: EncodedRecords,
    args: RelationStageArguments,
    training_args: RelationTrainingArguments,
) -> None:
    """Lets the classes of a classifier start from what stage 2 knows of their relations.

    Raises:
        TkreError: A file of names and descriptions is missing or wrong.
    """
    if args.classifier_init == "random":
        return
    info = relation_texts(args, dataset.relations)
    with torch.autocast(training_args.device.type, torch.bfloat16, enabled=bool(training_args.bf16)):
        model.to(training_args.device)  # type: ignore[arg-type]
        vectors = embed_anchors(model.base, processor, list(info.values()))
        if args.classifier_init == "supports":
            embeds = embed_records(model.base, processor, dataset)
            # Of every relation as many, repeated where there are fewer.
            count = max(Counter(dataset.labels.tolist()).values())
            rows = [torch.from_numpy((dataset.labels == i).nonzero()[0]) for i in range(len(dataset.relations))]
            places = torch.stack([row[torch.arange(count) % len(row)] for row in rows])
            vectors = relation_prototypes(embeds[places], vectors)
        length = _mean_length(model, processor, dataset)
    model.set_class_vectors(vectors.to(training_args.device), length)


@torch.inference_mode()
def _mean_length(model: TKREForRelationClassification, processor: TKREProcessor, dataset: EncodedRecords) -> float:
    """Mean length of relation representations before they are brought to length one."""
    model.eval()
    rows = sample_per_label(dataset.labels, max(1, _ROWS_FOR_LENGTH // len(dataset.relations)), 0)
    inputs = {k: v.to(model.device) for k, v in processor.pad([dataset[int(i)]["input_ids"] for i in rows]).items()}
    hidden = model.base.encode(**inputs)
    spans = torch.from_numpy(dataset.entity_spans[rows]).to(model.device)
    states = relation_states(hidden, inputs["attention_mask"], spans)
    return float(model.base.relation_projection(states).float().norm(dim=-1).mean())


def _validation(args: RelationStageArguments, records: Dataset, labels: Sequence[str]) -> Dataset | None:
    """The K-shot development set: as many rows of each relation as most relations have training rows."""
    if args.validation is None:
        return None
    rows = load_split(args.validation, "validation", data_dir=args.data_dir)
    known, total = set(labels), len(rows)
    rows = rows.select([i for i, label in enumerate(rows["relation"]) if label in known])
    if not len(rows):
        raise TkreError(f"validation: {args.validation} has no row of the relations trained on")
    if len(rows) < total:
        logger.warning("validation: %d of %d rows are of relations that are not trained on", total - len(rows), total)
    gold = Counter(
        label for label, source in zip(records["relation"], records["source"], strict=True) if source == "gold"
    )
    if args.validation_k is None and not gold:
        raise TkreError(
            "validation: no training row is a labelled one, but all are samples; say with validation_k how many rows "
            "of each relation to validate on"
        )
    # As most relations have, for the class without a relation may have more; of two such numbers the smaller.
    numbers = Counter(gold.values())
    k = args.validation_k or min(numbers, key=lambda number: (-numbers[number], number))
    return draw_kshot(rows, k, args.validation_seed, allow_fewer=True).select(rows)


def _lengthen(training_args: RelationTrainingArguments, rows: int) -> None:
    """Adds passes where rows are so few that there would be fewer steps than ``min_steps``."""
    batch = (
        training_args.per_device_train_batch_size
        * training_args.world_size
        * training_args.gradient_accumulation_steps
    )
    passes = math.ceil(training_args.min_steps / math.ceil(rows / batch))
    if training_args.max_steps <= 0:
        training_args.num_train_epochs = max(training_args.num_train_epochs, passes)


def _choose_best_epoch(training_args: RelationTrainingArguments) -> None:
    """Has the Trainer measure after every epoch and keep the best; a tie goes to the earlier one."""
    training_args.eval_strategy, training_args.save_strategy = IntervalStrategy.EPOCH, SaveStrategy.EPOCH
    training_args.load_best_model_at_end = True
    training_args.metric_for_best_model, training_args.greater_is_better = "f1", True
    training_args.save_total_limit = 2


def _with_adapter(model: TKREForRelationClassification, args: RelationStageArguments) -> Any:
    assert args.adapter is not None
    if args.checkpoint is None:
        raise TkreError(
            f"adapter is {args.adapter}, but there is no checkpoint: an adapter is loaded onto the one it was trained "
            "on, so give a stage's with --checkpoint"
        )
    try:
        adapted = add_adapter(model, args.adapter, args.adapter_rank, args.adapter_alpha, args.adapter_dropout)
    except ImportError as error:
        raise TkreError("an adapter needs peft: pip install 'tkre-hf[peft]'") from error
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = without_folders(args.checkpoint)
    return adapted


def _merge_adapter(trainer: StageTrainer, folder: Path) -> None:
    """Puts the adapter alone into a folder of its own, and the classifier with its weights in its place."""
    adapted: Any = trainer.accelerator.unwrap_model(trainer.model)
    adapted.save_pretrained(folder / ADAPTER)
    adapted.base_model.model.config.save_pretrained(folder / ADAPTER)
    # PEFT's own card is a form to fill in, and says where the checkpoint lay on this machine.
    (folder / ADAPTER / CARD).unlink(missing_ok=True)
    for name in ("adapter_model.safetensors", "adapter_config.json", CARD):
        (folder / name).unlink(missing_ok=True)
    adapted.merge_and_unload().save_pretrained(folder)
