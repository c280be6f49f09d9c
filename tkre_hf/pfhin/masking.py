"""Which nodes masked node modeling (MNM) hides: drawn from the seed, the epoch and the nodes' keys alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .hashing import Stream, hashed
from .walks import NONE

IntArray = NDArray[np.int64]

# Keeps a walk's and a mask's draws apart.
_MASK = 0x6D61736B

MASK_RATE, HIDDEN_SHARE, REPLACED_SHARE = 0.15, 0.8, 0.1


@dataclass(frozen=True)
class MaskedNodes:
    """What is hidden, each array ``(batch, seq_len)``.

    Args:
        shown: The node that each position shows: the one that stands there, or another of its type.
        hidden: Where nothing is shown.
        asked: Where the node is to be told.
    """

    shown: IntArray
    hidden: NDArray[np.bool_]
    asked: NDArray[np.bool_]


def mask_nodes(
    nodes: IntArray,
    keys: NDArray[np.uint64],
    node_type: NDArray[np.int16],
    by_type: list[IntArray],
    epoch: int,
    seed: int,
    rate: float = MASK_RATE,
    hidden_share: float = HIDDEN_SHARE,
    replaced_share: float = REPLACED_SHARE,
    salt: NDArray[Any] | int = 0,
) -> MaskedNodes:
    """Chooses the nodes that are asked for, at least one of each sequence: most hidden, some replaced, the rest shown.

    Args:
        nodes: Node numbers, ``(batch, seq_len)``, -1 at padding; position 0 is the sequence's own.
        keys: The graph's.
        node_type: The graph's.
        by_type: The nodes of each type, in the order of keys.
        epoch: Another epoch hides others.
        seed: Of the run.
        rate: Share of nodes asked for.
        hidden_share: Share of these that are hidden.
        replaced_share: Share of these that another node of the type stands in for; the rest are shown as they are.
        salt: Tells apart sequences of one node in an epoch, ``(batch, 1)``.

    Raises:
        ValueError: A share is none.
    """
    if not 0 < rate <= 1 or hidden_share < 0 or replaced_share < 0 or hidden_share + replaced_share > 1:
        raise ValueError(
            f"expected a rate in (0, 1] and shares that sum to at most 1, found {rate}, {hidden_share} and "
            f"{replaced_share}"
        )
    valid = nodes != NONE
    safe = np.maximum(nodes, 0)
    draws = Stream(hashed(_MASK, seed, epoch, keys[safe[:, :1]], salt, keys[safe]))
    chance = np.where(valid, draws(), 2.0)
    asked = chance < rate
    asked[np.arange(len(nodes)), chance.argmin(1)] = True
    kind = draws()
    hidden = asked & (kind < hidden_share)
    replaced = asked & ~hidden & (kind < hidden_share + replaced_share)
    shown = nodes.copy()
    rows, columns = np.nonzero(replaced)
    if len(rows):
        draw = draws()[rows, columns]
        types = node_type[nodes[rows, columns]]
        for type in np.unique(types):
            mine = types == type
            pool = by_type[type]
            shown[rows[mine], columns[mine]] = pool[(draw[mine] * len(pool)).astype(np.int64)]
    return MaskedNodes(shown, hidden, asked)
