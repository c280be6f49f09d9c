"""Batches that are laid out anew in each epoch, as the families' trainers load them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments

# The Trainer's settings of which sentences or nodes come together, each with the value that asks for nothing.
_OTHER_BATCHES = {
    "data_seed": None,
    "dataloader_drop_last": False,
    "group_by_length": False,
    "train_sampling_strategy": "random",
}


class EpochDataLoader(DataLoader[Any]):
    """A data loader that passes the epoch on to its batch sampler, as the Trainer asks of it."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def refuse_other_batches(args: TrainingArguments) -> None:
    """Raises where settings ask for batches that the samplers don't draw, rather than leave them without effect.

    Raises:
        ValueError: They do.
    """
    for name, nothing in _OTHER_BATCHES.items():
        value = getattr(args, name, nothing)
        if value != nothing:
            raise ValueError(
                f"{name} is {value!r}: leave it out, for seed and epoch alone say what a batch is made of"
            )


def refuse_smoothing(args: TrainingArguments) -> None:
    """Raises where settings ask the Trainer to smooth labels of a loss that isn't its own.

    Raises:
        ValueError: They do.
    """
    if args.label_smoothing_factor:
        raise ValueError(
            f"label_smoothing_factor is {args.label_smoothing_factor}: leave it out, for this loss has no labels that "
            "the Trainer could smooth"
        )


def epoch_loader(
    args: TrainingArguments, dataset: Dataset[Any], batches: Iterable[list[Any]], collator: Callable[[list[Any]], Any]
) -> EpochDataLoader:
    """Loads batches by the Trainer's settings of data loaders.

    Args:
        args: The settings, of which those count that say how many workers there are, how long they live and how far
            ahead they go, and whether memory is pinned.
        dataset: What is loaded.
        batches: The keys of each batch; a sampler with ``set_epoch`` for training.
        collator: Makes a batch of what is loaded.
    """
    return EpochDataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collator,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers and args.dataloader_num_workers > 0,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
