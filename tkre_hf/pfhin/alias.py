"""Alias tables (Walker 1977) of all rows of a CSR matrix at once: an entry is drawn by one number and two look-ups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def alias_tables(
    weights: NDArray[np.float64], indptr: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Builds the tables by sweeping over prefix sums (Hübschle-Schneider and Sanders, ESA 2019, section 4).

    In a row of n entries, scaled to a mean of 1, those below 1 are light and the others heavy. Light entries are
    filled up by heavy ones in order: the light entry i by the heavy one at which the heavies' surplus, summed up,
    passes the lights' lack up to i; a heavy one that is used up is filled by the next.

    Args:
        weights: Positive, ``(entries,)``.
        indptr: Where each row begins, ``(rows + 1,)``.

    Returns:
        The share of each entry's slot that is its own, ``(entries,)``, and the entry that has the rest.
    """
    total = len(weights)
    alias = np.arange(total)
    probability = np.ones(total)
    degree = np.diff(indptr)
    if total == 0:
        return probability.astype(np.float32), alias
    row = np.repeat(np.arange(len(degree)), degree)
    begins = indptr[:-1][degree > 0]
    mean, most = np.ones(len(degree)), np.ones(len(degree))
    mean[degree > 0] = np.add.reduceat(weights, begins) / degree[degree > 0]
    most[degree > 0] = np.maximum.reduceat(weights, begins)
    scaled = weights / mean[row]
    # A mean of equal weights may round to more than they are: a row's greatest entry is heavy all the same.
    is_light = (scaled < 1) & (weights < most[row])
    light, heavy = np.flatnonzero(is_light), np.flatnonzero(~is_light)
    if not len(light):
        return probability.astype(np.float32), alias
    # Within a row lack and surplus are equal in sum, so over all rows they stay in step.
    lack, surplus = np.cumsum(1 - scaled[light]), np.cumsum(np.maximum(scaled[heavy] - 1, 0))
    first = np.searchsorted(row[heavy], np.arange(len(degree)))
    last = np.searchsorted(row[heavy], np.arange(len(degree)), side="right") - 1
    before = np.concatenate([[0.0], lack[:-1]])
    filler = np.searchsorted(surplus, before, side="right")
    # Rounding may carry a sum past the end of its row.
    filler = np.clip(filler, first[row[light]], last[row[light]])
    probability[light], alias[light] = scaled[light], heavy[filler]
    stop = np.searchsorted(lack, surplus, side="right")
    final = last[row[heavy]] == np.arange(len(heavy))
    used = ~final & (stop < len(light))
    number = np.flatnonzero(used)
    lacking = lack[stop[number]] - surplus[number]
    # Where the sums met, the next light entry began with the next heavy one, and this one keeps its whole slot.
    lacks = (filler[stop[number]] <= number) & (row[light[stop[number]]] == row[heavy[number]])
    number, lacking = number[lacks], lacking[lacks]
    probability[heavy[number]] = np.clip(1 - lacking, 0, 1)
    alias[heavy[number]] = heavy[number + 1]
    return probability.astype(np.float32), alias
