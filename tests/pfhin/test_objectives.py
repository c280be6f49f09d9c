"""Masks, pairs and batches: their rates and kinds, what stays hidden, and that they are the nodes' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tkre_hf.pfhin.centrality import ranks
from tkre_hf.pfhin.data_collator import PreTrainingCollator
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.inputs import NodeReader, config_for, graph_key
from tkre_hf.pfhin.masking import mask_nodes
from tkre_hf.pfhin.pairs import IGNORED, PairSampler
from tkre_hf.pfhin.sampling import EpochBatchSampler
from tkre_hf.pfhin.synthetic import power_law_graph
from tkre_hf.pfhin.walks import NONE, Walker, WalkSettings

WALK = WalkSettings(num_walks=4, walk_length=6, max_length=10)


def collator_of(graph: HeteroGraph, ids: bool = True, **settings: Any) -> PreTrainingCollator:
    rank, parts = ranks(graph, "degree")
    reader = NodeReader(graph, parts, config_for(graph, ids))
    return PreTrainingCollator(Walker(graph, rank, WALK), reader, PairSampler(graph), **settings)


def keys(nodes: Any, epoch: int = 0, step: int = 0) -> list[tuple[int, int, int]]:
    return [(int(node), epoch, step) for node in nodes]


def test_masks_have_their_shares_and_each_sequence_one(graph: HeteroGraph) -> None:
    rng = np.random.default_rng(0)
    nodes = rng.integers(graph.num_nodes, size=(3000, 12))
    nodes[:, 8:] = np.where(rng.random((3000, 4)) < 0.5, NONE, nodes[:, 8:])
    by_type = PairSampler(graph).by_type
    masked = mask_nodes(nodes, graph.key, graph.node_type, by_type, 0, 0, 0.3, salt=np.arange(3000)[:, None])
    valid = nodes != NONE
    assert not masked.asked[~valid].any() and masked.asked.any(1).all()
    assert masked.asked[valid].mean() == pytest.approx(0.3, abs=0.02)
    assert masked.hidden[masked.asked].mean() == pytest.approx(0.8, abs=0.02)
    assert not (masked.hidden & ~masked.asked).any()
    replaced = masked.shown != nodes
    assert not (replaced & (masked.hidden | ~masked.asked)).any()
    # One in 69 stands in for itself.
    assert replaced[masked.asked].mean() == pytest.approx(0.1, abs=0.015)
    assert (graph.node_type[masked.shown[replaced]] == graph.node_type[nodes[replaced]]).all()
    for rate, hidden in ((0, 0.8), (1.1, 0.8), (0.5, 0.95)):
        with pytest.raises(ValueError, match="expected a rate"):
            mask_nodes(nodes, graph.key, graph.node_type, by_type, 0, 0, rate, hidden)


def test_a_mask_is_its_sequences_own(graph: HeteroGraph) -> None:
    nodes = np.random.default_rng(0).integers(graph.num_nodes, size=(50, 12))
    by_type = PairSampler(graph).by_type

    def mask(rows: Any, epoch: int = 0, seed: int = 0) -> Any:
        return mask_nodes(nodes[rows], graph.key, graph.node_type, by_type, epoch, seed)

    whole, part = mask(slice(None)), mask(slice(20, 30))
    for name in ("shown", "hidden", "asked"):
        np.testing.assert_array_equal(getattr(whole, name)[20:30], getattr(part, name))
    assert (mask(slice(None), epoch=1).asked != whole.asked).any()
    assert (mask(slice(None), seed=1).asked != whole.asked).any()


@pytest.mark.parametrize("negatives", [["uniform"], ["type"], ["degree"], ["uniform", "type", "degree"]])
def test_half_of_the_pairs_are_adjacent(negatives: list[str]) -> None:
    graph = power_law_graph(6000, edges_per_node=6)
    sampler = PairSampler(graph, negatives)
    anchors = np.flatnonzero(sampler.askable)
    partners, labels = sampler.draw(anchors, 0)
    asked = labels != IGNORED
    assert asked.mean() > 0.9 and labels[asked].mean() == pytest.approx(0.5, abs=0.06)
    np.testing.assert_array_equal(graph.adjacent(anchors[asked], partners[asked]), labels[asked] == 1)
    assert (anchors != partners)[asked].all()
    # Hidden, the edge leaves neither node alone.
    assert sampler.askable[partners[asked]].all()
    wrong, right = partners[labels == 0], partners[labels == 1]
    if negatives == ["degree"]:
        # Neither a node's degree nor its type gives away which kind of pair it is.
        assert np.log(graph.degree[wrong]).mean() == pytest.approx(np.log(graph.degree[right]).mean(), abs=0.25)
    if negatives == ["uniform"]:
        assert np.log(graph.degree[wrong]).mean() < np.log(graph.degree[right]).mean() - 0.5
    again, _ = sampler.draw(anchors[10:20], 0)
    np.testing.assert_array_equal(again, partners[10:20])
    assert (sampler.draw(anchors, 1)[0] != partners).any()


def test_negatives_are_of_a_neighbours_type(graph: HeteroGraph) -> None:
    # A city has people for neighbours, and never gets a club beside it.
    cities = np.flatnonzero(graph.node_type == 0)
    for kind in ("type", "degree"):
        sampler = PairSampler(graph, [kind])
        for epoch in range(20):
            partners, labels = sampler.draw(cities, epoch)
            assert (graph.node_type[partners[labels != IGNORED]] == 2).all()


def test_a_node_without_a_neighbour_to_spare_is_not_asked_about() -> None:
    graph = HeteroGraph.from_edges(
        np.zeros(4, int), np.array([0, 1]), np.array([1, 2]), np.zeros(2, int), ["a"], ["x"]
    )
    partners, labels = PairSampler(graph).draw(np.arange(4), 0)
    assert (labels == IGNORED).all() and (partners >= 0).all()
    with pytest.raises(ValueError, match="negatives must be of uniform, type, degree, found hard"):
        PairSampler(graph, ["hard"])


def test_neither_node_of_a_pair_stands_in_the_others_walk(graph: HeteroGraph) -> None:
    collator = collator_of(graph)
    rows = collator.reader.rows
    assert rows is not None
    for epoch in range(3):
        anchors = np.arange(graph.num_nodes)
        partners, labels = collator.pairs.draw(anchors, epoch)
        batch = collator(keys(anchors, epoch))
        shown = torch.where(batch["labels"] != IGNORED, batch["labels"], batch["node_ids"])
        shown = torch.where(batch["attention_mask"].bool(), shown, -1).numpy()
        asked = labels != IGNORED
        assert asked.any()
        np.testing.assert_array_equal(shown[0::2, 0], rows[anchors])
        assert not (shown[0::2] == rows[partners][:, None])[asked].any()
        assert not (shown[1::2] == rows[anchors][:, None])[asked].any()


def test_a_batch_is_what_its_parts_are(graph: HeteroGraph) -> None:
    collator = collator_of(graph)
    whole, first, second = (collator(keys(nodes, 1)) for nodes in (range(20), range(12), range(12, 20)))
    for name, value in whole.items():
        parts = [first[name], second[name]]
        if value.ndim > 1:
            width = min(value.shape[1], *(part.shape[1] for part in parts))
            value, parts = value[:, :width], [part[:, :width] for part in parts]
        torch.testing.assert_close(torch.cat(parts), value, msg=name)


def test_rows_are_by_type_and_labels_are_rows(graph: HeteroGraph) -> None:
    collator = collator_of(graph, rate=0.5)
    batch = collator(keys(range(30)))
    asked = batch["labels"] != IGNORED
    bounds = np.cumsum([0, *collator.reader.config.nodes_per_type])
    types = batch["node_types"][asked].numpy()
    labels = batch["labels"][asked].numpy()
    assert ((labels >= bounds[types]) & (labels < bounds[types + 1])).all()
    untouched = asked & ~batch["node_mask"] & (batch["node_ids"] == batch["labels"])
    assert untouched.any()
    assert set(batch) >= {"node_ids", "hops", "visits", "ranks", "degrees", "attention_mask", "anp_labels"}
    assert "candidates" not in batch


def test_without_ids_hidden_nodes_are_told_by_where_they_stand_shown(graph: HeteroGraph) -> None:
    collator = collator_of(graph, ids=False, rate=0.5)
    batch = collator(keys(range(30)))
    assert "node_ids" not in batch
    reference = collator_of(graph, rate=0.5)(keys(range(30)))
    asked = batch["labels"] != IGNORED
    places = batch["candidates"][batch["labels"][asked]]
    # The place shows the node that is asked for.
    torch.testing.assert_close(reference["node_ids"].flatten()[places], reference["labels"][asked])
    assert len(reference["node_ids"].flatten()[batch["candidates"]].unique()) == len(batch["candidates"])


def test_sampled_candidates_are_of_their_type_and_weighted(graph: HeteroGraph) -> None:
    collator = collator_of(graph, sampled_softmax_above=10, num_sampled=4000)
    batch = collator(keys(range(10), step=3))
    rows = collator.reader.rows
    assert rows is not None
    node_of = np.argsort(rows)
    for type in range(3):
        drawn, log_q = batch["candidates"][type].numpy(), batch["candidate_log_q"][type].numpy()
        assert (graph.node_type[node_of[drawn]] == type).all()
        counts = np.bincount(drawn, minlength=graph.num_nodes)
        for row in np.unique(drawn):
            assert counts[row] == pytest.approx(np.exp(log_q[drawn == row][0]), rel=0.35, abs=12)
    again = collator(keys(range(20, 25), step=3))
    torch.testing.assert_close(again["candidates"], batch["candidates"])
    assert (collator(keys(range(10), step=4))["candidates"] != batch["candidates"]).any()


def test_a_reader_knows_its_graph(graph: HeteroGraph) -> None:
    _, parts = ranks(graph, "degree")
    config = config_for(graph)
    order = np.random.default_rng(0).permutation(graph.num_nodes)
    permuted = graph.permuted(order)
    assert graph_key(permuted) == graph_key(graph)
    rows, theirs = NodeReader(graph, parts, config).rows, NodeReader(permuted, parts[order], config).rows
    assert rows is not None and theirs is not None
    np.testing.assert_array_equal(theirs, rows[order])
    other = power_law_graph(100)
    with pytest.raises(ValueError, match="knows no node type 't0'"):
        NodeReader(other, ranks(other, "degree")[1], config)
    keyed = HeteroGraph.from_edges(
        graph.node_type, *graph.edges(), graph.node_types, graph.edge_types, key=graph.key + np.uint64(1)
    )
    with pytest.raises(ValueError, match="of another graph's nodes"):
        NodeReader(keyed, parts, config)
    with pytest.raises(ValueError, match="reads text_embeds of shape"):
        NodeReader(graph, parts, config_for(graph, text_size=4))


def test_batches_of_two_processes_are_those_of_one() -> None:
    nodes = np.arange(50)[::-1].copy()
    one = EpochBatchSampler(nodes, 8, seed=1)
    two = [EpochBatchSampler(nodes, 8, 1, rank, 2) for rank in (0, 1)]
    for sampler in (one, *two):
        sampler.set_epoch(3)
    batches = list(one)
    assert len(batches) == len(one) == 6
    assert batches == [first + second for first, second in zip(*two, strict=True)]
    assert len({node for batch in batches for node, *_ in batch}) == 48
    assert [batch[0][2] for batch in batches] == list(range(18, 24))
    one.set_epoch(4)
    assert list(one) != batches
    with pytest.raises(ValueError, match="can't be shared by 3 processes"):
        EpochBatchSampler(nodes, 8, world_size=3)
    with pytest.raises(ValueError, match="more than the 50 nodes"):
        EpochBatchSampler(nodes, 64)
