"""A typed graph as CSR arrays: edges in both directions, in an order that node numbers have no part in.

Nothing that a walk does depends on how nodes are numbered. Each node has a ``key``, a hash of its id; random numbers
are drawn by key, and a node's neighbours stand in the order of theirs. So a graph whose nodes are numbered otherwise
gives the same walks, through the same nodes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from tkre_hf.data.hin import HINTables
from tkre_hf.errors import TkreError

IntArray = NDArray[np.int64]

_ARRAYS = ("indptr", "indices", "edge_type", "node_type", "key")
_META = "graph.json"
_NODES = "nodes.parquet"


@dataclass(frozen=True)
class HeteroGraph:
    """A typed graph. Every edge stands twice: at its beginning with its type, at its end with the reverse of it.

    Args:
        node_types: Names of the node types.
        edge_types: Names of the edge types; of type ``e`` the reverse is ``e + len(edge_types)``.
        node_type: Each node's type, ``(nodes,)``.
        indptr: Where each node's neighbours begin, ``(nodes + 1,)``.
        indices: The neighbours, ``(2 · edges,)``.
        edge_type: The type of the edge to each, from 0 to ``2 · len(edge_types) - 1``.
        key: Each node's own number, wherever it stands, ``(nodes,)``.
        node_ids: What the nodes are called; may be empty.
        names: Their names; may be empty.
        features: ``(nodes, features)``, NaN in the rows of nodes without; ``None`` where there are none.
    """

    node_types: tuple[str, ...]
    edge_types: tuple[str, ...]
    node_type: NDArray[np.int16]
    indptr: IntArray
    indices: NDArray[np.int32]
    edge_type: NDArray[np.int16]
    key: NDArray[np.uint64]
    node_ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    features: NDArray[np.float32] | None = None

    @property
    def num_nodes(self) -> int:
        return len(self.node_type)

    @property
    def num_edges(self) -> int:
        """How many edges there are; each stands twice in the arrays."""
        return len(self.indices) // 2

    @cached_property
    def degree(self) -> IntArray:
        """Edges at each node, in both directions, ``(nodes,)``."""
        return np.diff(self.indptr)

    @cached_property
    def place(self) -> IntArray:
        """Each node's place in the order of keys, ``(nodes,)``."""
        place = np.empty(self.num_nodes, np.int64)
        place[np.argsort(self.key, kind="stable")] = np.arange(self.num_nodes)
        return place

    @classmethod
    def from_tables(cls, tables: HINTables) -> HeteroGraph:
        """The graph of a network's tables; labels and splits stay there."""
        return cls.from_edges(
            tables.node_type,
            tables.src,
            tables.dst,
            tables.edge_type,
            tables.node_types,
            tables.edge_types,
            node_ids=tables.node_ids,
            names=tables.names,
            features=tables.features,
        )

    @classmethod
    def from_edges(
        cls,
        node_type: NDArray[Any],
        src: NDArray[Any],
        dst: NDArray[Any],
        edge_type: NDArray[Any],
        node_types: Sequence[str],
        edge_types: Sequence[str],
        key: NDArray[np.uint64] | None = None,
        node_ids: Iterable[str] = (),
        names: Iterable[str] = (),
        features: NDArray[np.float32] | None = None,
    ) -> HeteroGraph:
        """Lays out edges ``(edges,)``, each given once.

        Args:
            key: By default hashes of ``node_ids``, or without them of the nodes' numbers.

        Raises:
            ValueError: A number lies outside of what it counts.
        """
        size, kinds = len(node_type), len(edge_types)
        for what, numbers, bound in (
            ("src", src, size),
            ("dst", dst, size),
            ("edge_type", edge_type, kinds),
            ("node_type", node_type, len(node_types)),
        ):
            if len(numbers) and not (numbers.min() >= 0 and numbers.max() < bound):
                raise ValueError(f"{what} must lie from 0 to {bound - 1}")
        node_ids = tuple(node_ids)
        if key is None:
            key = hash_ids(node_ids) if node_ids else _mix(np.arange(size, dtype=np.uint64))
        place = np.empty(size, np.int64)
        by_key = np.argsort(key, kind="stable")
        place[by_key] = np.arange(size)
        both = 2 * max(kinds, 1)
        if size * size * both >= 2**63:
            raise ValueError(f"{size} nodes with {kinds} edge types are too many for one machine's arrays")
        # One number for (node, neighbour's place, type): sorting it sorts all three, and it is taken apart again.
        code = np.empty(2 * len(src), np.int64)
        half = len(src)
        for part, ends, others, kind in ((slice(half), src, dst, 0), (slice(half, None), dst, src, kinds)):
            code[part] = (ends.astype(np.int64) * size + place[others]) * both + edge_type + kind
        code.sort()
        types = (code % both).astype(np.int16)
        code //= both
        indices = by_key[code % max(size, 1)].astype(np.int32)
        code //= max(size, 1)
        indptr = np.zeros(size + 1, np.int64)
        np.cumsum(np.bincount(code, minlength=size), out=indptr[1:])
        return cls(
            tuple(node_types),
            tuple(edge_types),
            np.asarray(node_type, np.int16),
            indptr,
            indices,
            types,
            np.asarray(key, np.uint64),
            node_ids,
            tuple(names),
            features,
        )

    def rows(self) -> IntArray:
        """The node at which each entry of ``indices`` stands, ``(2 · edges,)``."""
        return np.repeat(np.arange(self.num_nodes), self.degree)

    def edges(self) -> tuple[IntArray, IntArray, IntArray]:
        """Each edge once: where it begins, where it ends, and its type, ``(edges,)`` each."""
        forward = np.flatnonzero(self.edge_type < len(self.edge_types))
        return self.rows()[forward], self.indices[forward].astype(np.int64), self.edge_type[forward].astype(np.int64)

    def triples(self) -> IntArray:
        """Each edge once: head, edge type, tail, ``(edges, 3)``."""
        src, dst, edge_type = self.edges()
        return np.stack([src, edge_type, dst], axis=1)

    def neighbors(self, node: int) -> NDArray[np.int32]:
        """A node's neighbours in either direction; one with two edges comes twice."""
        return self.indices[self.indptr[node] : self.indptr[node + 1]]

    def adjacent(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether an edge of any type, in either direction, joins two nodes.

        Args:
            first: Nodes, ``(pairs,)``.
            second: As many.
        """
        first, wanted = np.asarray(first, np.int64), self.place[np.asarray(second, np.int64)]
        low, end = self.indptr[first], self.indptr[first + 1]
        high = end.copy()
        if not len(self.indices):
            return np.zeros(len(first), bool)
        while (open_ := low < high).any():
            middle = (low + high) // 2
            before = open_ & (self.place[self.indices[np.minimum(middle, len(self.indices) - 1)]] < wanted)
            low, high = np.where(before, middle + 1, low), np.where(open_ & ~before, middle, high)
        found = self.place[self.indices[np.minimum(low, len(self.indices) - 1)]] == wanted
        return found & (low < end)

    def without_edges(
        self, src: NDArray[Any], dst: NDArray[Any], edge_type: NDArray[Any] | None = None
    ) -> HeteroGraph:
        """Takes out edges, in both directions: what is held out, before anything else is done.

        Args:
            src: Where they begin, ``(edges,)``; one that the graph doesn't have changes nothing.
            dst: Where they end.
            edge_type: Their types; without them every edge between the two nodes goes, whichever way it points.
        """
        size, kinds = self.num_nodes, len(self.edge_types)
        src, dst = np.asarray(src, np.int64), np.asarray(dst, np.int64)
        pairs = self.rows() * size + self.indices
        if edge_type is None:
            gone = np.isin(pairs, np.concatenate([src * size + dst, dst * size + src]))
        else:
            edge_type = np.asarray(edge_type, np.int64)
            forward = (src * size + dst) * 2 * kinds + edge_type
            backward = (dst * size + src) * 2 * kinds + edge_type + kinds
            gone = np.isin(pairs * 2 * kinds + self.edge_type, np.concatenate([forward, backward]))
        return self._keep(~gone)

    def without_edge_types(self, names: Iterable[str]) -> HeteroGraph:
        """Takes out all edges of some types; the types keep their numbers.

        Raises:
            ValueError: The graph has no such type.
        """
        names = list(names)
        for name in names:
            if name not in self.edge_types:
                raise ValueError(f"unknown edge type {name!r}: the graph has {', '.join(self.edge_types)}")
        numbers = np.array([self.edge_types.index(name) for name in names], dtype=np.int64)
        return self._keep(~np.isin(self.edge_type % len(self.edge_types), numbers))

    def _keep(self, kept: NDArray[np.bool_]) -> HeteroGraph:
        """The graph with some of its entries; which are in order already."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return replace(
            self, indptr=before[self.indptr], indices=self.indices[kept], edge_type=np.asarray(self.edge_type[kept])
        )

    def permuted(self, order: NDArray[Any]) -> HeteroGraph:
        """The same graph, its nodes numbered otherwise.

        Args:
            order: The old number of each new one, ``(nodes,)``.

        Raises:
            ValueError: It is no permutation.
        """
        order = np.asarray(order, np.int64)
        if not np.array_equal(np.sort(order), np.arange(self.num_nodes)):
            raise ValueError("order is no permutation of the nodes")
        number = np.empty_like(order)
        number[order] = np.arange(len(order))
        src, dst, edge_type = self.edges()
        return self.from_edges(
            self.node_type[order],
            number[src],
            number[dst],
            edge_type,
            self.node_types,
            self.edge_types,
            key=self.key[order],
            node_ids=(self.node_ids[i] for i in order) if self.node_ids else (),
            names=(self.names[i] for i in order) if self.names else (),
            features=None if self.features is None else self.features[order],
        )

    def shuffled(self, seed: int) -> HeteroGraph:
        """As many edges of each type at each node, but between others: the structure is gone, the degrees stay.

        Within a type, where edges end is drawn anew from where they end now.
        """
        rng = np.random.default_rng(seed)
        src, dst, edge_type = self.edges()
        # In an order that numbers have no part in.
        order = np.lexsort((self.place[dst], self.place[src], edge_type))
        src, dst, edge_type = src[order], dst[order], edge_type[order]
        for kind in range(len(self.edge_types)):
            mine = np.flatnonzero(edge_type == kind)
            dst[mine] = dst[rng.permutation(mine)]
        return self.from_edges(
            self.node_type,
            src,
            dst,
            edge_type,
            self.node_types,
            self.edge_types,
            key=self.key,
            node_ids=self.node_ids,
            names=self.names,
            features=self.features,
        )

    def save(self, folder: str | Path) -> None:
        """Writes the arrays as ``.npy`` files, to be memory-mapped, and ids and names as Parquet."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        if self.features is not None:
            np.save(folder / "features.npy", self.features)
        columns = {"node_id": self.node_ids, "name": self.names}
        table = pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items() if cells})
        pyarrow.parquet.write_table(table, folder / _NODES)
        meta = {"node_types": self.node_types, "edge_types": self.edge_types, "nodes": self.num_nodes}
        (folder / _META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True) -> HeteroGraph:
        """Reads what :meth:`save` wrote.

        Args:
            folder: Where it stands.
            mmap: Map the arrays into memory, where processes share them, rather than read them.

        Raises:
            TkreError: There is no such graph, or its files don't fit each other.
        """
        folder = Path(folder)
        try:
            meta = json.loads((folder / _META).read_text(encoding="utf-8"))
            mode: Any = "r" if mmap else None
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode=mode) for name in _ARRAYS}
            features = folder / "features.npy"
            table = pyarrow.parquet.read_table(folder / _NODES)
        except (OSError, ValueError) as error:
            raise TkreError(f"{folder} holds no graph that can be read: {error}") from error
        if len(arrays["node_type"]) != meta["nodes"] or len(arrays["indices"]) != len(arrays["edge_type"]):
            raise TkreError(f"{folder}: the graph's files don't fit each other; write it again")
        strings = {name: tuple(table.column(name).to_pylist()) for name in table.column_names}
        return cls(
            tuple(meta["node_types"]),
            tuple(meta["edge_types"]),
            **arrays,
            node_ids=strings.get("node_id", ()),
            names=strings.get("name", ()),
            features=np.load(features, mmap_mode=mode) if features.exists() else None,
        )


def hash_ids(ids: Iterable[str]) -> NDArray[np.uint64]:
    """64 bits of each id, the same on every machine."""
    digests = b"".join(hashlib.blake2b(id.encode(), digest_size=8).digest() for id in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer."""
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
