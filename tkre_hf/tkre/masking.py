"""Which tokens stage 1 hides: a random number for each unit, drawn from nothing but the seed and the row.

A unit is masked as a whole (a word, a quoted cue, an entity with all its mentions). The draw is a hash of (seed,
epoch, row, unit), so a row is masked alike whatever batch, process or resumed run it turns up in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .processing_tkre import CUE, ENTITY, OTHER

IntArray = NDArray[np.int64]

# Mask probabilities by role (TKRE, masked span language modeling): relation cue, entity, anything else.
CUE_RATE, ENTITY_RATE, OTHER_RATE = 0.8, 0.5, 0.2

_STEP = np.uint64(0x9E3779B97F4A7C15)


def hashed_uniform(*keys: IntArray | int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) that depend on the keys alone (SplitMix64's finalizer, applied key by key).

    Args:
        *keys: Integers or arrays of integers that broadcast together.

    Returns:
        An array of the broadcast shape.
    """
    with np.errstate(over="ignore"):
        state = np.zeros((), dtype=np.uint64)
        for key in keys:
            state = state + np.asarray(key, dtype=np.int64).astype(np.uint64) + _STEP
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def span_mask(
    roles: IntArray,
    units: IntArray,
    rows: IntArray,
    epoch: int,
    seed: int,
    cue_rate: float = CUE_RATE,
    entity_rate: float = ENTITY_RATE,
    other_rate: float = OTHER_RATE,
) -> NDArray[np.bool_]:
    """Chooses the tokens to mask.

    Args:
        roles: ``(batch, seq_len)``, the processor's roles; padding is ``SPECIAL``.
        units: ``(batch, seq_len)``, the processor's units.
        rows: ``(batch,)``, each sentence's number in its data set.
        epoch: The pass over the data; another pass masks other units.
        seed: Of the run.
        cue_rate: Probability that a cue is masked; ``entity_rate`` and ``other_rate`` likewise.

    Returns:
        ``(batch, seq_len)``, True where masked; special tokens and markers never are.
    """
    rates = np.zeros(4)
    rates[CUE], rates[ENTITY], rates[OTHER] = cue_rate, entity_rate, other_rate
    return hashed_uniform(seed, epoch, rows[:, None], units) < rates[roles]


def irrelevant_spans(
    roles: IntArray, rows: IntArray, epoch: int, seed: int, num_spans: int, max_length: int = 4
) -> IntArray:
    """Draws spans that hold neither an entity nor a cue: stage 2's negatives within a sentence.

    Args:
        roles: ``(batch, seq_len)``, the processor's roles.
        rows: ``(batch,)``; with ``epoch`` and ``seed`` all that the draw depends on.
        num_spans: Spans per sentence; two of them may overlap.
        max_length: The longest span in tokens; each length from 1 is drawn alike.

    Returns:
        ``(batch, num_spans, 2)``, end exclusive; ``[0, 0]`` where a sentence has no such span.
    """
    width = roles.shape[1]
    position = np.arange(width)
    # How many irrelevant tokens stand in a row from each position on: the way to the next one that isn't.
    stops = np.where(roles == OTHER, width, position)
    run = np.minimum.accumulate(stops[:, ::-1], axis=1)[:, ::-1] - position
    span = np.arange(num_spans)
    length = 1 + (hashed_uniform(seed, epoch, rows[:, None], -1 - span) * max_length).astype(np.int64)
    fits = run[:, None] >= length[..., None]
    key = hashed_uniform(seed, epoch, rows[:, None, None], span[:, None], position)
    start = np.where(fits, key, -1.0).argmax(-1)
    return np.stack([start, start + length], axis=-1) * fits.any(-1, keepdims=True)
