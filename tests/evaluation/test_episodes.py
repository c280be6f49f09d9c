"""Evaluation over episodes: the same as a slow loop, whatever the batches."""

from __future__ import annotations

import math
import statistics
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tkre_hf.data import EpisodeDataset, RelationInfo
from tkre_hf.data.episodes import Episode
from tkre_hf.evaluation import episodes as module
from tkre_hf.evaluation.episodes import EpisodeReport, anchors_of, calibrate_na, evaluate_episodes, with_samples
from tkre_hf.tkre.embedding import embed_anchors
from tkre_hf.tkre.modeling_parts import AnchorTrust, unit
from tkre_hf.tkre.modeling_tkre import TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor

from .conftest import random_vectors


def slow_weight(rows: np.ndarray, episode: Episode, anchors: Tensor, trust: AnchorTrust) -> float:
    """How many supports an anchor counts for, one support at a time."""
    own, n_way = [], len(episode.relations)
    for place, supports in enumerate(episode.support):
        for support in supports:
            exps = [math.exp(rows[support] @ anchors[r].double().numpy() / trust.tau) for r in episode.relations]
            own.append(exps[place] / sum(exps))
    if n_way == 1:
        return trust.weight
    return trust.weight * max(0.0, (statistics.fmean(own) - 1 / n_way) / (1 - 1 / n_way)) ** trust.doubt


def slow_evaluation(
    vectors: Tensor,
    dataset: EpisodeDataset,
    anchors: Tensor | None,
    trust: AnchorTrust,
    threshold: float | None,
    zero_shot: bool,
) -> tuple[list[float], dict[tuple[int, int], int]]:
    """Accuracy of each episode, and how often each relation was taken for which; one query at a time."""
    accuracies, confusion = [], {}
    none = len(dataset.relation_names)
    rows = vectors.double().numpy()
    for episode in dataset:
        right = 0
        weight = 1.0 if zero_shot or anchors is None else slow_weight(rows, episode, anchors, trust)
        for query, label in zip(episode.query, episode.query_label, strict=True):
            best, found = -math.inf, -1
            for place, relation in enumerate(episode.relations):
                prototype = np.zeros(rows.shape[1])
                if not zero_shot:
                    for support in episode.support[place]:
                        prototype += rows[support]
                if anchors is not None:
                    prototype += weight * anchors[relation].double().numpy()
                cosine = float(prototype @ rows[query] / np.linalg.norm(prototype))
                if cosine > best:
                    best, found = cosine, place
            if threshold is not None and best < threshold:
                found = -1
            right += found == label
            pair = tuple(none if place == -1 else int(episode.relations[place]) for place in (label, found))
            confusion[pair] = confusion.get(pair, 0) + 1
        accuracies.append(100 * right / len(episode.query))
    return accuracies, confusion


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_way=st.integers(1, 5),
    k_shot=st.integers(1, 3),
    n_query=st.integers(1, 3),
    prototype=st.sampled_from(["supports", "anchors and supports", "anchors"]),
    weight=st.sampled_from([0.3, 1.0, 4.0]),
    doubt=st.sampled_from([0.0, 1.0, 2.0]),
    threshold=st.sampled_from([None, 0.0, 0.7, 2.0]),
    na_rate=st.sampled_from([0.0, 0.5]),
)
def test_is_the_slow_loop(
    seed: int,
    n_way: int,
    k_shot: int,
    n_query: int,
    prototype: str,
    weight: float,
    doubt: float,
    threshold: float | None,
    na_rate: float,
) -> None:
    vectors, labels, anchors = random_vectors(seed)
    own = None if prototype == "supports" else anchors
    zero_shot = prototype == "anchors"
    if na_rate and threshold is None:
        threshold = 0.5
    dataset = EpisodeDataset(labels, n_way, k_shot, n_query, na_rate, num_episodes=9, seed=seed)
    trust = AnchorTrust(weight, doubt, tau=0.2)
    report = evaluate_episodes(vectors, dataset, own, trust, threshold, zero_shot)
    accuracies, confusion = slow_evaluation(vectors, dataset, own, trust, threshold, zero_shot)
    assert report.accuracy == pytest.approx(statistics.fmean(accuracies))
    assert report.ci95 == pytest.approx(1.96 * statistics.stdev(accuracies) / 3)
    assert {pair: n for pair, n in np.ndenumerate(report.confusion) if n} == confusion
    assert report.episodes == 9 and report.relations == dataset.relation_names


@pytest.mark.parametrize("na_rate", [0.0, 0.3])
def test_confusion_sums_up(na_rate: float) -> None:
    vectors, labels, anchors = random_vectors(1)
    dataset = EpisodeDataset(labels, 4, 2, 3, na_rate, num_episodes=50)
    report = evaluate_episodes(vectors, dataset, anchors, na_threshold=0.6)
    episodes = list(dataset)
    assert report.confusion.sum() == sum(len(episode.query) for episode in episodes)
    assert report.confusion[-1].sum() == 50 * dataset.n_na
    for number in range(len(report.relations)):
        asked = sum(3 * int(np.sum(episode.relations == number)) for episode in episodes)
        assert report.confusion[number].sum() == asked
    # Every episode has as many queries, so the mean of their accuracies is that of all queries.
    assert 100 * np.trace(report.confusion) / report.confusion.sum() == pytest.approx(report.accuracy)


@pytest.mark.parametrize("queries", [1, 17, 40])
def test_how_many_queries_at_once_is_all_the_same(queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels, anchors = random_vectors(2)
    dataset = EpisodeDataset(labels, 5, 1, 1, 0.5, num_episodes=23)
    whole = evaluate_episodes(vectors, dataset, anchors, na_threshold=0.6)
    monkeypatch.setattr(module, "_QUERIES_AT_ONCE", queries)
    parts = evaluate_episodes(vectors, dataset, anchors, na_threshold=0.6)
    assert (parts.accuracy, parts.ci95) == (whole.accuracy, whole.ci95)
    assert (parts.confusion == whole.confusion).all()


@pytest.mark.parametrize("k_shot", [1, 5])
def test_vectors_that_tell_relations_apart_are_always_right(k_shot: int) -> None:
    labels = [f"r{i % 8}" for i in range(80)]
    vectors = torch.eye(8)[[i % 8 for i in range(80)]]
    report = evaluate_episodes(vectors, EpisodeDataset(labels, 5, k_shot, 2, 0.5, 100), na_threshold=0.5)
    assert (report.accuracy, report.ci95) == (100.0, 0.0)
    assert not (report.confusion - np.diag(np.diag(report.confusion))).any()
    assert report.most_confused() == []


@pytest.mark.parametrize("n_way", [2, 5, 8])
def test_vectors_that_tell_nothing_are_at_chance(n_way: int) -> None:
    labels = [f"r{i % 8}" for i in range(80)]
    # Every sentence at right angles to every other: all prototypes tie, and the first is taken.
    report = evaluate_episodes(torch.eye(80), EpisodeDataset(labels, n_way, 2, 3, num_episodes=40))
    assert report.accuracy == pytest.approx(100 / n_way)


def test_random_vectors_are_near_chance() -> None:
    vectors = unit(torch.randn(800, 32, generator=torch.Generator().manual_seed(0)))
    labels = [f"r{i % 8}" for i in range(800)]
    report = evaluate_episodes(vectors, EpisodeDataset(labels, 5, 1, 1, num_episodes=2_000))
    assert abs(report.accuracy - 20) < 3 * report.ci95


def test_zero_shot_reads_no_support() -> None:
    vectors, labels, anchors = random_vectors(3)
    episodes = EpisodeDataset(labels, 3, 1, 1, num_episodes=40)
    same = [
        evaluate_episodes(vectors, episodes, anchors, AnchorTrust(weight), zero_shot=True) for weight in (0.0, 1.0)
    ]
    assert same[0].accuracy == same[1].accuracy
    only_anchors = evaluate_episodes(vectors, episodes, anchors, AnchorTrust(1e9, doubt=0.0))
    assert only_anchors.accuracy == same[0].accuracy


def test_one_episode_has_no_interval() -> None:
    vectors, labels, _ = random_vectors(4)
    assert math.isnan(evaluate_episodes(vectors, EpisodeDataset(labels, 3, 1, 1, num_episodes=1)).ci95)


def test_asks_for_what_it_needs() -> None:
    vectors, labels, _ = random_vectors(5)
    with pytest.raises(ValueError, match="na_threshold"):
        evaluate_episodes(vectors, EpisodeDataset(labels, 3, 1, 1, 0.5, 5))
    with pytest.raises(ValueError, match="anchors"):
        evaluate_episodes(vectors, EpisodeDataset(labels, 3, 1, 1, 0.0, 5), zero_shot=True)


def test_most_confused_comes_in_order() -> None:
    confusion = np.array([[6, 4, 0, 0], [1, 7, 0, 2], [0, 0, 0, 0], [0, 3, 0, 1]])
    report = EpisodeReport(50.0, 1.0, 8, confusion, ("a", "b", "c"))
    wanted = [("none of the above", "b", 0.75), ("a", "b", 0.4), ("b", "none of the above", 0.2), ("b", "a", 0.1)]
    assert report.most_confused() == wanted
    assert report.most_confused(2) == wanted[:2]


def mean_accuracy(
    rates: tuple[float, ...], threshold: float, vectors: Tensor, labels: list[str], **case: Any
) -> float:
    """Over rates of none of the above, on the episodes that calibration draws."""
    k_shot = case["k_shot"]
    return statistics.fmean(
        evaluate_episodes(
            vectors,
            EpisodeDataset(labels, case["n_way"], max(k_shot, 1), 2, rate, case["num_episodes"], case["seed"]),
            case["anchors"],
            case["trust"],
            threshold,
            k_shot == 0,
        ).accuracy
        for rate in rates
    )


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_way=st.integers(2, 4),
    k_shot=st.integers(0, 2),
    rates=st.sampled_from([(0.5,), (0.3, 0.5), (0.9,)]),
    repeated=st.booleans(),
)
# Of these the best threshold lies above all cosines, some of which are 1 but for rounding.
@example(seed=0, n_way=2, k_shot=1, rates=(0.9,), repeated=True)
@example(seed=1, n_way=3, k_shot=1, rates=(0.3, 0.5), repeated=True)
def test_calibration_finds_the_best_threshold(
    seed: int, n_way: int, k_shot: int, rates: tuple[float, ...], repeated: bool
) -> None:
    vectors, labels, anchors = random_vectors(seed, relations=5, rows=4, dim=3)
    if repeated:  # two sentences the same, and so the same cosines
        vectors[::2] = vectors[1::2]
    case: dict[str, Any] = {
        "n_way": n_way,
        "k_shot": k_shot,
        "anchors": anchors,
        "trust": AnchorTrust(0.5),
        "num_episodes": 4,
        "seed": seed,
    }
    threshold = calibrate_na(vectors, labels, rates=rates, **case)
    reached = mean_accuracy(rates, threshold, vectors, labels, **case)
    best = max(mean_accuracy(rates, t, vectors, labels, **case) for t in np.linspace(-1.02, 1.02, 120))
    assert reached >= best - 1e-6


def test_calibration_keeps_out_what_lies_apart() -> None:
    """Relations at right angles: queries with a relation are at cosine 1, those without at 0."""
    labels = [f"r{i % 8}" for i in range(80)]
    threshold = calibrate_na(torch.eye(8)[[i % 8 for i in range(80)]], labels, 5, 1, num_episodes=20)
    assert threshold == pytest.approx(0.5)


def test_samples_move_their_own_anchors() -> None:
    anchors, samples = unit(torch.randn(3, 5)), unit(torch.randn(4, 5))
    moved = with_samples(anchors, samples, [0, 0, 2, 2], 1.0)
    assert torch.allclose(moved.norm(dim=1), torch.ones(3))
    assert torch.allclose(moved[1], anchors[1])
    assert torch.allclose(moved[0], unit(anchors[0] + unit(samples[0] + samples[1])), atol=1e-6)
    assert torch.allclose(with_samples(anchors, samples, [0, 0, 2, 2], 0.0), anchors)
    assert torch.allclose(
        with_samples(anchors, samples, [0, 0, 2, 2], 1e6)[2], unit(samples[2] + samples[3]), atol=1e-5
    )


def test_anchors_come_in_the_order_asked_for(model: TKREModel, processor: TKREProcessor) -> None:
    info = {"b": RelationInfo("mother", "a person's mother"), "a": RelationInfo("author", "who wrote a book")}
    found = anchors_of(model, processor, ["a", "not_known", "b"], info)
    for row, entry in zip(found, [info["a"], RelationInfo("not known"), info["b"]], strict=True):
        assert torch.allclose(row, embed_anchors(model, processor, [entry])[0], atol=1e-6)
    assert all(not torch.allclose(found[i], found[j], atol=1e-3) for i, j in product(range(3), repeat=2) if i < j)
