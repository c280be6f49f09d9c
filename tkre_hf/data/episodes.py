"""N-way K-shot episodes, as a finite data set of indices that is the same on every machine.

Source: the FewRel toolkit's episodes (Han et al., EMNLP 2018; none of the above: Gao et al., EMNLP-IJCNLP 2019), which
are endless and unseeded. Here episode ``i`` is a function of ``(seed, i)`` alone.

None of the above: the toolkit's ``na_rate`` is the number of such queries over ``n_query``, so that 1, 2 and 5 stand
for "15%, 30% and 50%" of a 5-way episode. Ours is what the papers report, the fraction of all queries: beside the
``n_way * n_query`` queries with a relation, ``round(n_way * n_query * na_rate / (1 - na_rate))`` have none. At 5-way
and one query each, 0.15, 0.30 and 0.50 give 1, 2 and 5: the toolkit's own counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tkre_hf.errors import TkreError

IntArray: TypeAlias = npt.NDArray[np.int64]
_WordArray: TypeAlias = npt.NDArray[np.uint64]

# Philox yields four 64-bit words for each step of its counter.
_WORDS_PER_STEP = 4
_ITER_BATCH = 256


@dataclass(frozen=True)
class Episode:
    """One episode, or a batch of them with one more axis in front. All arrays are int64.

    Args:
        support: ``(n_way, k_shot)`` rows.
        query: ``(n_queries,)`` rows: ``n_query`` for each relation in turn, then those with none of the above.
        query_label: ``(n_queries,)`` for each query its place in ``relations``, -1 for none of the above.
        relations: ``(n_way,)`` indices into ``EpisodeDataset.relation_names``.
    """

    support: IntArray
    query: IntArray
    query_label: IntArray
    relations: IntArray


class EpisodeDataset(Sequence[Episode]):
    """N-way K-shot Q-query episodes over labelled rows; holds indices, not sentences.

    Relations are drawn without replacement, and so are a relation's rows within an episode, so that support and query
    never share one. A query with none of the above draws one of the other relations, then one of its rows; as in the
    toolkit, two such queries may draw the same.

    The random words of episode ``i`` are a fixed stretch of one Philox stream keyed by the seed, and NumPy promises
    that stream to stay the same; so any range of episodes comes in one go, whatever the number of processes. Relations
    are sorted by name; the order of a relation's own rows counts.

    Args:
        relations: Each row's relation.
        n_way: Relations in an episode.
        k_shot: Supports for each relation.
        n_query: Queries for each relation.
        na_rate: The fraction of queries with none of the above, from 0 up to but not including 1.
        num_episodes: How many episodes there are.
        seed: Any whole number that is not negative.

    Raises:
        TkreError: A setting is out of range, there are too few relations, or a relation has too few rows.
    """

    def __init__(
        self,
        relations: Sequence[str],
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 1,
        na_rate: float = 0.0,
        num_episodes: int = 10_000,
        seed: int = 0,
    ) -> None:
        for name, value, least in [
            ("n_way", n_way, 1),
            ("k_shot", k_shot, 1),
            ("n_query", n_query, 1),
            ("num_episodes", num_episodes, 0),
            ("seed", seed, 0),
        ]:
            if value < least:
                raise TkreError(f"{name} must be at least {least}, not {value}")
        if not 0 <= na_rate < 1:
            raise TkreError(f"na_rate is a fraction of the queries, at least 0 and less than 1, not {na_rate}")
        self.n_way, self.k_shot, self.n_query = n_way, k_shot, n_query
        self.na_rate, self.num_episodes, self.seed = na_rate, num_episodes, seed
        self.n_na = round(n_way * n_query * na_rate / (1 - na_rate))
        if na_rate and not self.n_na:
            queries = n_way * n_query
            # More than half a query is rounded to one.
            enough = (1000 // (2 * queries + 1) + 1) / 1000
            raise TkreError(
                f"na_rate {na_rate} of {queries} queries is less than one query: raise it to {enough} at least, or "
                "raise n_way or n_query"
            )

        names, codes = np.unique(np.asarray(relations, dtype=np.str_), return_inverse=True)
        self.relation_names: tuple[str, ...] = tuple(names.tolist())
        self._counts = np.bincount(codes, minlength=len(names)).astype(np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self._rows = np.argsort(codes, kind="stable").astype(np.int64)
        self._check_sizes()

    def _check_sizes(self) -> None:
        needed = self.n_way + bool(self.n_na)
        if len(self.relation_names) < needed:
            more = " with none of the above" if self.n_na else ""
            found = len(self.relation_names)
            raise TkreError(f"{self.n_way}-way episodes{more} need at least {needed} relations, found {found}")
        asked = self.k_shot + self.n_query
        short = [(name, n) for name, n in zip(self.relation_names, self._counts.tolist(), strict=True) if n < asked]
        if short:
            parts = f"{self.k_shot} support + {self.n_query} query"
            raise TkreError(f"each relation needs {asked} rows ({parts}), but {list_short(short)}")

    def __len__(self) -> int:
        return self.num_episodes

    def __getitem__(self, index: int) -> Episode:  # type: ignore[override]
        i = index + len(self) if index < 0 else index
        if not 0 <= i < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        return next(self._one_by_one(i, i + 1))

    def __iter__(self) -> Iterator[Episode]:
        for start in range(0, len(self), _ITER_BATCH):
            yield from self._one_by_one(start, min(start + _ITER_BATCH, len(self)))

    def _one_by_one(self, start: int, stop: int) -> Iterator[Episode]:
        batch = self.batch(start, stop)
        for arrays in zip(batch.support, batch.query, batch.query_label, batch.relations, strict=True):
            yield Episode(*arrays)

    def batch(self, start: int, stop: int) -> Episode:
        """Episodes ``start`` to ``stop`` (exclusive) at once, each array with an axis of ``stop - start`` in front.

        Raises:
            IndexError: The range doesn't lie within the data set.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"episodes [{start}, {stop}) of {len(self)}")
        n_drawn = self.k_shot + self.n_query
        words = self._words(start, stop)
        relation_words, row_words, na_words = np.split(words, np.cumsum([self.n_way, self.n_way * n_drawn]), axis=1)

        relations = _draw_distinct(relation_words, np.full(len(words), len(self.relation_names)))
        picks = _draw_distinct(row_words.reshape(-1, self.n_way, n_drawn), self._counts[relations])
        rows = self._rows[self._starts[relations][..., None] + picks]
        query = rows[..., self.k_shot :].reshape(len(words), self.n_way * self.n_query)
        label = np.repeat(np.arange(self.n_way), self.n_query)
        if self.n_na:
            query = np.concatenate([query, self._draw_na(na_words, relations)], axis=1)
            label = np.concatenate([label, np.full(self.n_na, -1)])
        return Episode(rows[..., : self.k_shot], query, np.tile(label, (len(words), 1)), relations)

    def _words(self, start: int, stop: int) -> _WordArray:
        """The random words of each episode: ``(stop - start, words per episode)``."""
        used = self.n_way * (1 + self.k_shot + self.n_query) + 2 * self.n_na
        steps = -(-used // _WORDS_PER_STEP)
        generator = np.random.Philox(np.random.SeedSequence(self.seed))
        generator.advance(start * steps)
        words = generator.random_raw((stop - start) * steps * _WORDS_PER_STEP)
        return words.reshape(stop - start, steps * _WORDS_PER_STEP)[:, :used]

    def _draw_na(self, words: _WordArray, relations: IntArray) -> IntArray:
        """Rows of relations other than the episode's: ``(episodes, n_na)``."""
        relation_words, row_words = np.split(words, 2, axis=1)
        others = _below(relation_words, np.int64(len(self.relation_names) - self.n_way))
        for taken in np.sort(relations, axis=1).T:
            others += others >= taken[:, None]
        return self._rows[self._starts[others] + _below(row_words, self._counts[others])]


def list_short(short: Sequence[tuple[str, int]]) -> str:
    """Lists relations that have too few rows, each with the number it has, for an error."""
    listed = ", ".join(f"{name!r} has {n}" for name, n in short[:5])
    return listed + (f" and {len(short) - 5} more relations have too few" if len(short) > 5 else "")


def _below(words: _WordArray, count: IntArray | np.int64) -> IntArray:
    """A whole number in ``[0, count)`` for each word; its bias is below ``count / 2**32``."""
    high = words >> np.uint64(32)
    return ((high * np.asarray(count, dtype=np.uint64)) >> np.uint64(32)).astype(np.int64)


def _draw_distinct(words: _WordArray, count: IntArray) -> IntArray:
    """Draws without replacement along the last axis: ``words`` ``(..., m)`` give m different numbers below ``count``.

    The j-th draw picks one of the ``count - j`` numbers left, then steps over those taken, in ascending order. The
    loops run over the few draws of an episode, each for all episodes at once.
    """
    drawn = np.empty(words.shape, dtype=np.int64)
    for j in range(words.shape[-1]):
        pick = _below(words[..., j], count - j)
        for taken in np.moveaxis(np.sort(drawn[..., :j], axis=-1), -1, 0):
            pick += pick >= taken
        drawn[..., j] = pick
    return drawn
