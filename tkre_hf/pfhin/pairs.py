"""Pairs for adjacent node prediction (ANP): half of them adjacent, the others not, yet as like them as can be.

An adjacent pair is asked about only where both nodes have another neighbour too, for else the hidden edge would leave
a node alone and so give itself away; and negatives are drawn from the same nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .graph import HeteroGraph
from .hashing import Stream, hashed
from .walks import NONE

IntArray = NDArray[np.int64]

NEGATIVES = ("uniform", "type", "degree")

IGNORED = -100

# Keeps a walk's and a pair's draws apart.
_PAIR = 0x70616972

# How often a partner is drawn anew that won't do.
_TRIES = 6


class PairSampler:
    """Draws partners of nodes, from the seed, the epoch and the node's key alone.

    Args:
        graph: The graph.
        negatives: Kinds of nodes that aren't adjacent, drawn alike: ``uniform`` any; ``type`` of the type of a
            neighbour; ``degree`` an end of another edge of the type that leads to a neighbour, so that both its type
            and its degree are distributed as a neighbour's.
        seed: Of the run.

    Raises:
        ValueError: A kind is unknown, or there is none.
    """

    def __init__(self, graph: HeteroGraph, negatives: Sequence[str] = NEGATIVES, seed: int = 0) -> None:
        unknown = [kind for kind in negatives if kind not in NEGATIVES]
        if unknown or not negatives:
            raise ValueError(f"negatives must be of {', '.join(NEGATIVES)}, found {', '.join(negatives) or 'none'}")
        self.graph, self.seed = graph, seed
        self._kinds = np.array([NEGATIVES.index(kind) for kind in negatives])
        self._order = np.argsort(graph.place)
        by_type = np.lexsort((graph.place, graph.node_type))
        self._by_type = by_type
        self._type_start = np.searchsorted(graph.node_type[by_type], np.arange(len(graph.node_types) + 1))
        rows = graph.rows()
        # In an order that numbers have no part in.
        entries = np.lexsort((graph.place[rows], graph.edge_type))
        self._ends = graph.indices[entries].astype(np.int64)
        self._edge_start = np.searchsorted(graph.edge_type[entries], np.arange(2 * len(graph.edge_types) + 1))
        # Distinct neighbours but itself: they stand sorted, so equal ones stand together.
        fresh = np.ones(len(rows), bool)
        fresh[1:] = (graph.indices[1:] != graph.indices[:-1]) | (rows[1:] != rows[:-1])
        fresh &= graph.indices != rows
        self.askable = np.bincount(rows[fresh], minlength=graph.num_nodes) >= 2

    @property
    def by_type(self) -> list[IntArray]:
        """The nodes of each type, in the order of keys."""
        return np.split(self._by_type, self._type_start[1:-1])

    def draw(self, anchors: IntArray, epoch: int) -> tuple[IntArray, IntArray]:
        """A partner for each node.

        Args:
            anchors: Nodes, ``(pairs,)``.
            epoch: Another epoch draws others.

        Returns:
            Partners, and labels: 1 adjacent, 0 not, -100 where none was found that could be asked about.
        """
        graph = self.graph
        anchors = np.asarray(anchors, np.int64)
        draws = Stream(hashed(_PAIR, self.seed, epoch, graph.key[anchors]))
        positive = draws() < 0.5
        kind = self._kinds[(draws() * len(self._kinds)).astype(np.int64)]
        partner, done = np.full(len(anchors), NONE), np.zeros(len(anchors), bool)
        neighbor_type, edge_type = np.zeros(len(anchors), np.int64), np.zeros(len(anchors), np.int64)
        degree = graph.degree[anchors]
        fine = self.askable[anchors] & (degree > 0)
        if len(graph.indices):
            for _ in range(_TRIES):
                slot = graph.indptr[anchors] + (draws() * degree).astype(np.int64)
                slot = np.minimum(slot, len(graph.indices) - 1)
                node = graph.indices[slot].astype(np.int64)
                take = ~done & fine & self.askable[node] & (node != anchors)
                partner, done = np.where(take, node, partner), done | take
                neighbor_type = np.where(take, graph.node_type[node], neighbor_type)
                edge_type = np.where(take, graph.edge_type[slot], edge_type)
        # Without a neighbour to be like there is no negative either.
        found = done.copy()
        done = done & positive
        for _ in range(_TRIES):
            draw = draws()
            node = self._order[(draw * graph.num_nodes).astype(np.int64)]
            for of, pool, start, group in (
                (1, self._by_type, self._type_start, neighbor_type),
                (2, self._ends, self._edge_start, edge_type),
            ):
                mine = np.flatnonzero((kind == of) & found)
                low, high = start[group[mine]], start[group[mine] + 1]
                node[mine] = pool[low + (draw[mine] * (high - low)).astype(np.int64)]
            take = ~done & found & ~positive & self.askable[node] & (node != anchors)
            take[take] = ~graph.adjacent(anchors[take], node[take])
            partner, done = np.where(take, node, partner), done | take
            spare = node
        labels = np.where(done, positive.astype(np.int64), IGNORED)
        # What isn't asked about is read all the same, for its masked nodes.
        return np.where(done, partner, spare), labels
