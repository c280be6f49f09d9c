"""How a stage was trained, in words that go out into the world with its checkpoint."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from tkre_hf.hub.sources import MINILM_ID
from tkre_hf.training_data import MINILM

# Settings of a stage that a summary tells otherwise, or that say where things lie.
_TOLD_OTHERWISE = frozenset(
    "sources add_sources data_dir backbone checkpoint revision trust_remote_code relation_info validation network "
    "hold_out_links model valid_links test_links exclude_relations".split()
)
# Of transformers' own settings those that say how a model was trained.
_GENERAL = (
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "weight_decay",
    "warmup_steps",
    "seed",
)
# Settings of ours that say how a run is reported, or nothing at all.
_SILENT = frozenset(("report_to", "remove_unused_columns", "hub_strategy", "per_device_eval_batch_size", "bf16"))


def stage_settings(args: Any, training_args: TrainingArguments) -> dict[str, Any]:
    """How a stage was trained: of its settings those that count, and none that says where something lies.

    Args:
        args: What is trained, and on what: a dataclass; of its settings those that differ from the default. ``None``
            where a Trainer is all there is.
        training_args: How; the settings that our own class has, and the general ones.

    Returns:
        Values that JSON has, by the settings' names.
    """
    found = {
        entry.name: getattr(args, entry.name)
        for entry in (fields(args) if args is not None else ())
        if entry.name not in _TOLD_OTHERWISE and getattr(args, entry.name) != _default(entry)
    }
    general = {entry.name for entry in fields(TrainingArguments)}
    own = [entry.name for entry in fields(training_args) if entry.name not in general]
    for name in (*_GENERAL, *own):
        found[name] = getattr(training_args, name)
    if found["max_steps"] > 0:
        del found["num_train_epochs"]
    else:
        del found["max_steps"]
    if "relations_per_batch" in found:
        # They say how large a batch of stage 2 is.
        del found["per_device_train_batch_size"], found["gradient_accumulation_steps"]
    # transformers 4 keeps the share apart from the number of steps.
    found["warmup_steps"] = getattr(training_args, "warmup_ratio", 0) or found["warmup_steps"]
    found["precision"] = "bfloat16" if training_args.bf16 else "float16" if training_args.fp16 else "float32"
    return {name: value for name, value in found.items() if name not in _SILENT and value is not None}


def _default(entry: Field[Any]) -> Any:
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default


def base_model(name: str) -> str | None:
    """The Hub id of an encoder or checkpoint; ``None`` of a folder, which nobody else has."""
    if name == MINILM:
        return MINILM_ID
    return None if Path(name).exists() else name
