"""Settings of the stages and of fine-tuning, over ``TrainingArguments``: each field is an option of its recipe."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from tkre_hf.epoch_loader import refuse_other_batches, refuse_smoothing
from tkre_hf.precision import bf16_supported as bf16_supported

from .masking import CUE_RATE, ENTITY_RATE, OTHER_RATE


@dataclass
class TKRETrainingArguments(TrainingArguments):
    """What both stages share. The defaults are the ones measured in docs/results/fewrel.md."""

    head_learning_rate: float | None = field(
        default=1e-4,
        metadata={"help": "Learning rate of what stands on the encoder (projections, vocabulary head)."},
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate of the encoder."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of matrices."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Warm-up: a number of steps, or below 1 their share of all steps."}
    )
    hub_strategy: str = field(
        default="end", metadata={"help": "When the model is published, with push_to_hub: end, and nothing else."}
    )
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Where to report to: none, tensorboard, wandb, trackio …"}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Leave off: the collators read them all."})

    bf16: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "bfloat16 autocast; by default where the processor or the GPU has it, unless the launcher or fp16 "
            "says otherwise."
        },
    )

    def __post_init__(self) -> None:
        refuse_other_batches(self)
        if self.bf16 is None:
            launcher = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
            self.bf16 = launcher == "no" and not self.fp16 and bf16_supported(self.use_cpu)
        # transformers lets bfloat16 through on a processor only where that is asked for by name.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        # transformers 4 keeps the share apart from the number of steps.
        if hasattr(TrainingArguments, "warmup_ratio") and 0 < self.warmup_steps < 1:
            self.warmup_ratio, self.warmup_steps = self.warmup_steps, 0
        super().__post_init__()
        if self.gradient_checkpointing:
            self._checkpoint_activations()

    def _checkpoint_activations(self) -> None:
        """Lets several processes checkpoint activations, though a step may leave a parameter unused.

        transformers then has DDP expect them all, which only checkpointing that re-enters autograd needs. Nothing is
        set where nothing is checkpointed: a setting that has no effect would make a run another one.
        """
        given = self.gradient_checkpointing_kwargs
        if self.ddp_find_unused_parameters is None and not (isinstance(given, dict) and given.get("use_reentrant")):
            self.ddp_find_unused_parameters = True
        if given is None or isinstance(given, dict):
            self.gradient_checkpointing_kwargs = {"use_reentrant": False, **(given or {})}
            # What transformers 5 calls it.
            if hasattr(self, "activation_checkpointing_kwargs"):
                self.activation_checkpointing_kwargs = self.gradient_checkpointing_kwargs


@dataclass
class MSLMTrainingArguments(TKRETrainingArguments):
    """Settings of stage 1, masked span language modeling."""

    head_learning_rate: float | None = field(
        default=1e-3, metadata={"help": "Learning rate of what stands on the encoder; the vocabulary's head is new."}
    )
    cue_rate: float = field(default=CUE_RATE, metadata={"help": "Probability that a relation cue is masked."})
    entity_rate: float = field(default=ENTITY_RATE, metadata={"help": "Probability that an entity is masked."})
    other_rate: float = field(default=OTHER_RATE, metadata={"help": "Probability that any other word is masked."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Sentences per process and step."})


@dataclass
class RelationTrainingArguments(TKRETrainingArguments):
    """Settings of K-shot fine-tuning. The defaults are the ones measured in docs/results/kshot.md."""

    head_learning_rate: float | None = field(
        default=1e-3, metadata={"help": "Learning rate of what stands on the encoder: projection and classifier."}
    )
    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the training rows."})
    min_steps: int = field(
        default=240,
        metadata={"help": "Steps there are at least, in more passes where rows are few; 0: no such bound."},
    )
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Sentences per process and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Sentences evaluated at once."})


@dataclass
class SCLTrainingArguments(TKRETrainingArguments):
    """Settings of stage 2, span-level contrastive learning."""

    relations_per_batch: int = field(
        default=16, metadata={"help": "P: relations in a batch, over all processes; a multiple of their number."}
    )
    sentences_per_relation: int = field(default=3, metadata={"help": "K: sentences of each relation in a batch."})
    hard_share: float = field(
        default=0.8,
        metadata={"help": "Share of batches whose relations have like descriptions; 0 draws all at random."},
    )
    within_class_shrinkage: float | None = field(
        default=2.0,
        metadata={
            "help": "After training, let directions that vary within relations count less (WCCN), shrunk by this much "
            "of the identity; null leaves the space as it is."
        },
    )
    within_class_sentences: int = field(
        default=40, metadata={"help": "Sentences of each relation that this variation is measured on."}
    )
    num_irrelevant: int = field(default=4, metadata={"help": "Irrelevant spans drawn from each sentence."})

    def __post_init__(self) -> None:
        refuse_smoothing(self)
        if self.gradient_accumulation_steps != 1:
            raise ValueError(
                "gradient_accumulation_steps must be 1: the negatives are the batch's own, so two half batches are "
                "not one; use more processes, or gradient_checkpointing"
            )
        if self.auto_find_batch_size:
            raise ValueError(
                "auto_find_batch_size can't lower a batch of relations_per_batch x sentences_per_relation sentences: "
                "lower one of these, or use more processes, or gradient_checkpointing"
            )
        shrinkage = self.within_class_shrinkage
        if shrinkage is not None and (shrinkage < 0 or self.within_class_sentences < 2):
            raise ValueError(
                "within_class_shrinkage must not be below 0 and within_class_sentences not below 2, found "
                f"{shrinkage} and {self.within_class_sentences}"
            )
        super().__post_init__()
