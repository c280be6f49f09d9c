"""The typed graph: both directions, what is taken out is out, and numbering plays no part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tkre_hf.data.hin import HINTables
from tkre_hf.errors import TkreError
from tkre_hf.pfhin.graph import HeteroGraph, hash_ids
from tkre_hf.pfhin.synthetic import power_law_graph

Edge = tuple[int, int, int]


def edge_set(graph: HeteroGraph) -> list[Edge]:
    return sorted(zip(*(part.tolist() for part in graph.edges()), strict=True))


def make(edges: list[Edge], nodes: int = 6) -> HeteroGraph:
    columns = np.array(edges, dtype=np.int64).reshape(-1, 3)
    types = np.arange(nodes) % 2
    return HeteroGraph.from_edges(types, columns[:, 0], columns[:, 1], columns[:, 2], ["a", "b"], ["x", "y", "z"])


EDGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2)), max_size=15)


@settings(max_examples=60, deadline=None)
@given(edges=EDGES)
def test_every_edge_stands_twice(edges: list[Edge]) -> None:
    graph = make(edges)
    assert edge_set(graph) == sorted(edges) and graph.num_edges == len(edges)
    entries = zip(graph.rows().tolist(), graph.indices.tolist(), graph.edge_type.tolist(), strict=True)
    expected = [(s, d, e) for s, d, e in edges] + [(d, s, e + 3) for s, d, e in edges]
    assert sorted(entries) == sorted(expected)
    for node in range(6):
        place = graph.place[graph.neighbors(node)]
        assert (np.diff(place) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(edges=EDGES, gone=EDGES)
def test_adjacency_and_removal(edges: list[Edge], gone: list[Edge]) -> None:
    graph = make(edges)
    first, second = np.repeat(np.arange(6), 6), np.tile(np.arange(6), 6)
    joined = {(s, d) for s, d, _ in edges} | {(d, s) for s, d, _ in edges}
    expected = [(int(a), int(b)) in joined for a, b in zip(first, second, strict=True)]
    assert graph.adjacent(first, second).tolist() == expected
    columns = np.array(gone, dtype=np.int64).reshape(-1, 3)
    typed = graph.without_edges(columns[:, 0], columns[:, 1], columns[:, 2])
    assert edge_set(typed) == sorted(edge for edge in edges if edge not in gone)
    untyped = graph.without_edges(columns[:, 0], columns[:, 1])
    pairs = {(s, d) for s, d, _ in gone} | {(d, s) for s, d, _ in gone}
    assert edge_set(untyped) == sorted(edge for edge in edges if edge[:2] not in pairs)
    assert edge_set(graph.without_edge_types(["y"])) == sorted(edge for edge in edges if edge[2] != 1)


def test_a_permuted_graph_is_the_same_graph(graph: HeteroGraph) -> None:
    order = np.random.default_rng(1).permutation(graph.num_nodes)
    other = graph.permuted(order)
    back = sorted((int(order[s]), int(order[d]), e) for s, d, e in edge_set(other))
    assert back == edge_set(graph)
    assert [other.node_ids.index(id) for id in graph.node_ids] == np.argsort(order).tolist()
    np.testing.assert_array_equal(other.key, graph.key[order])
    # And a node's neighbours come in the same order.
    for node in range(graph.num_nodes):
        np.testing.assert_array_equal(order[other.neighbors(node)], graph.neighbors(int(order[node])))
    with pytest.raises(ValueError, match="no permutation"):
        graph.permuted(np.zeros(graph.num_nodes, int))


def test_shuffled_edges_keep_degrees_and_lose_the_rest(graph: HeteroGraph) -> None:
    other = graph.shuffled(0)
    for own, theirs in zip(graph.edges(), other.edges(), strict=True):
        np.testing.assert_array_equal(np.bincount(own), np.bincount(theirs))
    assert len(set(edge_set(graph)) & set(edge_set(other))) < graph.num_edges / 2
    np.testing.assert_array_equal(graph.shuffled(0).indices, other.indices)
    order = np.random.default_rng(2).permutation(graph.num_nodes)
    permuted = graph.permuted(order).shuffled(0)
    assert sorted((int(order[s]), int(order[d]), e) for s, d, e in edge_set(permuted)) == edge_set(other)


@pytest.mark.parametrize("mmap", [True, False])
def test_saved_and_loaded(mmap: bool, tables: HINTables, tmp_path: Path) -> None:
    tables.features = np.full((tables.num_nodes, 2), np.nan, np.float32)
    tables.features[3] = [1.5, -2]
    graph = HeteroGraph.from_tables(tables)
    graph.save(tmp_path / "graph")
    again = HeteroGraph.load(tmp_path / "graph", mmap=mmap)
    assert isinstance(again.indices, np.memmap) == mmap
    for name, value in vars(graph).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value)
        else:
            assert getattr(again, name) == value
    (tmp_path / "graph" / "key.npy").unlink()
    with pytest.raises(TkreError, match="holds no graph that can be read"):
        HeteroGraph.load(tmp_path / "graph")


def test_wrong_numbers_are_refused(graph: HeteroGraph) -> None:
    with pytest.raises(ValueError, match="dst must lie from 0 to 5"):
        make([(0, 6, 0)])
    with pytest.raises(ValueError, match="edge_type must lie from 0 to 2"):
        make([(0, 1, 3)])
    with pytest.raises(ValueError, match="unknown edge type 'hates': the graph has in, knows, lives"):
        graph.without_edge_types(["hates"])


def test_ids_hash_alike_everywhere() -> None:
    assert hash_ids(["a", "b"]).tolist() == [3405396810240292928, 8453121595177857668]
    assert len(set(hash_ids([str(i) for i in range(10_000)]).tolist())) == 10_000


def test_a_power_law_graph_has_hubs_and_its_size() -> None:
    graph = power_law_graph(20_000)
    assert graph.num_edges == 20_000 and graph.num_nodes == 2_000
    degree = np.sort(graph.degree)[::-1]
    assert degree[0] > 20 * np.median(degree)
    np.testing.assert_array_equal(power_law_graph(20_000).indices, graph.indices)
    with pytest.raises(ValueError, match="exponent above 2"):
        power_law_graph(10, exponent=2)
