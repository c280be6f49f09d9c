"""R-GCN (Schlichtkrull et al., ESWC 2018), which PF-HIN is measured beside: PyG's layers, trained on labels alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tkre_hf.errors import TkreError
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.tasks import f1_scores

IntArray = NDArray[np.int64]


def rgcn(
    graph: HeteroGraph,
    labels: IntArray,
    parts: dict[str, IntArray],
    size: int = 64,
    num_bases: int = 8,
    dropout: float = 0.5,
    epochs: int = 50,
    learning_rate: float = 0.01,
    weight_decay: float = 5e-4,
    seed: int = 0,
) -> dict[str, float]:
    """Classifies nodes by two layers over the whole graph, on node embeddings that are learned with them.

    Args:
        graph: The graph; an edge type and its reverse have parameters of their own.
        labels: ``(nodes,)``.
        parts: Training, validation and test nodes; the epoch is chosen on validation nodes.
        size: Of node embeddings and of the hidden layer.
        num_bases: Matrices that those of all edge types are made of.
        dropout: Of embeddings and of the hidden layer.
        epochs: Passes over the training nodes.
        learning_rate: Of Adam.
        weight_decay: Of Adam.
        seed: Of the start and of dropout.

    Returns:
        ``macro_f1``, ``micro_f1`` and ``val_macro_f1``, in percent.

    Raises:
        TkreError: PyG isn't installed.
    """
    try:
        from torch_geometric.nn import RGCNConv
    except ImportError as error:
        raise TkreError("R-GCN needs PyG: pip install 'tkre-hf[pyg]'") from error
    torch.manual_seed(seed)
    kinds, classes = 2 * len(graph.edge_types), int(labels.max()) + 1
    # A message goes from a neighbour to the node whose row of the graph it stands in.
    edges = torch.from_numpy(np.stack([graph.indices.astype(np.int64), graph.rows().astype(np.int64)]))
    types = torch.from_numpy(graph.edge_type.astype(np.int64))
    embeds = nn.Embedding(graph.num_nodes, size)
    layers = nn.ModuleList([RGCNConv(size, width, kinds, num_bases=num_bases) for width in (size, classes)])
    parameters = [*embeds.parameters(), *layers.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay)

    def forward(training: bool) -> Tensor:
        hidden = F.dropout(embeds.weight, dropout, training)
        hidden = F.dropout(layers[0](hidden, edges, types).relu(), dropout, training)
        logits: Tensor = layers[1](hidden, edges, types)
        return logits

    train, asked = torch.from_numpy(parts["train"]), torch.from_numpy(labels)
    best: tuple[float, NDArray[Any]] | None = None
    for epoch in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(forward(True)[train], asked[train]).backward()
        optimizer.step()
        if epoch % 5 == 4 or epoch == epochs - 1:
            with torch.inference_mode():
                predicted = forward(False).argmax(-1).numpy()
            score = f1_scores(labels[parts["val"]], predicted[parts["val"]])["macro_f1"]
            if best is None or score > best[0]:
                best = (score, predicted)
    assert best is not None
    return {**f1_scores(labels[parts["test"]], best[1][parts["test"]]), "val_macro_f1": best[0]}
