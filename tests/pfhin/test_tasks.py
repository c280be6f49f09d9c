"""The tasks' figures, checked against cases whose answer is known, and embeddings that are written and searched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tkre_hf.errors import TkreError
from tkre_hf.pfhin.blocks import choose_blocks
from tkre_hf.pfhin.embedding import EmbeddingTable, Neighborhoods, embed_nodes, export_embeddings
from tkre_hf.pfhin.finetuning import LinkCollator, NodeCollator, link_inputs, predict_links, predict_nodes
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.links import ComplEx, LinkScorer, MixedScorer, _sample, mix, out_of_fold, train_complex
from tkre_hf.pfhin.modeling_pfhin import PFHINForLinkPrediction, PFHINForNodeClassification, PFHINForPreTraining
from tkre_hf.pfhin.tasks import (
    classify_linear,
    cluster,
    f1_scores,
    link_scores,
    ranking_scores,
    similarity_search,
)

from .conftest import make_tables
from .test_modeling import small


def blobs(count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    return np.eye(3, 8)[labels] * 4 + rng.normal(size=(count, 8)) * 0.3, labels


def test_blocks_are_weighed_by_what_nodes_of_a_label_share() -> None:
    told, labels = blobs()
    noise = np.random.default_rng(1).normal(size=(len(labels), 16)) * 3
    other = np.random.default_rng(2).normal(size=(len(labels), 4))
    found = choose_blocks({"noise": noise, "told": told, "other": other}, labels)  # type: ignore[dict-item]
    assert found == {"told": 1.0}
    # Of two that tell different labels apart both count.
    one, two = np.eye(3)[np.minimum(labels, 1)], np.eye(3)[np.maximum(labels, 1)]
    assert set(choose_blocks({"one": one, "two": two}, labels)) == {"one", "two"}  # type: ignore[dict-item]
    # Of many nodes some of each label choose.
    assert choose_blocks({"noise": noise, "told": told}, labels, most=30) == {"told": 1.0}  # type: ignore[dict-item]
    for wrong in (np.zeros(120, int), np.arange(120)):
        with pytest.raises(ValueError, match="of several labels"):
            choose_blocks({"told": told}, wrong)


def test_f1() -> None:
    scores = f1_scores(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    assert scores["micro_f1"] == pytest.approx(75) and scores["macro_f1"] == pytest.approx(100 * (0.8 + 2 / 3) / 2)


def test_separate_groups_score_full_marks_and_noise_none() -> None:
    vectors, labels = blobs()
    noise = np.random.default_rng(1).normal(size=vectors.shape)
    parts = (np.arange(60), np.arange(60, 90), np.arange(90, 120))
    assert classify_linear(vectors, labels, *parts)["macro_f1"] == 100
    assert classify_linear(noise, labels, *parts)["macro_f1"] < 60
    assert cluster(vectors, labels) == {"nmi": pytest.approx(100), "ari": pytest.approx(100)}
    assert cluster(noise, labels)["nmi"] < 10
    assert similarity_search(vectors, labels) == {"precision_at_10": 100, "similarity_auc": pytest.approx(100)}
    found = similarity_search(noise, labels)
    assert found["precision_at_10"] == pytest.approx(33, abs=8) and found["similarity_auc"] == pytest.approx(50, abs=3)


def test_neighbours_are_of_more_nodes_than_are_sought() -> None:
    vectors, labels = blobs()
    with pytest.raises(ValueError, match="nearest 10 of a node are sought among 10 labelled nodes"):
        similarity_search(vectors[:10], labels[:10])
    assert similarity_search(vectors[-11:], labels[-11:])["precision_at_10"] > 0


def test_ranks_are_filtered_and_ties_halved() -> None:
    scores = np.array([[5.0, 4, 3, 2], [1, 1, 1, 1]])

    def tails(heads: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        return scores[heads]

    def heads(tails: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        return np.full((len(tails), 4), -1.0)

    triples = np.array([[0, 0, 2], [1, 0, 3]])
    known = np.concatenate([triples, [[0, 0, 0], [0, 1, 1]]])
    # Tails: 0 is known to be true and left out, so 2 is second; all alike: 1 + 3 / 2.
    ranks = [2, 2.5, 2.5, 2.5]
    found = ranking_scores(tails, heads, triples, known, 4)
    assert found["mrr"] == pytest.approx(100 * np.mean([1 / rank for rank in ranks]))
    assert found["hits_1"] == 0 and found["hits_3"] == 100


def test_links_have_a_threshold_for_each_type() -> None:
    kinds = np.repeat([0, 1], 20)
    labels = np.tile([0, 1], 20)
    scores = labels + 10.0 * kinds
    found = link_scores(scores, labels, kinds, (scores, labels, kinds))
    assert found["link_accuracy"] == 100 and found["link_auc"] == pytest.approx(75)
    with_unseen = link_scores(scores, labels, kinds, (scores[:20], labels[:20], kinds[:20]))
    assert with_unseen["link_accuracy"] == 75


def ring(nodes: int = 24) -> np.ndarray:
    """Two edge types on a ring: to the next node, and to that after it."""
    i = np.arange(nodes)
    return np.concatenate([np.stack([i, i * 0, (i + 1) % nodes], 1), np.stack([i, i * 0 + 1, (i + 2) % nodes], 1)])


def test_complex_learns_a_ring_with_its_direction() -> None:
    triples = ring()
    model = train_complex(triples, 24, 2, size=16, epochs=150, batch_size=16, regularization=1e-4)
    scorer = LinkScorer(model)
    found = ranking_scores(scorer.tails, scorer.heads, triples, triples, 24)
    assert found["mrr"] > 95
    back = scorer.links(triples[:, 2], triples[:, 1], triples[:, 0])
    assert (scorer.links(*triples.T) > back).mean() > 0.95
    again = train_complex(triples, 24, 2, size=16, epochs=2, batch_size=16)
    torch.testing.assert_close(
        again.vectors(), train_complex(triples, 24, 2, size=16, epochs=2, batch_size=16).vectors()
    )


def test_a_sample_of_nodes_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    triples = ring()
    learned = {"size": 16, "epochs": 150, "batch_size": 16, "regularization": 1e-4, "sampled_above": 10}
    scorer = LinkScorer(train_complex(triples, 24, 2, num_sampled=8, **learned))  # type: ignore[arg-type]
    assert ranking_scores(scorer.tails, scorer.heads, triples, triples, 24)["mrr"] > 90
    # All of them drawn are all of them, and of few each counts for several.
    monkeypatch.setattr("tkre_hf.pfhin.links.bf16_supported", lambda use_cpu: False)
    step: dict[str, Any] = {"size": 4, "epochs": 20, "batch_size": 100}
    weights = [
        train_complex(triples[:3], 24, 2, **step, **how).types.weight
        for how in ({}, {"sampled_above": 10, "num_sampled": 5000}, {"sampled_above": 10, "num_sampled": 4})
    ]
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=1e-3)

    def uncounted(*args: Any) -> Any:
        nodes, places, counts = _sample(*args)
        return nodes, places, torch.ones_like(counts)

    with monkeypatch.context() as patch:
        patch.setattr("tkre_hf.pfhin.links._sample", uncounted)
        without = train_complex(triples[:3], 24, 2, **step, sampled_above=10, num_sampled=4).types.weight
    assert (without - weights[2]).abs().max() > 0.01
    # The same draws again, and the same folds; in bfloat16 it learns as well.
    features = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)
    how = {"size": 4, "epochs": 2, "batch_size": 16, "sampled_above": 10, "folds": [(np.arange(48), features)]}
    found = [train_complex(triples, 24, 2, **how) for _ in range(2)]  # type: ignore[arg-type]
    monkeypatch.setattr("tkre_hf.pfhin.links.bf16_supported", lambda use_cpu: True)
    found.append(train_complex(triples, 24, 2, **how))  # type: ignore[arg-type]
    vectors = [each.vectors(torch.from_numpy(features)) for each in found]
    assert not torch.equal(vectors[0], vectors[2])
    torch.testing.assert_close(vectors[0], vectors[1])
    torch.testing.assert_close(vectors[0], vectors[2], atol=0.05, rtol=0.05)


def test_a_sample_estimates_the_sum_over_all_nodes() -> None:
    rng = np.random.default_rng(0)
    given = torch.tensor([3, 7, 7, 1])
    scores = torch.from_numpy(rng.normal(size=100)).exp()
    estimates = []
    for _ in range(400):
        nodes, places, counts = _sample(given, 100, 20, rng)
        assert nodes[places].tolist() == given.tolist() and len(set(nodes.tolist())) == len(nodes)
        estimates.append(float((scores[nodes] * counts).sum()))
    assert np.mean(estimates) == pytest.approx(float(scores.sum()), rel=0.03)


def test_complex_is_its_formula() -> None:
    torch.manual_seed(0)
    model = ComplEx(5, 2, size=3)
    vectors = model.vectors().detach()
    head, kind, tail = 1, 1, 4
    score = (model.queries(vectors, torch.tensor([head]), torch.tensor([kind])) * vectors[tail]).sum()

    def number(row: torch.Tensor) -> torch.Tensor:
        return torch.complex(row[:3], row[3:])

    expected = (number(vectors[head]) * number(model.types.weight[kind]) * number(vectors[tail]).conj()).sum().real
    torch.testing.assert_close(score, expected)
    moduli = number(vectors[head]).abs() ** 3
    torch.testing.assert_close(model.penalty(vectors[head : head + 1]), moduli.sum())


def test_out_of_fold_embeddings_never_saw_their_edges(graph: HeteroGraph) -> None:
    model = PFHINForPreTraining(small(graph)).eval()
    src, dst, kind = graph.edges()
    triples = np.stack([src, kind, dst], 1)
    folds = out_of_fold(model, graph, triples, num_folds=3, num_walks=1)
    assert sorted(np.concatenate([rows for rows, _ in folds]).tolist()) == list(range(len(triples)))
    assert all(vectors.shape == (graph.num_nodes, 32) for _, vectors in folds)
    assert not np.allclose(folds[0][1], folds[1][1])
    scorer = LinkScorer(train_complex(triples, graph.num_nodes, 3, 8, epochs=1, folds=folds), folds[0][1])
    assert scorer.tails(src[:4], kind[:4]).shape == (4, graph.num_nodes)


def test_nodes_without_vectors_of_their_own_are_told_by_embeddings_alone() -> None:
    with pytest.raises(ValueError, match="need vectors of their own, or embeddings beneath"):
        ComplEx(5, 2, size=3, own=False)
    torch.manual_seed(0)
    model = ComplEx(5, 2, size=3, num_features=4, own=False)
    features = torch.randn(5, 4)
    assert model.nodes is None and model.features is not None
    torch.testing.assert_close(model.vectors(features), features @ model.features.weight.T)
    # Two nodes of the same embedding are the same to it.
    features[3] = features[1]
    scorer = LinkScorer(model, features.numpy())
    scores = scorer.tails(np.array([0]), np.array([1]))[0]
    assert scores[3] == scores[1] != scores[2]


def test_a_mixture_adds_scores_and_held_out_links_choose_its_weight() -> None:
    triples = ring()
    good, bad = (
        LinkScorer(train_complex(triples, 24, 2, size=16, epochs=epochs, batch_size=16, regularization=1e-4))
        for epochs in (150, 0)
    )
    mixed = MixedScorer(bad, good, 0.5)
    heads, kinds, tails = triples[:7].T
    for name, given in (("tails", (heads, kinds)), ("heads", (tails, kinds)), ("links", (heads, kinds, tails))):
        np.testing.assert_allclose(
            getattr(mixed, name)(*given), getattr(bad, name)(*given) + 0.5 * getattr(good, name)(*given), rtol=1e-5
        )
    assert mix(bad, good, triples, triples, 24).weight > 0
    # Of many links some choose, from the first to the last.
    asked: list[np.ndarray] = []
    original = good.tails
    good.tails = lambda heads, kinds: asked.append(heads) or original(heads, kinds)  # type: ignore[method-assign, func-returns-value]
    assert mix(bad, good, triples, triples, 24, weights=[1.0], most=5).weight == 1
    assert np.concatenate(asked).tolist() == triples[[0, 11, 23, 35, 47], 0].tolist()
    good.tails = original  # type: ignore[method-assign]
    # What says nothing counts for nothing: of weights that rank alike the smallest is taken.
    nothing = LinkScorer(train_complex(triples, 24, 2, size=16, epochs=0))
    nothing._vectors = torch.zeros_like(nothing._vectors)
    assert mix(good, nothing, triples, triples, 24).weight == 0


def test_embeddings_are_means_over_walks_and_in_any_batch(graph: HeteroGraph) -> None:
    model = PFHINForPreTraining(small(graph)).eval()
    neighborhoods = Neighborhoods(model, graph)
    whole = embed_nodes(model, neighborhoods, num_walks=3)
    np.testing.assert_allclose(embed_nodes(model, neighborhoods, np.array([5, 9]), 3, 1), whole[[5, 9]], atol=1e-5)
    assert not np.allclose(embed_nodes(model, neighborhoods, num_walks=1), whole)


def test_an_embedding_consists_of_blocks(graph: HeteroGraph) -> None:
    model = PFHINForPreTraining(small(graph, profile=True)).eval()
    neighborhoods = Neighborhoods(model, graph)
    nodes = np.array([40, 3, 65])
    whole = embed_nodes(model, neighborhoods, num_walks=2)
    some = embed_nodes(model, neighborhoods, nodes, num_walks=2)
    np.testing.assert_allclose(some, whole[nodes], atol=1e-5)
    # Half of the ids, the profile, half of the context: 8 + 16 + 8 numbers.
    ids, profile, context = np.split(whole, [8, 24], axis=1)
    rows = neighborhoods.reader.rows
    assert rows is not None
    weight = model.pfhin.embeddings.ids.weight.detach().numpy()[rows]
    np.testing.assert_allclose(ids, 0.5 * weight / np.linalg.norm(weight, axis=1, keepdims=True), atol=1e-6)
    for kind in range(3):
        mine = profile[graph.node_type == kind]
        np.testing.assert_allclose(mine.mean(0), 0, atol=1e-5)
        # All clubs have as many members.
        assert (mine**2).sum(1).mean() == pytest.approx(0 if graph.node_types[kind] == "club" else 1, abs=1e-4)
    assert (np.linalg.norm(context, axis=1) <= 0.5 + 1e-6).all()
    # The context is of the node's neighbourhood: its own embedding has no part in it.
    own = torch.nn.Parameter(model.pfhin.embeddings.ids.weight.clone())
    with torch.no_grad():
        own[rows[3]] += 5
    model.pfhin.embeddings.ids.weight = own
    again = embed_nodes(model, neighborhoods, nodes, num_walks=2)
    assert not np.allclose(again[1, :8], some[1, :8])
    np.testing.assert_allclose(again[1, 24:], some[1, 24:], atol=1e-5)
    both = embed_nodes(model, neighborhoods, nodes, blocks={"state": 2.0, "pooled": 1.0}, num_walks=1)
    np.testing.assert_allclose(np.linalg.norm(both[:, :16], axis=1), 2, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(both[:, 16:], axis=1), 1, atol=1e-5)


def test_blocks_that_a_model_has_not_are_refused(graph: HeteroGraph) -> None:
    model = PFHINForPreTraining(small(graph, ids=False)).eval()
    neighborhoods = Neighborhoods(model, graph)
    assert embed_nodes(model, neighborhoods, np.arange(2)).shape == (2, 32)
    for blocks, message in (
        ({"ids": 1.0}, "no node embeddings: leave out the block ids"),
        ({"profile": 1.0}, "reads no profiles: leave out the block profile"),
        ({"name": 1.0}, "blocks must be of ids, profile, context, state, pooled, found name"),
        ({}, "found none"),
    ):
        with pytest.raises(ValueError, match=message):
            embed_nodes(model, neighborhoods, blocks=blocks)


def test_embeddings_are_written_once_and_searched(graph: HeteroGraph, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(graph.num_nodes, 6)).astype(np.float32)
    vectors[5] = vectors[3] * 2 + 0.01
    export_embeddings(tmp_path, graph, vectors)
    table = EmbeddingTable(tmp_path)
    np.testing.assert_array_equal(table.vectors, vectors)
    assert table.node_ids == list(graph.node_ids)
    found = table.similar("n3", 4)
    assert found[0][0] == "n5" and found[0][2] > 0.99 and table.similar("name n3", 4) == found
    cosines = [cosine for *_, cosine in found]
    assert cosines == sorted(cosines, reverse=True)
    # A city has five others of its type, however many nodes lie between.
    cities = [id for id, *_ in table.similar("n60", 10)]
    assert sorted(cities) == [f"n{i}" for i in range(61, 66)]
    assert len(table.similar("n60", 10, same_type=False)) == 10
    with pytest.raises(TkreError, match="'n999' is no node"):
        table.similar("n999")
    with pytest.raises(TkreError, match=r"holds no embeddings.parquet: write it with tkre hin embed"):
        EmbeddingTable(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="2 vectors for 69 nodes"):
        export_embeddings(tmp_path, graph, vectors[:2])


def test_without_faiss_the_error_says_what_to_do(graph: HeteroGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(TkreError, match=r"pip install 'tkre-hf\[hin\]'"):
        export_embeddings("nowhere", graph, np.zeros((graph.num_nodes, 2), np.float32))


def test_labelled_nodes_and_links_make_batches(graph: HeteroGraph) -> None:
    tables = make_tables()
    config = small(graph, num_labels=3)
    classifier = PFHINForNodeClassification(config).eval()
    neighborhoods = Neighborhoods(classifier, graph)
    batch = NodeCollator(neighborhoods, tables.labels)([(4, 0, 0), (7, 0, 0)])
    assert batch["labels"].tolist() == tables.labels[[4, 7]].tolist()
    probabilities = predict_nodes(classifier, neighborhoods, np.arange(6), 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)

    src, dst, kind = graph.edges()
    triples = np.stack([src, kind, dst], 1)
    batch = LinkCollator(neighborhoods, triples)([(i, 0, 0) for i in range(40)])
    rows = neighborhoods.reader.rows
    assert rows is not None
    node = np.argsort(rows)[batch["node_ids"].numpy()]
    heads, tails = node[0::2, 0], node[1::2, 0]
    labels = batch["labels"].numpy()
    np.testing.assert_array_equal(np.stack([heads, batch["link_types"], tails], 1)[labels == 1], triples[:40])
    np.testing.assert_array_equal(graph.adjacent(heads, tails), labels == 1)
    assert (graph.node_type[heads[labels == 0]] == 2).all()
    # Neither end stands in the other's walk.
    valid = batch["attention_mask"].numpy() > 0
    assert not ((node[0::2] == tails[:, None]) & valid[0::2]).any()
    assert not ((node[1::2] == heads[:, None]) & valid[1::2]).any()
    links = PFHINForLinkPrediction(config).eval()
    assert links(**batch).loss.isfinite()
    scores = predict_links(links, neighborhoods, triples[:5], 1, batch_size=2)
    with torch.no_grad():
        np.testing.assert_allclose(scores, links(**link_inputs(neighborhoods, triples[:5])).logits, atol=1e-5)
