"""Walks: along edges, with the right probabilities, in quotas and order, and whoever else is in the batch."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tkre_hf.errors import TkreError
from tkre_hf.pfhin.alias import alias_tables
from tkre_hf.pfhin.centrality import centralities, quantiles, ranks
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.hashing import Stream, hashed, uniform
from tkre_hf.pfhin.walks import NONE, Sequences, Walker, WalkSettings

from .test_graph import EDGES, Edge, make


def walker_of(graph: HeteroGraph, seed: int = 0, **how: Any) -> Walker:
    return Walker(graph, ranks(graph, "degree")[0], WalkSettings(**how), seed)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(st.floats(1e-3, 1e3), max_size=9), min_size=1, max_size=6))
# The mean of these three is rounded to more than each of them.
@example(rows=[[341.8810659848565] * 3])
@example(rows=[[1.0, 2.0], [], [341.8810659848565] * 3, [341.8810659848565] * 3, [3.0, 1.0, 1.0]])
def test_alias_tables_have_the_weights(rows: list[list[float]]) -> None:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    weights = np.array([weight for row in rows for weight in row], dtype=float)
    share, alias = alias_tables(weights, indptr)
    for row, (low, high) in zip(rows, zip(indptr, indptr[1:], strict=False), strict=True):
        assert ((alias[low:high] >= low) & (alias[low:high] < high)).all()
        drawn = share[low:high].astype(float)
        np.add.at(drawn, alias[low:high] - low, 1 - share[low:high])
        if row:
            np.testing.assert_allclose(drawn / len(row), np.array(row) / sum(row), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(edges=EDGES, epoch=st.integers(0, 3), tau=st.sampled_from([0.0, 1.0, 2.0]))
def test_a_walk_follows_edges(edges: list[Edge], epoch: int, tau: float) -> None:
    graph = make(edges)
    if not edges:
        tau = 0.0
    walker = Walker(graph, np.linspace(0.1, 1, 6), WalkSettings(3, 7, 0.2, tau))
    nodes, kinds, hops = walker.walk(np.arange(6), epoch)
    known = {(s, d, e) for s, d, e in edges} | {(d, s, e + 3) for s, d, e in edges}
    for start in range(6):
        for walk, kind, hop in zip(nodes[start], kinds[start], hops[start], strict=True):
            assert walk[0] == start and kind[0] == NONE and hop[0] == 0
            for i in range(1, 8):
                if kind[i] == NONE:
                    assert walk[i] == start and hop[i] == 0
                else:
                    assert (walk[i - 1], walk[i], kind[i]) in known and hop[i] == hop[i - 1] + 1


def test_steps_prefer_rank_to_the_power_of_tau() -> None:
    star = make([(0, i, 0) for i in range(1, 6)])
    rank = np.array([1, 0.1, 0.2, 0.3, 0.4, 1.0])
    for tau in (0.0, 0.5, 1.0, 3.0):
        walker = Walker(star, rank, WalkSettings(tau=tau))
        to, _ = walker.step(np.zeros(200_000, int), np.random.default_rng(0).random(200_000))
        expected = rank[1:] ** tau / (rank[1:] ** tau).sum()
        np.testing.assert_allclose(np.bincount(to, minlength=6)[1:] / 200_000, expected, atol=0.005)


def test_walks_restart() -> None:
    path = make([(i, i + 1, 0) for i in range(5)])
    nodes, kinds, _ = Walker(path, np.ones(6), WalkSettings(1000, 30, 0.25, 0)).walk(np.array([2]))
    assert (kinds[:, :, 1:] == NONE).mean() == pytest.approx(0.25, abs=0.01)
    assert (nodes[:, :, 1:][kinds[:, :, 1:] == NONE] == 2).all()


def equal(first: Sequences, second: Sequences, rows: Any = slice(None)) -> None:
    for name in vars(first):
        one, two = getattr(first, name)[rows], getattr(second, name)
        width = min(one.shape[1], two.shape[1])
        np.testing.assert_array_equal(one[:, :width], two[:, :width], err_msg=name)


def test_a_walk_is_its_starts_alone(graph: HeteroGraph) -> None:
    walker = walker_of(graph, max_length=12)
    starts = np.arange(graph.num_nodes)
    whole = walker.sequences(starts, 3)
    for rows in (np.array([7]), np.array([60, 2, 2]), starts[::-1]):
        equal(whole, walker.sequences(rows, 3), rows)
    assert not np.array_equal(whole.nodes, walker.sequences(starts, 4).nodes)
    assert not np.array_equal(whole.nodes, walker_of(graph, seed=1, max_length=12).sequences(starts, 3).nodes)


def test_numbering_plays_no_part(graph: HeteroGraph) -> None:
    order = np.random.default_rng(3).permutation(graph.num_nodes)
    other = graph.permuted(order)
    for kind in ("degree", "centrality"):
        own, theirs = ranks(graph, kind), ranks(other, kind)
        for mine, their in zip(own, theirs, strict=True):
            np.testing.assert_array_equal(their, mine[order])
        settings = WalkSettings(max_length=10)
        sequences = Walker(graph, own[0], settings).sequences(order)
        permuted = Walker(other, theirs[0], settings).sequences(np.arange(len(order)))
        np.testing.assert_array_equal(np.where(permuted.nodes == NONE, NONE, order[permuted.nodes]), sequences.nodes)
        np.testing.assert_array_equal(permuted.edge_type, sequences.edge_type)


def test_a_sequence_is_by_type_and_rank_with_quotas(graph: HeteroGraph) -> None:
    walker = walker_of(graph, num_walks=20, walk_length=20, max_length=9)
    starts = np.arange(graph.num_nodes)
    visited = walker.walk(starts)[0].reshape(len(starts), -1)
    sequences = walker.sequences(starts)
    assert sequences.nodes.shape[1] <= 9
    for start in starts:
        row = sequences.nodes[start][sequences.nodes[start] != NONE]
        assert row[0] == start and len(set(row.tolist())) == len(row) and set(row) <= set(visited[start])
        assert len(row) == min(9, len(set(visited[start].tolist())))
        key = [(int(graph.node_type[n]), -walker.rank[n]) for n in row[1:]]
        assert key == sorted(key)
        others = set(visited[start].tolist()) - {int(start)}
        assert {int(graph.node_type[n]) for n in others} == {int(graph.node_type[n]) for n in row[1:]}
        assert (sequences.visits[start][: len(row)] == [(visited[start] == n).sum() for n in row]).all()
    # Without quotas the most visited stay.
    plain = walker_of(graph, num_walks=20, walk_length=20, max_length=9, quotas=False).sequences(starts)
    for start in starts:
        counts = np.bincount(visited[start], minlength=graph.num_nodes)
        counts[start] = 0
        assert np.sort(plain.visits[start, 1:])[::-1].tolist() == np.sort(counts)[::-1][:8].tolist()


def test_what_is_forbidden_is_never_come_to(graph: HeteroGraph) -> None:
    src, dst, _ = graph.edges()
    walker = walker_of(graph, num_walks=20, walk_length=20)
    nodes, *_ = walker.walk(src, forbidden=dst)
    assert not (nodes == dst[:, None, None]).any()
    assert (walker.walk(src)[0] == dst[:, None, None]).any()


def test_held_out_edges_are_never_stepped_over(graph: HeteroGraph) -> None:
    src, dst, kind = (part[::5] for part in graph.edges())
    rest = graph.without_edges(src, dst, kind)
    held_out = {*zip(src.tolist(), dst.tolist(), kind.tolist(), strict=True)}
    held_out |= {(d, s, k + 3) for s, d, k in held_out}
    for of, seen in ((graph, True), (rest, False)):
        nodes, kinds, _ = walker_of(of, num_walks=20).walk(np.arange(graph.num_nodes))
        steps = zip(nodes[..., :-1].ravel(), nodes[..., 1:].ravel(), kinds[..., 1:].ravel(), strict=True)
        assert bool(held_out & {(int(a), int(b), int(k)) for a, b, k in steps}) == seen


def test_an_isolated_node_is_its_own_neighbourhood() -> None:
    graph = make([(0, 1, 0)])
    sequences = Walker(graph, np.ones(6), WalkSettings()).sequences(np.array([5, 0]))
    assert sequences.nodes.tolist() == [[5, NONE], [0, 1]]
    empty = Walker(make([]), np.ones(6), WalkSettings(tau=0)).sequences(np.array([2]))
    assert empty.nodes.tolist() == [[2]]


def test_settings_are_checked(graph: HeteroGraph) -> None:
    for wrong in ({"num_walks": 0}, {"walk_length": 0}, {"max_length": 0}, {"restart": 1.0}, {"restart": -0.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            WalkSettings(**wrong)
    with pytest.raises(ValueError, match="2 ranks for 69 nodes"):
        Walker(graph, np.ones(2), WalkSettings())
    with pytest.raises(ValueError, match="ranks must be positive"):
        Walker(graph, np.zeros(69), WalkSettings())
    with pytest.raises(ValueError, match="expected centrality or degree"):
        ranks(graph, "fame")
    with pytest.raises(ValueError, match="rank weights"):
        ranks(graph, weights=(0, 0, 0))


def test_centralities_of_a_path_and_of_two_parts() -> None:
    path = make([(i, i + 1, 0) for i in range(4)])  # and the lone node 5
    betweenness, eigenvector, closeness = centralities(path).T
    np.testing.assert_allclose(betweenness * 10, [0, 3, 4, 3, 0, 0], atol=1e-9)
    # A + I converges where A alone would swing from one side of a bipartite graph to the other.
    np.testing.assert_allclose(eigenvector[:5], np.array([1, 3**0.5, 2, 3**0.5, 1]) / 12**0.5, atol=1e-5)
    assert eigenvector[5] == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(closeness * 5, [1 + 1 / 2 + 1 / 3 + 1 / 4, 2 + 1 / 2 + 1 / 3, 3, 17 / 6, 25 / 12, 0])


def test_sampled_centralities_order_nodes_as_exact_ones_do() -> None:
    rng = np.random.default_rng(0)
    src = (300 * rng.random(1500) ** 3).astype(int)
    edges = np.stack([src, rng.integers(0, 300, 1500)])
    graph = HeteroGraph.from_edges(np.zeros(300, int), *edges, np.zeros(1500, int), ["a"], ["x"])
    exact, sampled = centralities(graph), centralities(graph, sampled_above=0, pivots=128)
    assert not np.array_equal(exact[:, 0], sampled[:, 0])
    for column in range(3):
        one, two = quantiles(exact[:, column]), quantiles(sampled[:, column])
        assert np.corrcoef(one, two)[0, 1] > 0.9
    np.testing.assert_array_equal(sampled, centralities(graph, sampled_above=0, pivots=128))


def test_a_large_graph_is_followed_from_fewer_nodes(graph: HeteroGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    for most, pivots in ((20 * graph.num_edges, 20), (1, 10), (10**9, 60)):
        for name, value in (("PIVOTS", 60), ("LEAST_PIVOTS", 10), ("MOST_FOLLOWED", most)):
            monkeypatch.setattr(f"tkre_hf.pfhin.centrality.{name}", value)
        found = centralities(graph, sampled_above=0)
        np.testing.assert_array_equal(found, centralities(graph, sampled_above=0, pivots=pivots))


def test_quantiles_share_ties_and_drop_noise() -> None:
    values = np.array([5.0, 1.0, 1.0 + 1e-12, 1e9, 0.0, 1e-310])
    np.testing.assert_allclose(quantiles(values) * 6, [5, 3.5, 3.5, 6, 1.5, 1.5])


def test_without_networkit_the_error_says_what_to_do(graph: HeteroGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networkit", None)
    with pytest.raises(TkreError, match=r"pip install 'tkre-hf\[hin\]'"):
        ranks(graph)
    ranks(graph, "degree")


def test_hashes_are_uniform_and_of_their_keys_alone() -> None:
    numbers = uniform(hashed(1, np.arange(100_000)))
    assert numbers.min() >= 0 and numbers.max() < 1
    np.testing.assert_allclose(np.histogram(numbers, 10, (0, 1))[0], 10_000, rtol=0.05)
    np.testing.assert_array_equal(hashed(1, np.arange(5)[:, None], np.arange(3))[2], hashed(1, 2, np.arange(3)))
    stream = Stream(hashed(np.arange(2)))
    first, second = stream(), stream()
    assert len({*first, *second}) == 4
