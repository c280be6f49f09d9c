"""A model without ids on a graph of other types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tkre_hf.pfhin.adaptation import adapt
from tkre_hf.pfhin.embedding import Neighborhoods
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.modeling_pfhin import PFHINForLinkPrediction, PFHINForPreTraining

from .test_modeling import small


def test_what_both_know_is_kept_whatever_its_number(graph: HeteroGraph) -> None:
    model = PFHINForPreTraining(small(graph, ids=False, profile=True)).eval()
    # The same types and one more of each, in another order.
    other = HeteroGraph.from_edges(
        np.array([0, 3, 1, 2])[[1, 2, 3]][graph.node_type],
        *graph.edges()[:2],
        np.array([3, 0, 2])[graph.edges()[2]],
        ["street", "club", "person", "city"],
        ["knows", "near", "lives", "in"],
        key=graph.key,
    )
    assert [other.node_types[i] for i in other.node_type[:3]] == [graph.node_types[i] for i in graph.node_type[:3]]
    adapted = adapt(model, other)
    assert isinstance(adapted, PFHINForPreTraining) and not adapted.training
    with torch.no_grad():
        # Types are numbered otherwise, so that walks are of other nodes: the same neighbourhoods are read by both.
        inputs = Neighborhoods(model, graph).inputs(np.arange(8))
        types, kinds = torch.tensor([3, 1, 2]), torch.tensor([0, 4, 1, 3, 8, 5, 7])
        columns = torch.tensor([3, 0, 2, 7, 4, 6])
        profiles = torch.zeros(*inputs["profiles"].shape[:2], 8).index_copy(-1, columns, inputs["profiles"])
        theirs = {**inputs, "node_types": types[inputs["node_types"]], "edge_types": kinds[inputs["edge_types"]]}
        given, found = model.pfhin(**inputs), adapted.pfhin(**{**theirs, "profiles": profiles})
    torch.testing.assert_close(found.node_embeds, given.node_embeds)
    old, new = (each.pfhin.embeddings for each in (model, adapted))
    torch.testing.assert_close(new.node_type.weight[0], old.node_type.weight.mean(0))
    torch.testing.assert_close(new.edge_type.weight[2], old.edge_type.weight[1:].mean(0))


def test_what_cannot_be_taken_along_is_said(graph: HeteroGraph) -> None:
    with pytest.raises(ValueError, match="pre-train it with ids: false"):
        adapt(PFHINForPreTraining(small(graph)), graph)
    with pytest.raises(ValueError, match="head for links is of the model's own edge types"):
        adapt(PFHINForLinkPrediction(small(graph, ids=False)), graph)
    features = replace(graph, features=np.zeros((graph.num_nodes, 2), np.float32))
    with pytest.raises(ValueError, match="reads 0 numeric features"):
        adapt(PFHINForPreTraining(small(graph, ids=False)), features)
