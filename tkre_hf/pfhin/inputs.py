"""From sequences of node numbers to what the model reads: types by name, rows of the node embeddings, ranks, texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .centrality import ranks
from .configuration_pfhin import PFHINConfig
from .graph import HeteroGraph
from .walks import NONE, Sequences, Walker, WalkSettings

IntArray = NDArray[np.int64]


def graph_key(graph: HeteroGraph) -> str:
    """Of which nodes, whatever their numbers and edges, a graph consists."""
    pairs = np.sort(graph.key) if graph.num_nodes else graph.key
    return hashlib.blake2b(np.ascontiguousarray(pairs).astype("<u8").tobytes(), digest_size=8).hexdigest()


def config_for(
    graph: HeteroGraph,
    ids: bool = True,
    text_size: int = 0,
    walk: WalkSettings | None = None,
    rank: str = "centrality",
    **settings: Any,
) -> PFHINConfig:
    """A configuration with a graph's types and sizes.

    Args:
        graph: The graph.
        ids: Whether nodes have embeddings of their own; without, the model is inductive.
        text_size: Width of the nodes' text vectors, if they have any.
        walk: How its sequences are made.
        rank: ``centrality`` or ``degree``.
        **settings: Of ``PFHINConfig``.
    """
    counts = np.bincount(graph.node_type, minlength=len(graph.node_types)).tolist() if ids else []
    return PFHINConfig(
        node_types=list(graph.node_types),
        edge_types=list(graph.edge_types),
        nodes_per_type=counts,
        graph_key=graph_key(graph) if ids else "",
        num_features=0 if graph.features is None else graph.features.shape[1],
        text_size=text_size,
        walk={**asdict(walk or WalkSettings()), "rank": rank},
        **settings,
    )


def walker_for(graph: HeteroGraph, config: PFHINConfig, seed: int = 0) -> tuple[Walker, NDArray[np.float64]]:
    """The walker whose sequences a model reads, and the quantiles of each node's centralities, ``(nodes, 3)``."""
    settings = dict(config.walk)
    rank, parts = ranks(graph, settings.pop("rank", "centrality"))
    return Walker(graph, rank, WalkSettings(**settings), seed), parts


class NodeReader:
    """Gives ``PFHINModel`` its inputs.

    Args:
        graph: The graph.
        parts: Quantiles of each node's centralities, ``(nodes, 3)``.
        config: Of the model.
        text_embeds: Each node's text vector, ``(nodes, text_size)``, NaN where it has no text.

    Raises:
        ValueError: The graph has a type that the model doesn't know, or isn't the one that its ids are of, or lacks
            what the model reads.
    """

    def __init__(
        self,
        graph: HeteroGraph,
        parts: NDArray[np.float64],
        config: PFHINConfig,
        text_embeds: NDArray[np.float32] | None = None,
    ) -> None:
        self.graph, self.config = graph, config
        self._node_type = _numbers(graph.node_types, config.node_types, "node type")[graph.node_type]
        forward = _numbers(graph.edge_types, config.edge_types, "edge type")
        both = np.concatenate([forward, forward + len(config.edge_types)])
        # 0 is no edge.
        self._edge_type = np.concatenate([[0], 1 + both])
        self._parts = parts.astype(np.float32)
        self._degree = np.asarray(graph.degree)
        self.rows: IntArray | None = None
        if config.num_nodes:
            if graph_key(graph) != config.graph_key:
                raise ValueError("the model's node embeddings are of another graph's nodes: give it that graph")
            # By type and key, so that neither numbers nor edges have a part in it.
            order = np.lexsort((graph.place, self._node_type))
            self.rows = np.empty(graph.num_nodes, np.int64)
            self.rows[order] = np.arange(graph.num_nodes)
        self._features = self._content("features", graph.features, config.num_features)
        self._text = self._content("text_embeds", text_embeds, config.text_size)
        self.profiles: NDArray[np.float32] | None = None
        if config.profile:
            # Of this graph: what is held out of it is held out of them.
            self.profiles = edge_profiles(graph, both, 2 * len(config.edge_types))

    def _content(self, name: str, given: NDArray[np.float32] | None, size: int) -> NDArray[np.float32] | None:
        if not size:
            return None
        found = None if given is None else given.shape
        if found != (self.graph.num_nodes, size):
            raise ValueError(f"the model reads {name} of shape {(self.graph.num_nodes, size)}, found {found}")
        return given

    @property
    def num_types(self) -> int:
        return len(self.config.node_types)

    def types(self, nodes: IntArray) -> IntArray:
        """The model's number of each node's type; 0 where there is no node."""
        return np.where(nodes == NONE, 0, self._node_type[nodes])

    def __call__(self, sequences: Sequences, shown: IntArray | None = None) -> dict[str, Tensor]:
        """The model's inputs, ``(batch, seq_len)`` each.

        Args:
            sequences: Of nodes.
            shown: Which node each position shows, where that isn't the one that stands there.
        """
        nodes = sequences.nodes
        shown = nodes if shown is None else shown
        safe, valid = np.maximum(shown, 0), nodes != NONE
        inputs: dict[str, Any] = {
            "node_types": self.types(nodes),
            "edge_types": self._edge_type[sequences.edge_type],
            "hops": sequences.hops,
            "visits": sequences.visits,
            "ranks": self._parts[safe] * valid[..., None],
            "degrees": self._degree[safe] * valid,
            "attention_mask": valid.astype(np.int64),
        }
        if self.rows is not None:
            inputs["node_ids"] = self.rows[safe] * valid
        if self._features is not None:
            inputs["features"] = np.where(valid[..., None], self._features[safe], np.float32(0))
        if self._text is not None:
            inputs["text_embeds"] = np.where(valid[..., None], self._text[safe], np.float32(0))
        if self.profiles is not None:
            inputs["profiles"] = np.where(valid[..., None], self.profiles[safe], np.float32(0))
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}


def edge_profiles(
    graph: HeteroGraph, columns: IntArray | None = None, width: int | None = None
) -> NDArray[np.float32]:
    """Logarithms of one more than each node's edges of each type, ``(nodes, width)``: forward, then reverse.

    Args:
        graph: The graph.
        columns: Where each of the graph's edge types and their reverses stands; in the graph's order by default.
        width: How many columns there are; two for each of the graph's edge types by default.
    """
    kinds = graph.edge_type if columns is None else columns[graph.edge_type]
    counts = np.zeros((graph.num_nodes, width or 2 * len(graph.edge_types)), np.float32)
    np.add.at(counts, (graph.rows(), kinds), 1)
    profiles: NDArray[np.float32] = np.log1p(counts)
    return profiles


def _numbers(names: Sequence[str], known: Sequence[str], what: str) -> IntArray:
    number = {name: i for i, name in enumerate(known)}
    for name in names:
        if name not in number:
            raise ValueError(f"the model knows no {what} {name!r}: adapt it to the graph first")
    return np.array([number[name] for name in names], dtype=np.int64)
