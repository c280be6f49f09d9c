"""Links held out of a network, with false ones beside them: what a model of its nodes is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tkre_hf.errors import TkreError

from .hin import HINTables, Links
from .hin_tables import write_table

IntArray = NDArray[np.int64]

PARTS = ("valid", "test")

# How often another end is drawn for a false link that turned out to be an edge.
_TRIES = 20


def draw_links(tables: HINTables, share: float = 0.05, seed: int = 0) -> dict[str, Links]:
    """Draws links to choose settings on, and others to measure on; each with a false link beside it.

    What is drawn are pairs of nodes, with all edges between the two, whatever their type and direction: an edge back
    would give the answer away. A false link has one end of a true one, and at the other that of another true link of
    its type, which has lost an edge as well: so neither types nor degrees tell the two apart; no edge joins its ends.
    Where the part has no such node, one is taken from all edges of the type, and where there is none of these either
    the true link has no false one beside it.

    Args:
        tables: The network.
        share: Of its pairs of nodes, for each of the two parts.
        seed: Another one, other links.

    Returns:
        ``valid`` and ``test``.

    Raises:
        TkreError: The share is out of its range, or there are too few edges.
    """
    if not 0 < share < 0.5:
        raise TkreError(f"share is {share}: expected more than 0 and less than 0.5, for two parts are held out")
    if seed < 0:
        raise TkreError(f"seed is {seed}: expected a whole number, at least 0")
    rng = np.random.default_rng(seed)
    triples = np.unique(np.stack([tables.src, tables.edge_type, tables.dst], axis=1), axis=0)
    size = len(tables.node_ids)
    pairs, of_pair = np.unique(_codes(triples[:, 0], triples[:, 2], size), return_inverse=True)
    count = round(share * len(pairs))
    if not count:
        raise TkreError(
            f"{len(pairs)} pairs of nodes have an edge, of which a share of {share} is none: give a larger one"
        )
    if 2 * count >= len(pairs):
        raise TkreError(
            f"two shares of {share} are all {len(pairs)} pairs of nodes with an edge, and nothing is left to train "
            "on: give a smaller one"
        )
    drawn = rng.permutation(len(pairs))
    found = {}
    for i, part in enumerate(PARTS):
        true = triples[np.isin(of_pair, drawn[i * count : (i + 1) * count])]
        # A node's edge to itself would tell: no false link is one.
        true = true[true[:, 0] != true[:, 2]]
        false = _false_links(true, triples, pairs, size, rng)
        rows = np.concatenate([true, false])
        found[part] = Links(rows[:, 0], rows[:, 2], rows[:, 1], np.repeat([1, 0], [len(true), len(false)]))
    return found


def _codes(one: IntArray, other: IntArray, size: int) -> IntArray:
    """A number for each pair of nodes, whichever comes first."""
    return np.minimum(one, other) * size + np.maximum(one, other)


def _false_links(true: IntArray, triples: IntArray, pairs: IntArray, size: int, rng: np.random.Generator) -> IntArray:
    """True links with another node at one end, which has one of them in the same place, or else an edge."""
    false = true.copy()
    column = np.where(rng.random(len(true)) < 0.5, 0, 2)
    open_ = np.arange(len(true))
    for donors in (true, triples):
        by_type = donors[np.argsort(donors[:, 1], kind="stable")]
        begins = np.searchsorted(by_type[:, 1], true[:, 1])
        ends = np.searchsorted(by_type[:, 1], true[:, 1], side="right")
        for _ in range(_TRIES):
            draw = begins[open_] + (rng.random(len(open_)) * (ends - begins)[open_]).astype(np.int64)
            false[open_, column[open_]] = by_type[draw, column[open_]]
            heads, tails = false[open_, 0], false[open_, 2]
            open_ = open_[np.isin(_codes(heads, tails, size), pairs) | (heads == tails)]
    return np.delete(false, open_, axis=0)


def write_links(tables: HINTables, links: Links, path: str | Path) -> None:
    """Writes links as :func:`read_links` reads them.

    Args:
        tables: The network that they are of.
        links: The links.
        path: Ends in ``.csv`` or ``.parquet``.
    """
    ids = np.array(tables.node_ids, dtype=object)
    columns: dict[str, Sequence[str]] = {
        "src": list(ids[links.src]),
        "dst": list(ids[links.dst]),
        "edge_type": [tables.edge_types[kind] for kind in links.edge_type],
        "label": [str(label) for label in links.label],
    }
    write_table(Path(path), columns)
