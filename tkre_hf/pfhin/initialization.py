"""Node embeddings to start from, by a singular value decomposition of the graph: a reported switch, not the default.

The decomposition is of the positive pointwise mutual information of a step along an edge, smoothed over the graph,
much as ProNE does it (Zhang et al., IJCAI 2019, who smooth with a band-pass filter): seconds where word2vec takes
minutes.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, svds

from .graph import HeteroGraph
from .inputs import NodeReader
from .modeling_pfhin import PFHINPreTrainedModel


def svd_embeddings(graph: HeteroGraph, size: int, smoothing: int = 2, seed: int = 0) -> NDArray[np.float32]:
    """Vectors of nodes, those of nodes with like neighbours alike, whatever the nodes' numbers are.

    Args:
        graph: Without what is held out.
        size: Of a vector.
        smoothing: How often a node takes on the mean of itself and its neighbours.
        seed: Of the decomposition's start.

    Returns:
        ``(nodes, size)``, with a mean square of 1 in each column; columns beyond the graph's rank are 0.
    """
    count = graph.num_nodes
    vectors = np.zeros((count, size), np.float32)
    k = min(size, count - 1)
    if k < 1 or not graph.num_edges:
        return vectors
    place = graph.place
    rows, columns = place[graph.rows()], place[graph.indices]
    adjacency = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    degree = np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1.0)
    # Two nodes meet so much more often than if ends were drawn from degree^0.75, as word2vec draws its negatives.
    chance = degree**0.75
    meeting = adjacency.tocoo()
    information = np.log(meeting.data * chance.sum() / (degree[meeting.row] * chance[meeting.col]))
    information = scipy.sparse.csr_matrix(
        (np.maximum(information, 0), (meeting.row, meeting.col)), shape=meeting.shape
    )
    start = np.random.default_rng(seed).standard_normal(count)
    try:
        left, strength, _ = svds(information, k=k, v0=start)
    except ArpackError:
        if k > count - 2:
            raise
        # Scipy 1.13 gives up on networks of many small pieces, whose singular values are alike; not with more room.
        left, strength, _ = svds(information, k=k, v0=start, ncv=min(count - 1, max(4 * k, 500)))
    # A vector and its opposite are one direction: the sign of the largest entry tells which is meant.
    left *= np.sign(left[np.abs(left).argmax(0), np.arange(k)])
    ordered = left * np.sqrt(np.maximum(strength, 0))
    step = scipy.sparse.diags(1 / (degree + 1)) @ (adjacency + scipy.sparse.eye(count))
    for _ in range(smoothing):
        ordered = step @ ordered
    scale = np.sqrt((ordered**2).mean(0))
    vectors[:, :k] = (ordered / np.where(scale > 1e-9, scale, 1.0))[place]
    return vectors


@torch.no_grad()
def initialize_ids(
    model: PFHINPreTrainedModel, reader: NodeReader, vectors: NDArray[np.float32], std: float = 0.1
) -> None:
    """Has a model's node embeddings start from vectors.

    Args:
        model: It has node embeddings.
        reader: Knows which row is which node's.
        vectors: ``(nodes, embedding_size)``.
        std: Root mean square of the embeddings in the end.

    Raises:
        ValueError: The model has no node embeddings, or the vectors are of another shape.
    """
    if reader.rows is None:
        raise ValueError("the model has no node embeddings to initialise")
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    if vectors.shape != tuple(weight.shape):
        raise ValueError(f"expected vectors of shape {tuple(weight.shape)}, found {vectors.shape}")
    scale = std / max(float(np.sqrt((vectors**2).mean())), 1e-12)
    weight[torch.from_numpy(reader.rows)] = torch.from_numpy(vectors * np.float32(scale)).to(weight)
