"""Which texts say the same: exact copies and near ones, among tens of thousands, in constant time each."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tkre_hf.knowledge.align import fold

_SHINGLE = 5
_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalnum())
_HASHES, _MOST_ROWS = 64, 4
# A pair exactly as similar as the threshold is to be found with at least this probability.
_FOUND = 0.98
LEAST_THRESHOLD = 0.1
# A row that may not come back has come back in a longer text when at least this share of its shingles has; what two
# sentences share by naming the same entities is less.
_HELD = 0.7


class Match(NamedTuple):
    """A text that is like another.

    Attributes:
        label: What the other was added as.
        similarity: The Jaccard similarity of the two texts' shingles, 1.0 for a copy; for a text added as one that may
            not come back, the share of its shingles that did, 1.0 also where it stands in a longer text as it is.
    """

    label: str
    similarity: float


class NearDuplicateIndex:
    """Texts by MinHash signature (Broder, 1997) in a locality-sensitive table; candidates are compared exactly.

    Texts are compared by the sets of their five-letter shingles with case, spaces and punctuation left out, so that
    tokenisation doesn't matter. The 64 hashes are cut into bands as wide as the threshold allows: with 16 bands of 4,
    a pair of similarity 0.7 is found with probability 0.988, one of 0.8 with 0.9998, and a copy always; a lower
    threshold has narrower bands, which find as many and compare more. A text costs about half a kilobyte.

    Texts that may not come back, such as an evaluation's, are found without fail, and within a longer text as well.

    Args:
        threshold: The Jaccard similarity from which on two texts count as near-duplicates, in [0.1, 1]: less than a
            tenth is shared by sentences that have nothing in common.
        seed: Of the hash functions.
        kept_out: What texts are added as that may not come back.
    """

    def __init__(
        self,
        threshold: float = 0.7,
        seed: int = 0,
        kept_out: Collection[str] = ("demonstration", "excluded"),
    ) -> None:
        if not LEAST_THRESHOLD <= threshold <= 1:
            raise ValueError(f"threshold must be in [{LEAST_THRESHOLD}, 1], found {threshold}")
        self.threshold = threshold
        self._kept_out = {label: _Postings() for label in kept_out}
        self._bands, self._rows = bands_for(threshold)
        random = np.random.default_rng(seed)
        hashes = self._bands * self._rows
        self._a = random.integers(0, 2**63, (hashes, 1), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._b = random.integers(0, 2**63, (hashes, 1), dtype=np.uint64)
        self._mix = random.integers(0, 2**63, self._rows, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._shingles: list[NDArray[np.uint32]] = []
        self._labels: list[str] = []
        # Row r's hash in band b, and the row that was first in the same bucket before it: chains instead of sets.
        self._hashes = np.zeros((1024, self._bands), np.uint32)
        self._next = np.zeros((1024, self._bands), np.int32)
        self._first = np.full((self._bands, 2048), -1, np.int32)
        self._every_band = np.arange(self._bands)

    def __len__(self) -> int:
        return len(self._shingles) + sum(map(len, self._kept_out.values()))

    def find(self, text: str, quoting: str = "") -> Match | None:
        """The text added so far that this one is most like, if it is like one; those that may not come back first.

        Args:
            text: The text.
            quoting: A text whose words it may hold: where they stand in a row that may not come back too, the row
                has not come back by that.
        """
        shingles = _shingles(text)
        own = np.setdiff1d(shingles, _shingles(quoting), assume_unique=True) if quoting else shingles
        return self._find_kept_out(shingles, own) or self._find(shingles, self._band_hashes(shingles))

    def find_or_add(self, text: str, label: str) -> Match | None:
        """Like ``find``; a text that is like no other is added."""
        shingles = _shingles(text)
        hashes = self._band_hashes(shingles)
        match = self._find_kept_out(shingles, shingles) or self._find(shingles, hashes)
        if match is None:
            self._add(shingles, hashes, label)
        return match

    def add(self, text: str, label: str) -> None:
        """Adds a text, whether or not there is one like it."""
        shingles = _shingles(text)
        self._add(shingles, None, label)

    def _find_kept_out(self, shingles: NDArray[np.uint32], own: NDArray[np.uint32]) -> Match | None:
        """Of a text's shingles ``own`` are those that tell when it holds a row in a longer text."""
        matches = []
        for label, postings in self._kept_out.items():
            if not len(postings):
                continue
            shared = postings.shared(shingles)
            held = shared if own is shingles else postings.shared(own)
            like = (held >= max(self.threshold, _HELD) * postings.sizes) | (
                shared >= self.threshold * (postings.sizes + len(shingles) - shared)
            )
            if like.any():
                matches.append(Match(label, float((shared[like] / postings.sizes[like]).max())))
        return max(matches, key=lambda match: match.similarity, default=None)

    def _find(self, shingles: NDArray[np.uint32], hashes: NDArray[np.uint32]) -> Match | None:
        candidates: set[int] = set()
        for band, row in enumerate(self._first.take(self._buckets(hashes)).tolist()):
            while row >= 0:
                if self._hashes[row, band] == hashes[band]:
                    candidates.add(row)
                row = self._next.item(row, band)
        best = max(((jaccard(shingles, self._shingles[row]), -row) for row in candidates), default=(0.0, 0))
        return Match(self._labels[-best[1]], best[0]) if best[0] >= self.threshold else None

    def _add(self, shingles: NDArray[np.uint32], hashes: NDArray[np.uint32] | None, label: str) -> None:
        if label in self._kept_out:
            self._kept_out[label].add(shingles)
            return
        row = len(self._shingles)
        self._shingles.append(shingles)
        self._labels.append(label)
        if row == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._next = np.concatenate([self._next, np.zeros_like(self._next)])
            self._first = np.full((self._bands, 2 * self._first.shape[1]), -1, np.int32)
            for earlier in range(row):
                self._link(earlier)
        self._hashes[row] = self._band_hashes(shingles) if hashes is None else hashes
        self._link(row)

    def _link(self, row: int) -> None:
        buckets = self._buckets(self._hashes[row])
        self._next[row] = self._first.take(buckets)
        self._first.put(buckets, row)

    def _buckets(self, hashes: NDArray[np.uint32]) -> NDArray[np.int64]:
        """The places in the flattened ``_first`` for a hash of each band, ``(bands,)``."""
        width = self._first.shape[1]
        return self._every_band * width + (hashes & np.uint32(width - 1))

    def _band_hashes(self, shingles: NDArray[np.uint32]) -> NDArray[np.uint32]:
        # Multiply-shift hashing: the arithmetic wraps at 2**64, and the upper half is kept, of the least alone.
        products = self._a * shingles.astype(np.uint64)
        products += self._b
        signature = products.min(axis=1) >> np.uint64(32)
        mixed = signature.reshape(self._bands, self._rows) @ self._mix
        return (mixed >> np.uint64(32)).astype(np.uint32)


def bands_for(threshold: float) -> tuple[int, int]:
    """How many bands of how many hashes find pairs of a similarity; as few candidates as they can without missing."""
    for rows in range(_MOST_ROWS, 1, -1):
        bands = _HASHES // rows
        if 1 - (1 - threshold**rows) ** bands >= _FOUND:
            return bands, rows
    return _HASHES, 1


class _Postings:
    """For each shingle the texts that have it, in three flat arrays: eight bytes for each shingle of a text."""

    def __init__(self) -> None:
        self._new: list[NDArray[np.uint32]] = []
        self._codes = np.zeros(0, np.uint32)
        self._starts = np.zeros(1, np.int64)
        self._texts = np.zeros(0, np.int32)
        self._sizes = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._sizes) + len(self._new)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many shingles each text has, ``(texts,)``, in the order in which they were added."""
        return self._sizes

    def add(self, shingles: NDArray[np.uint32]) -> None:
        """Adds a text; sorted in with the others when it is first asked for, so texts are best added before that."""
        self._new.append(shingles)

    def shared(self, shingles: NDArray[np.uint32]) -> NDArray[np.int64]:
        """How many of these shingles each text has, ``(texts,)``."""
        if self._new:
            self._sort_in()
        if not len(self._codes):
            return np.zeros(0, np.int64)
        at = np.searchsorted(self._codes, shingles)
        at = at[self._codes[np.minimum(at, len(self._codes) - 1)] == shingles]
        starts = self._starts[at]
        lengths = self._starts[at + 1] - starts
        # The places of all lists one after another: within each, one more than the place before.
        ends = lengths.cumsum()
        places = np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)
        return np.bincount(self._texts[places], minlength=len(self._sizes))

    def _sort_in(self) -> None:
        sizes = np.array([len(shingles) for shingles in self._new], np.int64)
        codes = np.concatenate([np.repeat(self._codes, np.diff(self._starts)), *self._new])
        new = np.arange(len(self._sizes), len(self), dtype=np.int32)
        texts = np.concatenate([self._texts, np.repeat(new, sizes)])
        order = codes.argsort(kind="stable")
        self._codes, starts = np.unique(codes[order], return_index=True)
        self._starts = np.append(starts, len(codes))
        self._texts = texts[order]
        self._sizes = np.concatenate([self._sizes, sizes])
        self._new.clear()


def jaccard(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    """The Jaccard similarity of two sets given as arrays without repetition."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def similarity(left: str, right: str) -> float:
    """The Jaccard similarity of two texts' shingles."""
    return jaccard(_shingles(left), _shingles(right))


def _shingles(text: str) -> NDArray[np.uint32]:
    """The sorted hashes of a text's shingles; at least one."""
    folded = fold(text)
    if folded.isascii():
        letters = folded.encode().translate(None, _NO_LETTERS)
    else:
        letters = "".join(filter(str.isalnum, folded)).encode()
    letters = letters.ljust(_SHINGLE, b"\0")
    # Eight bytes from each letter on, as one number; its first five are the shingle.
    eights = np.ndarray(len(letters) - _SHINGLE + 1, ">u8", letters + bytes(8 - _SHINGLE), strides=(1,))
    codes = (eights >> np.uint64(64 - 8 * _SHINGLE)) * np.uint64(0x9E3779B97F4A7C15)
    codes = (codes >> np.uint64(32)).astype(np.uint32)
    codes.sort()
    first = np.empty(len(codes), bool)
    first[0] = True
    np.not_equal(codes[1:], codes[:-1], out=first[1:])
    return codes[first]
