"""What a node's embedding consists of (``embedding.embed_blocks``): blocks, their weights, and how to choose these.

A linear classifier scales each column, so that weights mean little to it; cosines, and so clusters and similarity
search, take blocks by their weights. Which count differs between networks: where a class is told by how many edges of
which type a node has, ``profile`` does, and where it is told by whom it has edges with, it drowns the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from .configuration_pfhin import PFHINConfig

# What an embedding may consist of: see ``embedding.embed_blocks``.
BLOCKS = ("ids", "profile", "context", "state", "pooled")

# Weights to choose from.
WEIGHTS = (0.0, 0.25, 0.5, 1.0)


def default_blocks(config: PFHINConfig) -> dict[str, float]:
    """The blocks that a model's embeddings consist of, and their weights, as docs/results/pfhin.md measures them."""
    profile = {"profile": 1.0} if config.profile else {}
    if config.num_nodes:
        return {"ids": 0.5, **profile, "context": 0.5}
    return {"state": 0.5, **profile, "pooled": 0.5}


def check_blocks(blocks: Mapping[str, float], config: PFHINConfig) -> None:
    """Refuses blocks that a model hasn't got, and weights that are none.

    Raises:
        ValueError: There are such, or no block at all.
    """
    unknown = [name for name in blocks if name not in BLOCKS]
    if unknown or not blocks:
        raise ValueError(f"blocks must be of {', '.join(BLOCKS)}, found {', '.join(unknown) or 'none'}")
    for name, weight in blocks.items():
        if not 0 < weight < float("inf"):
            raise ValueError(f"the block {name} weighs {weight!r}: expected a number above 0")
    if "ids" in blocks and not config.num_nodes:
        raise ValueError("the model has no node embeddings: leave out the block ids")
    if "profile" in blocks and not config.profile:
        raise ValueError("the model reads no profiles: leave out the block profile")


def choose_blocks(
    blocks: Mapping[str, NDArray[np.float32]], labels: NDArray[np.int64], most: int = 1000, seed: int = 0
) -> dict[str, float]:
    """The weights with which cosines best tell nodes of one label from nodes of two (AUC of all pairs).

    Args:
        blocks: Each block of labelled nodes with the weight 1, ``(nodes, size)``: none of the nodes that are to be
            measured.
        labels: Of these nodes, ``(nodes,)``.
        most: Of more nodes some of each label are drawn, for time and memory grow with the square of their number.
        seed: Of what is drawn.

    Returns:
        The blocks that count, and their weights; of weights that tell alike the first in the order of ``WEIGHTS``.

    Raises:
        ValueError: All nodes have one label, or each its own.
    """
    if len(labels) > most:
        rng, kinds = np.random.default_rng(seed), np.unique(labels)
        room = max(2, most // len(kinds))
        kept = np.concatenate([rng.permutation(np.flatnonzero(labels == kind))[:room] for kind in kinds])
        labels, blocks = labels[kept], {name: vectors[kept] for name, vectors in blocks.items()}
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    if same.all() or not same.any():
        raise ValueError("blocks are chosen on nodes of several labels, some of them of one: there are none such")
    grams = {name: vectors.astype(np.float64) @ vectors.T for name, vectors in blocks.items()}
    best: tuple[float, dict[str, float]] | None = None
    for weights in itertools.product(WEIGHTS, repeat=len(grams)):
        # Twice the weights are the same cosines.
        if max(weights) < max(WEIGHTS):
            continue
        total = sum(weight**2 * gram for weight, gram in zip(weights, grams.values(), strict=True))
        length = np.sqrt(np.maximum(np.diag(np.asarray(total)), 1e-12))
        cosines = (total / length / length[:, None])[first, second]
        auc = float(roc_auc_score(same, cosines))
        if best is None or auc > best[0] + 1e-9:
            best = auc, {name: weight for name, weight in zip(grams, weights, strict=True) if weight}
    assert best is not None
    return best[1]
