"""How sure a score is: bootstrap intervals, and a paired test of two runs on the same rows.

Both work on confusion counts. A score depends on rows only through how many of each gold and predicted label there
are, so a resample of the rows is one draw of these numbers, which follows exactly the distribution that drawing rows
one by one has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
# A score of confusion counts, ``(..., labels, labels)``, gold by predicted: one number for each, ``(...)``.
Score = Callable[[NDArray[np.int64]], NDArray[np.float64]]

# Counts held at once: 2 MB, which a processor has near at hand.
_COUNTS_AT_ONCE = 2**18

# Permuted scores that are equal on paper may differ in their last bits.
_SAME = 1e-9


@dataclass(frozen=True)
class Interval:
    """A score and the interval around it.

    Args:
        value: On the rows as they are.
        low: Lower end of the interval.
        high: Upper end.
        confidence: How often such intervals hold the score of the rows' population, about.
        resamples: How many there were.
    """

    value: float
    low: float
    high: float
    confidence: float
    resamples: int


@dataclass(frozen=True)
class PairedTest:
    """Two runs on the same rows.

    Args:
        first: The first run's score.
        second: The second's.
        difference: The first's less the second's, with its paired bootstrap interval.
        p_value: Of approximate randomisation, two-sided; see :func:`paired_test`.
    """

    first: float
    second: float
    difference: Interval
    p_value: float


def confusion_counts(gold: Ids, predicted: Ids, labels: int) -> NDArray[np.int64]:
    """Rows by gold and predicted label, ``(labels, labels)``.

    Args:
        gold: Label of each row, ``(rows,)``, each from 0 to ``labels - 1``.
        predicted: Likewise.
        labels: How many there are.

    Raises:
        ValueError: No rows, vectors of different lengths, or a label out of range.
    """
    if not len(gold) or gold.shape != predicted.shape or gold.ndim != 1:
        raise ValueError(f"need two vectors of equal length, got {gold.shape} and {predicted.shape}")
    if min(gold.min(), predicted.min()) < 0 or max(gold.max(), predicted.max()) >= labels:
        raise ValueError(f"labels must lie from 0 to {labels - 1}")
    return np.bincount(gold * labels + predicted, minlength=labels * labels).reshape(labels, labels)


def bootstrap_interval(
    gold: Ids,
    predicted: Ids,
    labels: int,
    score: Score,
    resamples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The percentile bootstrap over rows (Efron and Tibshirani, 1993, chapter 13).

    Args:
        gold: Label of each row, ``(rows,)``, each from 0 to ``labels - 1``.
        predicted: Likewise.
        labels: How many there are.
        score: Of confusion counts, ``(..., labels, labels)`` to ``(...)``.
        resamples: Each as many rows as there are, drawn with replacement.
        confidence: Of the interval, between 0 and 1.
        seed: The same seed gives the same interval, under one version of numpy.

    Raises:
        ValueError: The vectors don't fit (:func:`confusion_counts`), or a setting is out of range.
    """
    value = float(score(confusion_counts(gold, predicted, labels)))
    _check(resamples, confidence)
    cells, counts = np.unique(gold * labels + predicted, return_counts=True)
    generator = np.random.default_rng(seed)
    scores = [
        score(_confusions(generator.multinomial(len(gold), counts / len(gold), size), cells, labels))
        for size in _portions(resamples, labels)
    ]
    return _interval(value, np.concatenate(scores), confidence)


def paired_test(
    gold: Ids,
    first: Ids,
    second: Ids,
    labels: int,
    score: Score,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Whether one run is better than another on the same rows.

    The p-value is that of approximate randomisation (Noreen, 1989; Yeh, 2000). If the runs were alike, which of a
    row's two predictions is whose would be a coin's toss: each resample tosses it for every row, and
    ``p = (1 + resamples with |difference| at least as large as the one observed) / (1 + resamples)``, two-sided, never
    0 (Phipson and Smyth, 2010). Two runs with the same predictions have ``p = 1``; swapping the runs leaves ``p`` as
    it is. The interval is the percentile bootstrap's of the difference, each resample drawing the same rows for both.

    Args:
        gold: Label of each row, ``(rows,)``, each from 0 to ``labels - 1``.
        first: What one run predicted.
        second: What the other did.
        labels: How many there are.
        score: Of confusion counts, ``(..., labels, labels)`` to ``(...)``.
        resamples: For the p-value, and as many for the interval.
        confidence: Of the interval, between 0 and 1.
        seed: The same seed gives the same result, under one version of numpy.

    Raises:
        ValueError: The vectors don't fit (:func:`confusion_counts`), or a setting is out of range.
    """
    scores = [float(score(confusion_counts(gold, run, labels))) for run in (first, second)]
    _check(resamples, confidence)
    difference = scores[0] - scores[1]

    # Rows with the same gold label and the same two predictions are alike, whosever these are.
    smaller, larger = np.minimum(first, second), np.maximum(first, second)
    kinds, counts = np.unique((gold * labels + smaller) * labels + larger, return_counts=True)
    cells = np.concatenate([kinds // labels, kinds // labels**2 * labels + kinds % labels])
    generator = np.random.default_rng((seed, 0))
    extreme = 0
    for size in _portions(resamples, labels, len(kinds)):
        tossed = generator.binomial(counts, 0.5, (size, len(kinds)))
        rest = counts - tossed
        permuted = score(_confusions(np.concatenate([tossed, rest], 1), cells, labels))
        permuted = permuted - score(_confusions(np.concatenate([rest, tossed], 1), cells, labels))
        extreme += int((np.abs(permuted) >= abs(difference) - _SAME).sum())

    kinds, counts = np.unique((gold * labels + first) * labels + second, return_counts=True)
    generator = np.random.default_rng((seed, 1))
    drawn = []
    for size in _portions(resamples, labels, len(kinds)):
        draws = generator.multinomial(len(gold), counts / len(gold), size)
        of_first = score(_confusions(draws, kinds // labels, labels))
        of_second = score(_confusions(draws, kinds // labels**2 * labels + kinds % labels, labels))
        drawn.append(of_first - of_second)
    interval = _interval(difference, np.concatenate(drawn), confidence)
    return PairedTest(scores[0], scores[1], interval, (1 + extreme) / (1 + resamples))


def _check(resamples: int, confidence: float) -> None:
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"need resamples above 0 and confidence from 0 to 1, got {resamples} and {confidence}")


def _portions(resamples: int, labels: int, kinds: int = 0) -> Iterator[int]:
    """Sizes of the portions that resamples are drawn in, so that memory doesn't grow with their number."""
    portion = max(1, _COUNTS_AT_ONCE // max(labels**2, kinds))
    for start in range(0, resamples, portion):
        yield min(portion, resamples - start)


def _confusions(draws: NDArray[np.int64], cells: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """Confusion counts of resamples, ``(resamples, labels, labels)``.

    Args:
        draws: Rows of each kind, ``(resamples, kinds)``.
        cells: Which cell each kind counts in: gold label times ``labels``, plus predicted label; ``(kinds,)``.
        labels: How many there are.
    """
    order = np.argsort(cells, kind="stable")
    found, starts = np.unique(cells[order], return_index=True)
    counts = np.zeros((len(draws), labels * labels), dtype=np.int64)
    counts[:, found] = np.add.reduceat(draws[:, order], starts, axis=1)
    return counts.reshape(-1, labels, labels)


def _interval(value: float, scores: NDArray[np.float64], confidence: float) -> Interval:
    low, high = np.quantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), confidence, len(scores))
