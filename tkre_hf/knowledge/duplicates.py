"""Which texts say the same: exact copies and near ones, among tens of thousands, in constant time each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tkre_hf.knowledge.align import fold

_SHINGLE = 5
_BANDS, _ROWS = 16, 4


class Match(NamedTuple):
    """A text that is like another.

    Attributes:
        label: What the other was added as.
        similarity: The Jaccard similarity of the two texts' shingles, 1.0 for a copy.
    """

    label: str
    similarity: float


class NearDuplicateIndex:
    """Texts by MinHash signature (Broder, 1997) in a locality-sensitive table; candidates are compared exactly.

    Texts are compared by the sets of their five-letter shingles with case, spaces and punctuation left out, so that
    tokenisation doesn't matter. With 16 bands of 4 hashes, a pair of similarity 0.7 is found with probability 0.988,
    one of 0.8 with 0.9998, and a copy always. A text costs about half a kilobyte.

    Args:
        threshold: The Jaccard similarity from which on two texts count as near-duplicates, in (0, 1].
        seed: Of the hash functions.
    """

    def __init__(self, threshold: float = 0.7, seed: int = 0) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], found {threshold}")
        self.threshold = threshold
        random = np.random.default_rng(seed)
        self._a = random.integers(0, 2**63, (_BANDS * _ROWS, 1), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._b = random.integers(0, 2**63, (_BANDS * _ROWS, 1), dtype=np.uint64)
        self._mix = random.integers(0, 2**63, _ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._shingles: list[NDArray[np.uint32]] = []
        self._labels: list[str] = []
        # Row r's hash in band b, and the row that was first in the same bucket before it: chains instead of sets.
        self._hashes = np.zeros((1024, _BANDS), np.uint32)
        self._next = np.zeros((1024, _BANDS), np.int32)
        self._first = np.full((_BANDS, 2048), -1, np.int32)

    def __len__(self) -> int:
        return len(self._shingles)

    def find(self, text: str) -> Match | None:
        """The most similar text added so far, if it is at least ``threshold`` similar."""
        shingles = _shingles(text)
        return self._find(shingles, self._band_hashes(shingles))

    def find_or_add(self, text: str, label: str) -> Match | None:
        """Like ``find``; a text that is like no other is added."""
        shingles = _shingles(text)
        hashes = self._band_hashes(shingles)
        match = self._find(shingles, hashes)
        if match is None:
            self._add(shingles, hashes, label)
        return match

    def add(self, text: str, label: str) -> None:
        """Adds a text, whether or not there is one like it."""
        shingles = _shingles(text)
        self._add(shingles, self._band_hashes(shingles), label)

    def _find(self, shingles: NDArray[np.uint32], hashes: NDArray[np.uint32]) -> Match | None:
        candidates: set[int] = set()
        buckets = hashes & np.uint32(self._first.shape[1] - 1)
        for band, (row, wanted) in enumerate(
            zip(self._first[np.arange(_BANDS), buckets].tolist(), hashes.tolist(), strict=True)
        ):
            while row >= 0:
                if self._hashes[row, band] == wanted:
                    candidates.add(row)
                row = int(self._next[row, band])
        best = max(((jaccard(shingles, self._shingles[row]), -row) for row in candidates), default=(0.0, 0))
        return Match(self._labels[-best[1]], best[0]) if best[0] >= self.threshold else None

    def _add(self, shingles: NDArray[np.uint32], hashes: NDArray[np.uint32], label: str) -> None:
        row = len(self._shingles)
        self._shingles.append(shingles)
        self._labels.append(label)
        if row == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._next = np.concatenate([self._next, np.zeros_like(self._next)])
            self._first = np.full((_BANDS, 2 * self._first.shape[1]), -1, np.int32)
            for earlier in range(row):
                self._link(earlier)
        self._hashes[row] = hashes
        self._link(row)

    def _link(self, row: int) -> None:
        bands = np.arange(_BANDS)
        buckets = self._hashes[row] & np.uint32(self._first.shape[1] - 1)
        self._next[row] = self._first[bands, buckets]
        self._first[bands, buckets] = row

    def _band_hashes(self, shingles: NDArray[np.uint32]) -> NDArray[np.uint32]:
        # Multiply-shift hashing: the arithmetic wraps at 2**64, and the upper half is kept.
        signature = ((self._a * shingles.astype(np.uint64) + self._b) >> np.uint64(32)).min(axis=1)
        mixed = (signature.reshape(_BANDS, _ROWS) * self._mix).sum(axis=1, dtype=np.uint64)
        return (mixed >> np.uint64(32)).astype(np.uint32)


def jaccard(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    """The Jaccard similarity of two sets given as arrays without repetition."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def similarity(left: str, right: str) -> float:
    """The Jaccard similarity of two texts' shingles."""
    return jaccard(_shingles(left), _shingles(right))


def _shingles(text: str) -> NDArray[np.uint32]:
    """The sorted hashes of a text's shingles; at least one."""
    squashed = "".join(filter(str.isalnum, fold(text))).encode()
    letters = np.frombuffer(squashed.ljust(_SHINGLE, b"\0"), np.uint8).astype(np.uint64)
    windows = len(letters) - _SHINGLE + 1
    codes = np.zeros(windows, np.uint64)
    for offset in range(_SHINGLE):
        codes = codes * np.uint64(256) + letters[offset : offset + windows]
    return np.unique(((codes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)).astype(np.uint32))
