"""Random numbers that depend on what they are drawn for and nothing else: no order, no process, no earlier draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

UInt64Array = NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = (np.uint64(shift) for shift in (30, 27, 31, 11))


def mix(state: UInt64Array) -> UInt64Array:
    """SplitMix64's finalizer, in place: every bit of what comes out depends on every bit that goes in."""
    shifted = state >> _30
    state ^= shifted
    state *= _FIRST
    np.right_shift(state, _27, out=shifted)
    state ^= shifted
    state *= _SECOND
    np.right_shift(state, _31, out=shifted)
    state ^= shifted
    return state


def hashed(*keys: Any) -> UInt64Array:
    """64 bits for each combination of keys, which are integers or arrays of integers that broadcast together."""
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            key = np.asarray(key)
            key = key if key.dtype == np.uint64 else key.astype(np.int64).astype(np.uint64)
            state = mix(np.array(state + key + _STEP, ndmin=1))
    return state


def uniform(state: UInt64Array) -> NDArray[np.float64]:
    """Hashes as numbers in [0, 1)."""
    return (state >> _11).astype(np.float64) * 2.0**-53


class Stream:
    """Uniform numbers one after the other, for many keys at once.

    Args:
        state: A hash for each key; it goes on from there.
    """

    def __init__(self, state: UInt64Array) -> None:
        self._state, self._step = state, np.zeros((), np.uint64)

    def __call__(self) -> NDArray[np.float64]:
        """The next number of each key."""
        with np.errstate(over="ignore"):
            self._step = self._step + _STEP
            return uniform(mix(self._state + self._step))
