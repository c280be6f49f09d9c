"""Settings of pre-training, over ``TrainingArguments``: each field is an option of the recipe that uses it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from tkre_hf.epoch_loader import refuse_other_batches, refuse_smoothing
from tkre_hf.precision import bf16_supported

from .masking import HIDDEN_SHARE, REPLACED_SHARE
from .pairs import NEGATIVES


@dataclass
class PFHINTrainingArguments(TrainingArguments):
    """How PF-HIN is pre-trained. The defaults are first choices: docs/results/pfhin.md tells what was measured."""

    learning_rate: float = field(default=2e-3, metadata={"help": "Peak learning rate."})
    embedding_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the node embeddings; that of the rest by default."}
    )
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of matrices but embeddings."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Warm-up: a number of steps, or below 1 their share of all steps."}
    )
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Pairs of nodes per process and step."})
    mask_rate: float = field(
        default=0.3,
        metadata={
            "help": "Share of nodes that masked node modeling asks for. 0.15 is usual in texts; the figures of "
            "docs/results/pfhin.md are measured with 0.3."
        },
    )
    hidden_share: float = field(default=HIDDEN_SHARE, metadata={"help": "Share of these that are hidden."})
    replaced_share: float = field(
        default=REPLACED_SHARE, metadata={"help": "Share of these that another node of the type stands in for."}
    )
    negatives: list[str] = field(
        default_factory=lambda: list(NEGATIVES),
        metadata={"help": f"Kinds of nodes that aren't adjacent, drawn alike, of: {', '.join(NEGATIVES)}."},
    )
    sampled_softmax_above: int = field(
        default=100_000,
        metadata={
            "help": "With more nodes, masked ones are told from a sample of their type, and label_smoothing has no "
            "effect."
        },
    )
    num_sampled: int = field(default=1024, metadata={"help": "Nodes of that sample, for each type."})
    hub_strategy: str = field(
        default="end", metadata={"help": "When the model is published, with push_to_hub: end, and nothing else."}
    )
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Where to report to: none, tensorboard, wandb, trackio …"}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Leave off: the collator reads nodes."})

    bf16: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "bfloat16 autocast; by default where the processor or the GPU has it, unless the launcher or fp16 "
            "says otherwise."
        },
    )

    def __post_init__(self) -> None:
        refuse_other_batches(self)
        refuse_smoothing(self)
        if self.bf16 is None:
            launcher = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
            self.bf16 = launcher == "no" and not self.fp16 and bf16_supported(self.use_cpu)
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        # transformers 4 keeps the share apart from the number of steps.
        if hasattr(TrainingArguments, "warmup_ratio") and 0 < self.warmup_steps < 1:
            self.warmup_ratio, self.warmup_steps = self.warmup_steps, 0
        super().__post_init__()
