"""Intervals and tests against row-by-row resampling, and the invariants that any paired test has."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tkre_hf.evaluation import significance
from tkre_hf.evaluation.significance import bootstrap_interval, confusion_counts, paired_test


def accuracy(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    return 100 * np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum((-2, -1))


def f1_of_first_label(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    total = confusion[..., 0, :].sum(-1) + confusion[..., :, 0].sum(-1)
    return 200 * confusion[..., 0, 0] / np.maximum(total, 1)


SCORES = [accuracy, f1_of_first_label]


def runs(seed: int, rows: int, labels: int = 4, shares: tuple[float, ...] = (0.7, 0.6)) -> list[NDArray[np.int64]]:
    """Gold labels, and predictions that are right for a share of the rows (and by chance)."""
    generator = np.random.default_rng(seed)
    gold = generator.integers(0, labels, rows)
    return [gold, *(np.where(generator.random(rows) < s, gold, generator.integers(0, labels, rows)) for s in shares)]


label_vectors = st.integers(1, 25).flatmap(
    lambda rows: st.tuples(*[st.lists(st.integers(0, 2), min_size=rows, max_size=rows).map(np.array)] * 3)
)


def test_counts_are_rows_by_gold_and_predicted() -> None:
    counts = confusion_counts(np.array([0, 0, 2]), np.array([0, 1, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("score", SCORES)
def test_interval_is_that_of_drawing_rows(score: Any) -> None:
    gold, found, _ = runs(0, 400)
    generator = np.random.default_rng(1)
    scores = []
    for _ in range(4_000):
        rows = generator.integers(0, len(gold), len(gold))
        scores.append(float(score(confusion_counts(gold[rows], found[rows], 4))))
    interval = bootstrap_interval(gold, found, 4, score, resamples=4_000, confidence=0.9)
    assert interval.value == pytest.approx(float(score(confusion_counts(gold, found, 4))))
    assert (interval.low, interval.high) == pytest.approx(np.quantile(scores, [0.05, 0.95]), abs=0.5)
    assert (interval.confidence, interval.resamples) == (0.9, 4_000)


def test_difference_is_that_of_drawing_rows() -> None:
    gold, first, second = runs(0, 400)
    generator = np.random.default_rng(1)
    differences = []
    for _ in range(4_000):
        rows = generator.integers(0, len(gold), len(gold))
        pair = [float(accuracy(confusion_counts(gold[rows], run[rows], 4))) for run in (first, second)]
        differences.append(pair[0] - pair[1])
    interval = paired_test(gold, first, second, 4, accuracy, resamples=4_000).difference
    assert (interval.low, interval.high) == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.6)


def test_a_seed_gives_the_same_again_however_resamples_are_portioned(monkeypatch: pytest.MonkeyPatch) -> None:
    gold, first, second = runs(3, 200)
    interval = bootstrap_interval(gold, first, 4, accuracy, seed=5)
    test = paired_test(gold, first, second, 4, accuracy, resamples=500, seed=5)
    assert bootstrap_interval(gold, first, 4, accuracy, seed=6) != interval
    assert paired_test(gold, first, second, 4, accuracy, resamples=500, seed=6) != test
    for at_once in (2**18, 7 * 64, 1):
        monkeypatch.setattr(significance, "_COUNTS_AT_ONCE", at_once)
        assert bootstrap_interval(gold, first, 4, accuracy, seed=5) == interval
        assert paired_test(gold, first, second, 4, accuracy, resamples=500, seed=5) == test


def test_intervals_hold_the_true_score_about_as_often_as_they_say() -> None:
    inside = 0
    for seed in range(300):
        gold, found = runs(seed, 300, shares=(0.6,))
        interval = bootstrap_interval(gold, found, 4, accuracy, resamples=300, seed=seed)
        inside += interval.low <= 70 <= interval.high  # 60, and a quarter of the other 40.
    assert 0.91 <= inside / 300 <= 0.98


def test_more_rows_and_less_confidence_are_narrower() -> None:
    def width(rows: int, confidence: float = 0.95) -> float:
        gold, found, _ = runs(0, rows)
        interval = bootstrap_interval(gold, found, 4, accuracy, confidence=confidence)
        return interval.high - interval.low

    assert width(1_600) == pytest.approx(width(400) / 2, rel=0.2)
    assert width(400, 0.5) < width(400, 0.9) < width(400)


def test_a_perfect_run_has_no_width() -> None:
    gold, *_ = runs(0, 50)
    interval = bootstrap_interval(gold, gold, 4, accuracy)
    assert interval.value == interval.low == interval.high == 100


@settings(deadline=None, max_examples=60)
@given(vectors=label_vectors, score=st.sampled_from(SCORES), seed=st.integers(0, 2**32))
def test_runs_that_agree_and_runs_that_are_swapped(vectors: Any, score: Any, seed: int) -> None:
    gold, first, second = vectors
    same = paired_test(gold, first, first, 3, score, 50, seed=seed)
    assert same.p_value == 1.0
    assert (same.difference.value, same.difference.low, same.difference.high) == (0, 0, 0)
    test = paired_test(gold, first, second, 3, score, 50, seed=seed)
    swapped = paired_test(gold, second, first, 3, score, 50, seed=seed)
    assert (swapped.first, swapped.second) == (test.second, test.first)
    assert swapped.difference.value == -test.difference.value
    assert swapped.p_value == test.p_value
    assert 1 / 51 <= test.p_value <= 1


def test_swapped_runs_have_the_mirrored_interval_but_for_chance() -> None:
    gold, first, second = runs(2, 500)
    interval = paired_test(gold, first, second, 4, accuracy).difference
    mirrored = paired_test(gold, second, first, 4, accuracy).difference
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low), abs=0.4)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("seed", range(3))
def test_p_value_is_that_of_all_swaps(seed: int, score: Any) -> None:
    gold, first, second = runs(seed, 9, labels=3, shares=(0.9, 0.3))
    observed = abs(float(score(confusion_counts(gold, first, 3)) - score(confusion_counts(gold, second, 3))))
    extreme = []
    for swaps in itertools.product([False, True], repeat=len(gold)):
        one, other = np.where(swaps, second, first), np.where(swaps, first, second)
        difference = float(score(confusion_counts(gold, one, 3)) - score(confusion_counts(gold, other, 3)))
        extreme.append(abs(difference) >= observed - 1e-9)
    test = paired_test(gold, first, second, 3, score, 20_000)
    assert test.p_value == pytest.approx(np.mean(extreme), abs=0.02)


def test_runs_that_are_alike_are_seldom_told_apart_and_others_always() -> None:
    found = [paired_test(*runs(seed, 200, shares=(0.6, 0.6)), 4, accuracy, 199, seed=seed) for seed in range(300)]
    p_values = np.array([test.p_value for test in found])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p_values <= level) <= level + 3 * np.sqrt(level * (1 - level) / 300)
    assert np.mean(p_values) < 0.65
    far = paired_test(*runs(0, 200, shares=(0.95, 0.2)), 4, accuracy, 199)
    assert far.p_value == 1 / 200
    assert far.difference.low > 0


@pytest.mark.parametrize(
    ("gold", "found"), [([], []), ([0], [0, 1]), ([[0]], [[0]]), ([0, 1], [0, 2]), ([0, -1], [0, 0])]
)
def test_vectors_that_do_not_fit_are_errors(gold: list[int], found: list[int]) -> None:
    one, other = np.array(gold, dtype=np.int64), np.array(found, dtype=np.int64)
    with pytest.raises(ValueError, match="need two vectors of equal length|labels must lie from 0 to 1"):
        bootstrap_interval(one, other, 2, accuracy)
    with pytest.raises(ValueError, match="need two vectors of equal length|labels must lie from 0 to 1"):
        paired_test(one, one if len(gold) == 1 else other, other, 2, accuracy)


@pytest.mark.parametrize("setting", [{"resamples": 0}, {"confidence": 0.0}, {"confidence": 95}])
def test_settings_out_of_range_are_errors(setting: dict[str, Any]) -> None:
    gold, first, second = runs(0, 10)
    with pytest.raises(ValueError, match="need resamples above 0 and confidence from 0 to 1"):
        bootstrap_interval(gold, first, 4, accuracy, **setting)
    with pytest.raises(ValueError, match="need resamples above 0 and confidence from 0 to 1"):
        paired_test(gold, first, second, 4, accuracy, **setting)
