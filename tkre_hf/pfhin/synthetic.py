"""Made-up typed graphs of any size, with few nodes of many edges and many of few: to measure how work grows."""

from __future__ import annotations

import numpy as np

from .graph import HeteroGraph


def power_law_graph(
    num_edges: int, edges_per_node: float = 10.0, exponent: float = 2.5, node_types: int = 4, seed: int = 0
) -> HeteroGraph:
    """A graph whose expected degrees follow a power law (Chung and Lu, 2002), with an edge type for each two types.

    Args:
        num_edges: Edges.
        edges_per_node: Edges for each node, in the mean.
        exponent: Of the power law; above 2.
        node_types: Types, of equal size.
        seed: Of the graph.

    Raises:
        ValueError: A number is out of its range.
    """
    if num_edges < 1 or edges_per_node <= 0 or exponent <= 2 or node_types < 1:
        raise ValueError("num_edges and node_types must be at least 1, edges_per_node above 0, exponent above 2")
    rng = np.random.default_rng(seed)
    size = max(int(num_edges / edges_per_node), node_types)
    # Node i's expected degree is in proportion to (i + 1)^(-1 / (exponent - 1)); drawn by the inverse of its integral.
    share = 1 - 1 / (exponent - 1)
    src, dst = (np.minimum(size * rng.random(num_edges) ** (1 / share), size - 1).astype(np.int64) for _ in range(2))
    # So that the types have nothing to do with the degrees.
    shuffle = rng.permutation(size)
    src, dst = shuffle[src], shuffle[dst]
    types = np.arange(size) % node_types
    edge_type = types[src] * node_types + types[dst]
    names = [f"t{i}" for i in range(node_types)]
    return HeteroGraph.from_edges(
        types, src, dst, edge_type, names, [f"{one}-{two}" for one in names for two in names]
    )
