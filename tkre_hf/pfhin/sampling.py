"""The order in which nodes are drawn: batches that depend on the seed, the epoch and the nodes' keys alone.

A sampler knows its rank: it lays out each global batch and yields its own share, so that two processes see together
what one would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, Dataset

Key = tuple[int, int, int]


class KeyDataset(Dataset[Key]):
    """Gives back what it is asked for: the collator makes a batch of it.

    Args:
        size: How many nodes an epoch has.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: Any) -> Any:
        return key


class EpochBatchSampler(BatchSampler):
    """Batches of nodes in an order that another epoch draws anew; what is left over at its end is left out.

    Args:
        nodes: In an order that doesn't depend on their numbers.
        batch_size: Of a global batch, all processes together; a multiple of their number.
        seed: Of the order.
        rank: Of this process.
        world_size: How many there are.

    Raises:
        ValueError: There are fewer nodes than in a batch, or it is no multiple of the number of processes.
    """

    def __init__(
        self, nodes: NDArray[np.int64], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size % world_size:
            raise ValueError(f"a batch of {batch_size} can't be shared by {world_size} processes alike")
        if len(nodes) < batch_size:
            raise ValueError(f"a batch of {batch_size} is more than the {len(nodes)} nodes there are")
        self.nodes, self.batch_size = nodes, batch_size
        self.seed, self.rank, self.world_size, self.epoch = seed, rank, world_size, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.nodes) // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:  # type: ignore[override]
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.nodes))
        per_process = self.batch_size // self.world_size
        for i in range(len(self)):
            begin = i * self.batch_size + self.rank * per_process
            step = self.epoch * len(self) + i
            yield [(int(self.nodes[row]), self.epoch, step) for row in order[begin : begin + per_process]]
