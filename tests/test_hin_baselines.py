"""The baselines do what they are named for, on a graph where the answer is known."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tkre_hf.data.hin import HINTables
from tkre_hf.errors import TkreError
from tkre_hf.hin_baselines import (
    LinkHeuristics,
    classify_sparse,
    deepwalk,
    label_propagation,
    meta_path_features,
    metapath2vec,
)
from tkre_hf.hin_rgcn import rgcn
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.tasks import similarity_search

from .pfhin.conftest import make_tables


@pytest.fixture
def tables() -> HINTables:
    return make_tables()


@pytest.fixture
def graph(tables: HINTables) -> HeteroGraph:
    return HeteroGraph.from_tables(tables)


def test_groups_are_found_by_their_edges_alone(tables: HINTables, graph: HeteroGraph) -> None:
    parts = tables.splits["few"]
    assert label_propagation(graph, tables.labels, parts)["macro_f1"] > 90
    assert classify_sparse(meta_path_features(graph), tables.labels, parts)["macro_f1"] > 90
    shuffled = graph.shuffled(0)
    assert label_propagation(shuffled, tables.labels, parts)["macro_f1"] < 60
    assert classify_sparse(meta_path_features(shuffled), tables.labels, parts)["macro_f1"] < 60


def test_meta_paths_end_where_they_do() -> None:
    # 0 -x-> 1 -y-> 2, and 3 -x-> 1: paths of one edge and two, either way.
    graph = HeteroGraph.from_edges(
        np.zeros(4, int), np.array([0, 1, 3]), np.array([1, 2, 1]), np.array([0, 1, 0]), ["a"], ["x", "y"]
    )
    features = meta_path_features(graph).toarray()
    assert features.shape[0] == 4
    # 0 and 3 have the same neighbour over the same edge, and so the same paths.
    np.testing.assert_allclose(features[0], features[3])
    assert features[0] @ features[2] < 0.6


@pytest.mark.parametrize("kind", ["deepwalk", "metapath2vec"])
def test_walks_and_skip_gram(kind: str, tables: HINTables, graph: HeteroGraph) -> None:
    pytest.importorskip("gensim")
    settings: dict[str, Any] = {"size": 16, "epochs": 15}
    vectors = deepwalk(graph, **settings) if kind == "deepwalk" else metapath2vec(graph, "person", **settings)
    people = np.flatnonzero(tables.labels >= 0)
    assert similarity_search(vectors[people], tables.labels[people], 5, 3000)["similarity_auc"] > 70
    with pytest.raises(ValueError, match="unknown node type 'river'"):
        metapath2vec(graph, "river")


def test_rgcn_learns_from_labels_and_edges(tables: HINTables, graph: HeteroGraph) -> None:
    pytest.importorskip("torch_geometric")
    parts, settings = tables.splits["few"], {"size": 16, "num_bases": 2, "epochs": 30}
    scores = rgcn(graph, tables.labels, parts, **settings)
    assert scores["macro_f1"] > 80
    assert rgcn(graph, tables.labels, parts, **settings) == scores
    assert rgcn(graph.shuffled(0), tables.labels, parts, **settings)["macro_f1"] < 60


def test_without_pyg_the_error_says_what_to_do(
    tables: HINTables, graph: HeteroGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    with pytest.raises(TkreError, match=r"pip install 'tkre-hf\[pyg\]'"):
        rgcn(graph, tables.labels, tables.splits["few"])


def test_without_gensim_the_error_says_what_to_do(graph: HeteroGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim", None)
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(TkreError, match=r"pip install 'tkre-hf\[baselines\]'"):
        deepwalk(graph)


def test_heuristics_tell_held_out_edges_from_others() -> None:
    graph = HeteroGraph.from_tables(make_tables(90, per_person=8))
    src, dst, kind = graph.edges()
    held_out = np.random.default_rng(0).random(len(src)) < 0.1
    triples = np.stack([src, kind, dst], 1)
    rest = graph.without_edges(src[held_out], dst[held_out], kind[held_out])
    model = LinkHeuristics(rest, triples[~held_out])
    right = triples[held_out & (kind == 1)]
    wrong = right.copy()
    wrong[:, 2] = np.random.default_rng(1).integers(90, size=len(right))
    wrong = wrong[~graph.adjacent(wrong[:, 0], wrong[:, 2])]
    labels = np.repeat([1, 0], [len(right), len(wrong)])
    assert roc_auc_score(labels, model.links(np.concatenate([right, wrong]))) > 0.7
