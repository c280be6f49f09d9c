from __future__ import annotations

import pickle
import random
import re
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tkre_hf.data import EpisodeDataset
from tkre_hf.errors import TkreError


@st.composite
def datasets_(draw: st.DrawFn) -> tuple[list[str], EpisodeDataset]:
    n_way, k_shot, n_query = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    na_rate = draw(st.sampled_from([0.0, 0.15, 0.3, 0.5]))
    n_relations = draw(st.integers(n_way + 1, n_way + 4))
    counts = draw(st.lists(st.integers(k_shot + n_query, 9), min_size=n_relations, max_size=n_relations))
    labels = [f"P{i}" for i, count in enumerate(counts) for _ in range(count)]
    draw(st.randoms(use_true_random=False)).shuffle(labels)
    if na_rate and not round(n_way * n_query * na_rate / (1 - na_rate)):
        na_rate = 0.5
    seed = draw(st.integers(0, 2**70))
    return labels, EpisodeDataset(labels, n_way, k_shot, n_query, na_rate, num_episodes=12, seed=seed)


@settings(deadline=None)
@given(datasets_())
def test_what_holds_of_every_episode(case: tuple[list[str], EpisodeDataset]) -> None:
    labels, episodes = case
    n_na = episodes.n_na
    for episode in episodes:
        names = [episodes.relation_names[i] for i in episode.relations]
        assert len(set(names)) == episodes.n_way
        assert episode.support.shape == (episodes.n_way, episodes.k_shot)
        assert episode.query.shape == episode.query_label.shape == (episodes.n_way * episodes.n_query + n_na,)
        assert all(array.dtype == np.int64 for array in vars(episode).values())
        for name, rows in zip(names, episode.support, strict=True):
            assert {labels[row] for row in rows} == {name}
        known = episode.query[: len(episode.query) - n_na]
        drawn = [*episode.support.ravel().tolist(), *known.tolist()]
        assert len(set(drawn)) == len(drawn), "no row twice"
        for row, label in zip(episode.query, episode.query_label, strict=True):
            assert labels[row] not in names if label == -1 else labels[row] == names[label]
        assert Counter(episode.query_label.tolist()) == Counter(
            {i: episodes.n_query for i in range(episodes.n_way)} | ({-1: n_na} if n_na else {})
        )


@settings(deadline=None)
@given(datasets_(), st.integers(0, 12), st.integers(0, 12))
def test_a_batch_is_its_episodes(case: tuple[list[str], EpisodeDataset], one: int, other: int) -> None:
    _, episodes = case
    start, stop = sorted((one, other))
    batch = episodes.batch(start, stop)
    for field, array in vars(batch).items():
        assert len(array) == stop - start
        for i in range(start, stop):
            np.testing.assert_array_equal(array[i - start], getattr(episodes[i], field))


def labels_of(n_relations: int, rows: int) -> list[str]:
    return [f"P{i:03d}" for i in range(n_relations) for _ in range(rows)]


def test_the_first_episodes_stay_what_they_are() -> None:
    """Written down once: another machine, process or version draws the same."""
    episodes = EpisodeDataset(labels_of(8, 20), n_way=3, k_shot=2, n_query=1, na_rate=0.5, num_episodes=10**9, seed=42)
    for i, (relations, support, query) in FROZEN.items():
        assert episodes[i].relations.tolist() == relations
        assert episodes[i].support.tolist() == support
        assert episodes[i].query.tolist() == query


FROZEN: dict[int, tuple[list[int], list[list[int]], list[int]]] = {
    0: ([0, 1, 3], [[17, 3], [26, 36], [75, 64]], [10, 29, 72, 132, 132, 144]),
    1: ([3, 1, 4], [[61, 70], [21, 20], [83, 89]], [71, 26, 84, 147, 140, 158]),
    999999999: ([4, 5, 6], [[89, 95], [113, 107], [135, 124]], [87, 115, 125, 35, 12, 8]),
}


def test_seed_and_index_alone_decide() -> None:
    labels = labels_of(8, 20)
    long, short = EpisodeDataset(labels, num_episodes=1000, seed=1), EpisodeDataset(labels, num_episodes=10, seed=1)
    np.testing.assert_array_equal(long.batch(0, 10).support, short.batch(0, 10).support)
    copy = pickle.loads(pickle.dumps(long))
    np.testing.assert_array_equal(copy[777].query, long[777].query)
    other = EpisodeDataset(labels, num_episodes=10, seed=2)
    assert (other.batch(0, 10).support != short.batch(0, 10).support).any()


def test_the_order_of_relations_in_the_file_does_not_count() -> None:
    labels = labels_of(8, 20)
    groups = [list(range(i * 20, i * 20 + 20)) for i in range(8)]
    random.Random(0).shuffle(groups)
    order = [row for group in groups for row in group]
    straight = EpisodeDataset(labels, num_episodes=20).batch(0, 20)
    mixed = EpisodeDataset([labels[row] for row in order], num_episodes=20).batch(0, 20)
    np.testing.assert_array_equal(np.array(order)[mixed.support], straight.support)
    np.testing.assert_array_equal(np.array(order)[mixed.query], straight.query)


def test_draws_are_uniform() -> None:
    """Of 20,000 episodes, relations, rows and their order come up equally often, to five standard deviations."""
    episodes = EpisodeDataset(labels_of(6, 7), n_way=3, k_shot=2, n_query=1, na_rate=0.5, num_episodes=20_000, seed=5)
    batch = episodes.batch(0, 20_000)

    def assert_uniform(values: np.ndarray, n: int) -> None:
        counts = np.bincount(values.ravel(), minlength=n)
        expected = values.size / n
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected), counts

    assert_uniform(batch.relations[:, 0], 6)
    assert_uniform(batch.relations[:, 2], 6)
    assert_uniform(batch.support[:, 0, 0], 42)
    assert_uniform(batch.support[:, 2, 1], 42)
    assert_uniform(batch.query[:, 0], 42)
    assert_uniform(batch.query[:, -1], 42)
    # Whole draws too: each ordered pair of relations.
    pairs = batch.relations[:, 0] * 6 + batch.relations[:, 1]
    assert_uniform(np.unique(pairs, return_inverse=True)[1], 30)


@pytest.mark.parametrize(
    ("n_way", "na_rate", "n_na"), [(5, 0.0, 0), (5, 0.15, 1), (5, 0.3, 2), (5, 0.5, 5), (10, 0.5, 10), (10, 0.15, 2)]
)
def test_na_rate_is_the_fraction_of_queries_and_the_toolkit_s_counts_at_5_way(
    n_way: int, na_rate: float, n_na: int
) -> None:
    assert EpisodeDataset(labels_of(11, 9), n_way, na_rate=na_rate).n_na == n_na
    many = EpisodeDataset(labels_of(11, 109), n_way, n_query=100, na_rate=na_rate, num_episodes=1)
    assert (many[0].query_label == -1).mean() == pytest.approx(na_rate, abs=1e-3)


def test_it_is_a_finite_sequence() -> None:
    episodes = EpisodeDataset(labels_of(6, 9), num_episodes=3)
    assert len(episodes) == len(list(episodes)) == 3
    many = EpisodeDataset(labels_of(6, 9), num_episodes=600)
    for i, episode in enumerate(many):
        np.testing.assert_array_equal(episode.support, many[i].support)
    np.testing.assert_array_equal(episodes[-1].support, episodes[2].support)
    for index in (3, -4):
        with pytest.raises(IndexError):
            episodes[index]
    with pytest.raises(IndexError):
        episodes.batch(1, 4)
    assert episodes.batch(3, 3).support.shape == (0, 5, 1)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"n_way": 0}, "n_way must be at least 1"),
        ({"k_shot": 0}, "k_shot must be at least 1"),
        ({"n_query": 0}, "n_query must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"na_rate": 1.0}, "na_rate is a fraction"),
        ({"na_rate": -0.1}, "na_rate is a fraction"),
        ({"na_rate": 0.05}, "less than one query"),
        ({"n_way": 7}, "7-way episodes need at least 7 relations, found 6"),
        ({"n_way": 6, "na_rate": 0.5}, "with none of the above need at least 7 relations, found 6"),
        ({"k_shot": 9}, r"each relation needs 10 rows \(9 support \+ 1 query\), but 'P000' has 9, .* and 1 more"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(TkreError, match=reason):
        EpisodeDataset(labels_of(6, 9), **settings)


@pytest.mark.parametrize("n_way", [1, 5, 10, 20, 62])
def test_a_rate_that_asks_for_no_query_is_told_the_least(n_way: int) -> None:
    labels = labels_of(n_way + 1, 2)
    with pytest.raises(TkreError, match=rf"na_rate 0.001 of {n_way} queries is less than one query") as caught:
        EpisodeDataset(labels, n_way, na_rate=0.001)
    (least,) = re.findall(r"raise it to (\S+) at least, or raise n_way or n_query", str(caught.value))
    assert EpisodeDataset(labels, n_way, na_rate=float(least)).n_na == 1
    with pytest.raises(TkreError):
        EpisodeDataset(labels, n_way, na_rate=float(least) - 0.001)


def test_one_short_relation_is_named() -> None:
    with pytest.raises(TkreError, match="needs 6 rows .5 support . 1 query., but 'rare' has 2$"):
        EpisodeDataset([*labels_of(6, 9), "rare", "rare"], k_shot=5)


def test_ten_thousand_episodes_take_well_under_a_second() -> None:
    episodes = EpisodeDataset(labels_of(64, 700), n_way=10, k_shot=5, num_episodes=10_000)
    start = time.perf_counter()
    episodes.batch(0, 10_000)
    # About 0.1 s; the bound leaves room for a busy machine and still rules out a loop over episodes.
    assert time.perf_counter() - start < 1.0
