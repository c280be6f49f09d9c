"""Batches that are laid out anew in each epoch, as the families' trainers load them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments


class EpochDataLoader(DataLoader[Any]):
    """A data loader that passes the epoch on to its batch sampler, as the Trainer asks of it."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def epoch_loader(
    args: TrainingArguments, dataset: Dataset[Any], batches: Iterable[list[Any]], collator: Callable[[list[Any]], Any]
) -> EpochDataLoader:
    """Loads batches by the Trainer's settings of data loaders.

    Args:
        args: The settings, of which those count that begin with ``dataloader_`` and speak of workers and memory.
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
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
