"""Rank-guided heterogeneous walks: what a transformer reads of a node's neighbourhood.

From a node several walkers set out; each steps to a neighbour with a probability in proportion to the neighbour's
rank to the power τ, and now and then starts again. Of the nodes they come by, as many of each type are kept as it has
its quota of, those that were visited most; they stand by type, within a type by rank. (Our reading of the paper's
abstract, which says that a node's neighbourhood becomes a sequence.)

Every draw depends on (seed, epoch, start's key, walker, step) alone: on no other node of the batch, no process, no
numbering of nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .alias import alias_tables
from .graph import HeteroGraph
from .hashing import Stream, hashed

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# Where there is no node: padding of a sequence, or no node that is forbidden.
NONE = -1


@dataclass(frozen=True)
class WalkSettings:
    """How neighbourhoods are walked.

    Args:
        num_walks: Walkers that set out from each node.
        walk_length: Steps of each.
        restart: Probability of starting again instead of a step.
        tau: τ, how much neighbours of a higher rank are preferred; 0 is a uniform walk.
        max_length: Nodes of a sequence, with the one it begins with.
        quotas: Keep room for every type; without, the most visited nodes are kept, whatever their type.
    """

    num_walks: int = 8
    walk_length: int = 16
    restart: float = 0.15
    tau: float = 1.0
    max_length: int = 48
    quotas: bool = True

    def __post_init__(self) -> None:
        for name in ("num_walks", "walk_length", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if not 0 <= self.restart < 1:
            raise ValueError(f"restart must lie in [0, 1), found {self.restart}")


@dataclass(frozen=True)
class Sequences:
    """Neighbourhoods as sequences, each array ``(starts, length)``; position 0 is the start itself.

    Args:
        nodes: Node numbers, -1 where there is none.
        edge_type: Type of the edge by which each node was first come to, plus 1; 0 at the start and at padding.
        hops: Steps from the start by which it was first come to.
        visits: How often walkers came by.
    """

    nodes: IntArray
    edge_type: IntArray
    hops: IntArray
    visits: IntArray


class Walker:
    """Walks a graph, for whole batches of nodes at once.

    Args:
        graph: The graph, without what is held out.
        rank: Each node's rank, positive, ``(nodes,)``.
        settings: How.
        seed: Of all walks.
    """

    def __init__(self, graph: HeteroGraph, rank: FloatArray, settings: WalkSettings, seed: int = 0) -> None:
        if len(rank) != graph.num_nodes:
            raise ValueError(f"{len(rank)} ranks for {graph.num_nodes} nodes")
        self.graph, self.rank, self.settings, self.seed = graph, rank, settings, seed
        self._degree, self._indptr = np.asarray(graph.degree), np.asarray(graph.indptr)
        self._share: NDArray[np.float32] | None = None
        if settings.tau != 0:
            if len(rank) and not rank.min() > 0:
                raise ValueError("ranks must be positive")
            # In the order of keys, so that sums round alike however nodes are numbered.
            by_key = np.argsort(graph.place)
            begins = np.concatenate([[0], np.cumsum(self._degree[by_key])])
            entries = np.repeat(self._indptr[by_key] - begins[:-1], self._degree[by_key]) + np.arange(begins[-1])
            share, alias = alias_tables(rank[graph.indices[entries]] ** settings.tau, begins)
            self._share, self._alias = np.empty_like(share), np.empty_like(alias)
            self._share[entries], self._alias[entries] = share, entries[alias]
        # Place in (type, rank) order, best first: what a sequence's nodes are sorted by.
        order = np.lexsort((graph.place, -rank, graph.node_type))
        self._order = np.empty(graph.num_nodes, np.int64)
        self._order[order] = np.arange(graph.num_nodes)

    def step(self, at: IntArray, draw: FloatArray) -> tuple[IntArray, IntArray]:
        """One step of each walker.

        Args:
            at: Where they are, ``(walkers,)``.
            draw: A number in [0, 1) for each.

        Returns:
            Where they go, and the type of the edge; one without neighbours stays, with the edge type -1.
        """
        if not len(self.graph.indices):
            return at, np.full(len(at), NONE)
        degree = self._degree[at]
        draw = draw * degree
        slot = draw.astype(np.int64)
        # An isolated node at the end of the arrays points past them.
        entry = np.minimum(self._indptr[at] + slot, len(self.graph.indices) - 1)
        if self._share is not None:
            draw -= slot
            entry = np.where(draw < self._share[entry], entry, self._alias[entry])
        stuck = degree == 0
        to = self.graph.indices[entry].astype(np.int64)
        kind = self.graph.edge_type[entry].astype(np.int64)
        if stuck.any():
            to[stuck], kind[stuck] = at[stuck], NONE
        return to, kind

    def walk(self, starts: IntArray, epoch: int = 0, forbidden: IntArray | None = None) -> tuple[IntArray, ...]:
        """Walks from each start.

        Args:
            starts: Nodes, ``(starts,)``.
            epoch: Other epochs walk otherwise.
            forbidden: A node for each start that its walkers never come to, or -1: a step to it starts again.

        Returns:
            Nodes, edge types (-1 where a walker starts) and hops from the start, each ``(starts, num_walks,
            walk_length + 1)``.
        """
        how = self.settings
        shape = (how.walk_length + 1, len(starts), how.num_walks)
        nodes, kinds = np.empty(shape, np.int64), np.full(shape, NONE)
        hops = np.zeros(shape, np.int64)
        start = np.repeat(np.asarray(starts, np.int64), how.num_walks)
        barred = None if forbidden is None else np.repeat(np.asarray(forbidden, np.int64), how.num_walks)
        walkers = np.tile(np.arange(how.num_walks), len(starts))
        draws = Stream(hashed(self.seed, epoch, self.graph.key[start], walkers))
        at, hop = start, np.zeros(len(start), np.int64)
        nodes[0] = start.reshape(shape[1:])
        for i in range(1, how.walk_length + 1):
            draw = draws()
            again = draw < how.restart
            # What is left of the number is one in [0, 1) again.
            draw = np.maximum((draw - how.restart) * (1 / (1 - how.restart)), 0.0)
            to, kind = self.step(at, np.minimum(draw, 1 - 2**-53))
            if barred is not None:
                again |= to == barred
            at = np.where(again, start, to)
            kind[again] = NONE
            hop = np.where(again | (kind == NONE), 0, hop + 1)
            nodes[i], kinds[i], hops[i] = (part.reshape(shape[1:]) for part in (at, kind, hop))
        return tuple(np.moveaxis(part, 0, 2) for part in (nodes, kinds, hops))

    def sequences(self, starts: IntArray, epoch: int = 0, forbidden: IntArray | None = None) -> Sequences:
        """Walks from each start, and lays out what was come by.

        Args:
            starts: Nodes, ``(starts,)``; arguments as in :meth:`walk`.
        """
        starts = np.asarray(starts, np.int64)
        count, length = len(starts), self.settings.max_length
        nodes, kinds, hops = (part.reshape(count, -1) for part in self.walk(starts, epoch, forbidden))
        # One number for (start, place by type and rank): equal ones stand together, in the order of the walk.
        size = self.graph.num_nodes
        code = (np.arange(count)[:, None] * size + self._order[nodes]).ravel()
        by_code = np.argsort(code, kind="stable")
        code = code[by_code]
        first = np.flatnonzero(np.diff(code, prepend=-1))
        visits = np.diff(first, append=len(code))
        place = by_code[first]
        found = nodes.ravel()[place]
        owner = code[first] // size
        own = found == starts[owner]
        own_visits = np.zeros(count, np.int64)
        own_visits[owner[own]] = visits[own]
        others = ~own
        owner, found, visits, place = owner[others], found[others], visits[others], place[others]
        kept = self._select(owner, found, visits, length - 1, count)
        owner, found, visits, place = owner[kept], found[kept], visits[kept], place[kept]
        begin = np.searchsorted(owner, np.arange(count))
        column = 1 + np.arange(len(owner)) - begin[owner]
        width = 1 + int(column.max(initial=0))
        out = {name: np.zeros((count, width), np.int64) for name in ("edge_type", "hops", "visits")}
        laid = np.full((count, width), NONE)
        laid[:, 0], out["visits"][:, 0] = starts, own_visits
        laid[owner, column] = found
        out["edge_type"][owner, column] = kinds.ravel()[place] + 1
        out["hops"][owner, column] = hops.ravel()[place]
        out["visits"][owner, column] = visits
        return Sequences(laid, **out)

    def _select(self, owner: IntArray, found: IntArray, visits: IntArray, room: int, count: int) -> NDArray[Any]:
        """Which nodes are kept, at most ``room`` for each owner, in their order (by owner, type and rank)."""
        if not len(owner) or np.bincount(owner, minlength=count).max() <= room:
            return np.arange(len(owner))
        # The most visited first; of those visited alike, the one of higher rank.
        key = -visits
        if self.settings.quotas:
            types = len(self.graph.node_types)
            group = owner * types + self.graph.node_type[found].astype(np.int64)
            order = np.lexsort((np.arange(len(owner)), key, group))
            start = np.flatnonzero(np.diff(group[order], prepend=-1))
            within = np.empty(len(owner), np.int64)
            within[order] = np.arange(len(owner)) - np.repeat(start, np.diff(start, append=len(owner)))
            present = np.bincount(group[order][start] // types, minlength=count)
            quota = np.maximum(room // np.maximum(present, 1), 1)
            key = np.where(within < quota[owner], key - visits.max() - 1, key)
        order = np.lexsort((np.arange(len(owner)), key, owner))
        start = np.searchsorted(owner[order], np.arange(count))
        within = np.arange(len(owner)) - start[owner[order]]
        return np.sort(order[within < room])
