"""A node's rank: a weighted sum of betweenness, eigenvector and closeness centrality, each as a quantile.

Our reading of a rank-guided walk. Quantiles put the three on one scale, of which otherwise the one with the heaviest
tail would be all there is. Above a size betweenness and closeness are estimated from sampled nodes: exact ones take
time in proportion to nodes × edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from tkre_hf.errors import TkreError

from .graph import HeteroGraph

FloatArray = NDArray[np.float64]

CENTRALITIES = ("betweenness", "eigenvector", "closeness")

# From how many nodes shortest paths are followed, at most and at least, and over how many edges in all. In large ones
# ranks from fewer nodes agree with those from 256 nearly as well as these do with those from 256 others
# (docs/results/pfhin_scale.md).
PIVOTS, LEAST_PIVOTS, MOST_FOLLOWED = 256, 32, 64_000_000

# Digits of a centrality that count: sums in another order differ behind them, and would break ties at random.
_DIGITS = 6


def centralities(
    graph: HeteroGraph, sampled_above: int = 5000, pivots: int | None = None, seed: int = 0
) -> FloatArray:
    """Betweenness, eigenvector and harmonic closeness centrality of the graph without types and directions.

    Closeness is harmonic, so that it means something where not all nodes are connected. The eigenvector is that of
    A + I, whose power iteration converges on bipartite graphs too. However nodes are numbered, each gets the same.

    Args:
        graph: The graph.
        sampled_above: With more nodes than these, betweenness and closeness are estimated.
        pivots: From so many sampled nodes; by default 256, and fewer in a graph of more than 250,000 edges.
        seed: Of the sample.

    Returns:
        ``(nodes, 3)``.

    Raises:
        TkreError: networkit isn't installed.
    """
    size = graph.num_nodes
    if size == 0 or graph.num_edges == 0:
        return np.zeros((size, 3))
    adjacency = _adjacency(graph)
    if pivots is None:
        pivots = max(LEAST_PIVOTS, min(PIVOTS, MOST_FOLLOWED // graph.num_edges))
    by_key = np.argsort(graph.place)
    ordered = np.empty((size, 3))
    betweenness, closeness = _path_centralities(adjacency, size > sampled_above, min(pivots, size), seed)
    ordered[:, 0], ordered[:, 1], ordered[:, 2] = betweenness, _eigenvector(adjacency), closeness
    result = np.empty_like(ordered)
    result[by_key] = ordered
    return result


def quantiles(values: FloatArray) -> FloatArray:
    """Each value's mean place among all, from 0 (exclusive) to 1, along the first axis; equal values share theirs.

    Args:
        values: ``(nodes,)`` or ``(nodes, columns)``; digits behind the sixth don't count.
    """
    if values.ndim == 2:
        return np.stack([quantiles(column) for column in values.T], axis=1)
    if not len(values):
        return values
    magnitude = np.floor(np.log10(np.maximum(np.abs(values), 1e-300)))
    scale = 10.0 ** (_DIGITS - 1 - magnitude)
    rounded = np.where(np.abs(values) > 1e-300, np.round(values * scale) / scale, 0.0)
    _, inverse, counts = np.unique(rounded, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - (counts - 1) / 2) / len(values))[inverse]


def ranks(
    graph: HeteroGraph,
    kind: str = "centrality",
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
    sampled_above: int = 5000,
    pivots: int | None = None,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Each node's rank, and what it is the weighted mean of.

    Args:
        graph: The graph.
        kind: ``centrality``, or ``degree`` for the ablation.
        weights: Of betweenness, eigenvector and closeness.
        sampled_above: See :func:`centralities`, as ``pivots`` and ``seed``.

    Returns:
        Ranks in (0, 1], ``(nodes,)``, and the quantiles of the three centralities (or three times that of the
        degree), ``(nodes, 3)``.

    Raises:
        TkreError: networkit isn't installed.
        ValueError: The kind is another, or the weights are not positive in sum.
    """
    if kind not in ("centrality", "degree"):
        raise ValueError(f"rank is {kind!r}: expected centrality or degree")
    if min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(f"rank weights must not be negative, nor all 0, found {weights}")
    if kind == "degree":
        parts = np.repeat(quantiles(graph.degree.astype(float))[:, None], 3, axis=1)
    else:
        parts = quantiles(centralities(graph, sampled_above, pivots, seed))
    # Not a matrix product, whose rounding depends on where a row stands.
    total = sum(weight * column for weight, column in zip(weights, parts.T, strict=True))
    return np.asarray(total) / sum(weights), parts


def _adjacency(graph: HeteroGraph) -> Any:
    """The simple undirected graph as a sparse matrix, its rows in the order of keys."""
    place = graph.place
    rows, columns = place[graph.rows()], place[graph.indices]
    apart = rows != columns
    ones = np.ones(int(apart.sum()), np.float32)
    matrix = scipy.sparse.csr_matrix((ones, (rows[apart], columns[apart])), shape=(graph.num_nodes,) * 2)
    matrix.data[:] = 1
    return matrix


def _path_centralities(adjacency: Any, sampled: bool, pivots: int, seed: int) -> tuple[FloatArray, FloatArray]:
    try:
        import networkit as nk
    except ImportError as error:
        raise TkreError(
            "centralities need networkit: pip install 'tkre-hf[hin]', or rank nodes by degree (rank: degree)"
        ) from error
    upper = scipy.sparse.triu(adjacency, format="coo")
    graph = nk.GraphFromCoo((upper.row.astype(np.uint64), upper.col.astype(np.uint64)), n=adjacency.shape[0])
    threads = nk.getMaxNumberOfThreads()
    # Sums over threads differ from run to run.
    nk.setNumberOfThreads(1)
    nk.setSeed(seed, False)
    try:
        if not sampled:
            betweenness = nk.centrality.Betweenness(graph, normalized=True).run().scores()
            closeness = nk.centrality.HarmonicCloseness(graph, normalized=True).run().scores()
            return np.asarray(betweenness), np.asarray(closeness)
        betweenness = nk.centrality.EstimateBetweenness(graph, pivots, True, False).run().scores()
        total = np.zeros(adjacency.shape[0])
        for pivot in np.random.default_rng(seed).choice(adjacency.shape[0], pivots, replace=False):
            distances = np.asarray(nk.distance.BFS(graph, int(pivot), storePaths=False).run().getDistances(True))
            # What can't be reached lies at the largest double there is, or infinitely far.
            total += np.where(distances > 0, 1.0 / np.maximum(distances, 1.0), 0.0)
        return np.asarray(betweenness), total / pivots
    finally:
        nk.setNumberOfThreads(threads)


def _eigenvector(adjacency: Any, tolerance: float = 1e-9, most: int = 500) -> FloatArray:
    """The leading eigenvector of A + I, by power iteration, with a sum of squares of 1."""
    matrix = adjacency.astype(np.float64)
    vector = np.full(matrix.shape[0], matrix.shape[0] ** -0.5)
    for _ in range(most):
        following = matrix @ vector + vector
        following /= np.linalg.norm(following)
        if np.abs(following - vector).max() < tolerance:
            return following
        vector = following
    return vector
