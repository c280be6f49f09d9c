"""A model without node embeddings, taken to a graph of other types: what both know is kept, the rest starts anew."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .graph import HeteroGraph
from .modeling_pfhin import PFHINPreTrainedModel


@torch.no_grad()
def adapt(model: PFHINPreTrainedModel, graph: HeteroGraph) -> PFHINPreTrainedModel:
    """The same model for a graph's types: by name those that it knows keep what was learned of them.

    A type that is new starts as the mean of those that are known, but its column of profiles as new weights do.

    Args:
        model: Without node embeddings, which are of one graph's nodes.
        graph: Whose types the new model knows.

    Raises:
        ValueError: The model has node embeddings, or a head for each edge type, or reads what the graph doesn't have.
    """
    old = model.config
    if old.num_nodes:
        raise ValueError("a model with node embeddings reads its own graph alone: pre-train it with ids: false")
    if hasattr(model, "link_head"):
        raise ValueError("the head for links is of the model's own edge types: adapt the model first, then train it")
    if old.num_features != (0 if graph.features is None else graph.features.shape[1]):
        raise ValueError(f"the model reads {old.num_features} numeric features of a node, the graph has others")
    config = copy.deepcopy(old)
    config.node_types, config.edge_types = list(graph.node_types), list(graph.edge_types)
    new = type(model)(config)
    types = _places(config.node_types, old.node_types)
    kinds = _places(config.edge_types, old.edge_types)
    both = [*kinds, *(None if place is None else place + len(old.edge_types) for place in kinds)]
    fresh = new.state_dict()
    found: dict[str, Any] = {}
    for name, weight in model.state_dict().items():
        if name.endswith("embeddings.node_type.weight"):
            found[name] = _rows(weight, types)
        elif name.endswith("embeddings.edge_type.weight"):
            # The first row is that of no edge.
            found[name] = torch.cat([weight[:1], _rows(weight[1:], both)])
        elif name.endswith("embeddings.profile.weight"):
            found[name] = _rows(weight.T, both, fresh[name].T).T.contiguous()
        else:
            found[name] = weight
    new.load_state_dict(found)
    return new.train(model.training)


def _places(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    number = {name: i for i, name in enumerate(known)}
    return [number.get(name) for name in names]


def _rows(weight: Tensor, places: Sequence[int | None], fresh: Tensor | None = None) -> Tensor:
    """Rows by place; where there is none that of ``fresh``, or the mean of all."""
    mean = weight.mean(0)
    return torch.stack(
        [weight[place] if place is not None else mean if fresh is None else fresh[i] for i, place in enumerate(places)]
    )
