"""Encoded sentences, and the order in which the stages draw them: batches that depend on seed and epoch alone.

A sampler knows its rank: it lays out each global batch and yields its own share, so that two processes see together
what one would. It yields ``(row, epoch)``, since what is masked in a row depends on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, Dataset
from tqdm.auto import tqdm

from .processing_tkre import TKREProcessor

Key = tuple[int, int]

# Sentences that are sorted by length together: enough batches for little padding, few enough to stay random.
_POOL_BATCHES = 32

# In tokens: how far from its length a sentence may be sorted within its relation.
_LENGTH_NOISE = 4.0

# A hard batch's relations are drawn from so many times as many: always the very nearest would be always the same.
_NEIGHBOURHOOD = 3


class EncodedRecords(Dataset[dict[str, Any]]):
    """Records as token ids, in flat arrays: a million sentences are a few arrays, shared by forked workers.

    Args:
        records: See ``tkre_hf.data.schema``.
        processor: Marks and tokenizes.
        relations: The labels in the order of their numbers; by default those that occur, sorted.

    Attributes:
        relations: The labels.
        labels: Each sentence's relation number, ``(sentences,)``.
        lengths: Tokens of each sentence, ``(sentences,)``.
        num_truncated: Sentences that lost words to the window.
        num_cues_lost: Quoted cues that fell outside it.
    """

    def __init__(
        self,
        records: Iterable[Mapping[str, Any]],
        processor: TKREProcessor,
        relations: Sequence[str] | None = None,
        batch_size: int = 1000,
    ) -> None:
        rows = list(records)
        names = [row["relation"] for row in rows]
        self.relations = sorted(set(names)) if relations is None else list(relations)
        number = {name: i for i, name in enumerate(self.relations)}
        self.labels = np.array([number[name] for name in names], dtype=np.int64)
        steps = tqdm(
            range(0, len(rows), batch_size), desc="Encoding", unit_scale=batch_size, disable=None, leave=False
        )
        encoded = [features for i in steps for features in processor.encode(rows[i : i + batch_size])]
        self.lengths = np.array([len(features["input_ids"]) for features in encoded], dtype=np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self._tokens = {
            name: np.concatenate(
                [np.asarray(features[name], dtype=dtype) for features in encoded] or [np.empty(0, dtype)]
            )
            for name, dtype in (("input_ids", np.int32), ("roles", np.int8), ("units", np.int32))
        }
        self.entity_spans = np.array([features["entity_spans"] for features in encoded], dtype=np.int64).reshape(
            -1, 2, 2
        )
        self._cue_spans = [features["cue_spans"] for features in encoded]
        self.num_truncated = sum(features["truncated"] for features in encoded)
        self.num_cues_lost = sum(features["cues_lost"] for features in encoded)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int | Key) -> dict[str, Any]:
        row, epoch = (key, 0) if isinstance(key, (int, np.integer)) else key
        tokens = slice(self._offsets[row], self._offsets[row + 1])
        return {
            "row": row,
            "epoch": epoch,
            **{name: flat[tokens] for name, flat in self._tokens.items()},
            "entity_spans": self.entity_spans[row],
            "cue_spans": self._cue_spans[row],
            "label": self.labels[row],
        }


class _EpochSampler(BatchSampler):
    """A sampler of batches that another epoch shuffles anew."""

    def __init__(self, seed: int, rank: int, world_size: int) -> None:
        self.seed, self.rank, self.world_size, self.epoch = seed, rank, world_size, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Key]]:  # type: ignore[override]
        for batch in self.batches(np.random.default_rng([self.seed, self.epoch])):
            yield [(int(row), self.epoch) for row in self.share(batch)]

    def batches(self, rng: np.random.Generator) -> Iterable[NDArray[np.int64]]:
        """The epoch's global batches."""
        raise NotImplementedError

    def share(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's rows of a global batch."""
        return np.array_split(batch, self.world_size)[self.rank]


class LengthBatchSampler(_EpochSampler):
    """Stage 1's batches: sentences of like length together, in random order.

    Args:
        lengths: Tokens of each sentence.
        batch_size: Sentences of a global batch, all processes together. What is left at the end of an epoch is a
            smaller batch, unless it can't give every process a sentence.
    """

    def __init__(
        self, lengths: NDArray[np.int64], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(seed, rank, world_size)
        self.lengths, self.batch_size = lengths, batch_size

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.batch_size)
        return full + (rest >= self.world_size)

    def batches(self, rng: np.random.Generator) -> Iterable[NDArray[np.int64]]:
        order = rng.permutation(len(self.lengths))
        pool = self.batch_size * _POOL_BATCHES
        # The short batch is cut off first, so that sorting doesn't make it the one with the longest sentences.
        pools = [order[i : i + pool] for i in range(0, len(order), pool)]
        batches = []
        for rows in pools:
            rest = len(rows) % self.batch_size
            whole = rows[: len(rows) - rest]
            whole = whole[np.argsort(self.lengths[whole], kind="stable")]
            batches += list(whole.reshape(-1, self.batch_size))
            if rest:
                batches.append(rows[-rest:])
        # Left out only now, so that the others come in the same order on any number of processes.
        return [batches[i] for i in rng.permutation(len(batches)) if len(batches[i]) >= self.world_size]


class RelationBatchSampler(_EpochSampler):
    """Stage 2's batches: P relations with K sentences each, those of one relation beside each other.

    Args:
        labels: Each sentence's relation, ``(sentences,)``.
        lengths: Tokens of each sentence, ``(sentences,)``; a batch's sentences are long, or short, for their relation.
        relations_per_batch: P, over all processes; a multiple of their number.
        sentences_per_relation: K. A relation with fewer sentences repeats them.
        groups: Each sentence's corpus, ``(sentences,)``; a relation's group is its first sentence's.
        shares: The share of P that each group gets; by default in proportion to its relations.
        similarity: Of every two relations, ``(relations, relations)``, for hard batches: a group's relations in one
            are drawn from the neighbourhood of a random one.
        hard_share: The share of batches that are hard.

    An epoch draws as many sentences as there are, but each relation equally often within its group: sentences of
    larger relations are seen less often. Within a relation a sentence comes once in a pass over its sentences.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        lengths: NDArray[np.int64],
        relations_per_batch: int,
        sentences_per_relation: int,
        groups: NDArray[np.int64] | None = None,
        shares: Sequence[float] | None = None,
        similarity: NDArray[np.float32] | None = None,
        hard_share: float = 0.0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(seed, rank, world_size)
        self.lengths = lengths
        self.similarity, self.hard_share = similarity, hard_share
        self.per_batch, self.per_relation = relations_per_batch, sentences_per_relation
        if relations_per_batch % world_size:
            raise ValueError(f"relations_per_batch ({relations_per_batch}) is no multiple of {world_size} processes")
        present, first = np.unique(labels, return_index=True)
        group_of = np.zeros(len(present), dtype=np.int64) if groups is None else groups[first]
        self.pools = [present[group_of == group] for group in np.unique(group_of)]
        if shares is None:
            shares = [len(pool) / len(present) for pool in self.pools]
        self.counts = _apportion(relations_per_batch, shares)
        for pool, count in zip(self.pools, self.counts, strict=True):
            if count > len(pool):
                raise ValueError(
                    f"a batch of {relations_per_batch} relations asks {count} of a corpus that has {len(pool)}: "
                    "lower relations_per_batch or change the shares"
                )
        self.rows = {int(relation): np.flatnonzero(labels == relation) for relation in present}

    def __len__(self) -> int:
        return max(1, len(self.lengths) // (self.per_batch * self.per_relation))

    def batches(self, rng: np.random.Generator) -> Iterable[NDArray[np.int64]]:
        hard = rng.random(len(self)) < (self.hard_share if self.similarity is not None else 0.0)
        drawn = [
            self._relations(pool, count, hard, rng)
            for pool, count in zip(self.pools, self.counts, strict=True)
            if count
        ]
        relation = np.concatenate(drawn, axis=1)
        # So that every process gets relations of every corpus.
        relation = rng.permuted(relation, axis=1)
        quantile = rng.random(len(self))
        rows = np.empty((*relation.shape, self.per_relation), dtype=np.int64)
        for number, mine in self.rows.items():
            batch, place = np.nonzero(relation == number)
            rows[batch, place] = self._draw(mine, quantile[batch], rng)
        return rows.reshape(len(self), -1)

    def _relations(
        self, pool: NDArray[np.int64], count: int, hard: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """``count`` different relations of a corpus for each batch, from one neighbourhood where it is hard."""
        key = rng.random((len(hard), len(pool)))
        if hard.any() and self.similarity is not None:
            nearest = (-self.similarity[np.ix_(pool, pool)]).argsort(axis=1, kind="stable")
            size = min(_NEIGHBOURHOOD * count, len(pool))
            near = np.zeros((len(pool), len(pool)), dtype=bool)
            np.put_along_axis(near, nearest[:, :size], True, axis=1)
            centre = rng.integers(len(pool), size=len(hard))
            key += ~near[centre] & hard[:, None]
        return pool[key.argpartition(count - 1, axis=1)[:, :count]]

    def _draw(
        self, rows: NDArray[np.int64], quantile: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Sets of K sentences of like length, the longest sets for the highest quantiles: ``(len(quantile), K)``."""
        times, size = len(quantile), self.per_relation
        per_pass = max(1, len(rows) // size)
        passes = -(-times // per_pass)
        order = np.array([np.resize(rng.permutation(rows), per_pass * size) for _ in range(passes)], dtype=np.int64)
        order = order.reshape(passes, per_pass * size)
        # With some noise in the lengths, or a small relation's sets would be the same in every pass.
        key = self.lengths[order] + rng.normal(scale=_LENGTH_NOISE, size=order.shape)
        sets = np.take_along_axis(order, key.argsort(axis=1), axis=1).reshape(-1, size)
        sets = sets[np.sort(rng.permutation(len(sets))[:times])]
        drawn = np.empty_like(sets)
        drawn[quantile.argsort()] = sets[self.lengths[sets].mean(axis=1).argsort(kind="stable")]
        return drawn

    def share(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        # By relation, so that the sentences of one stay with one process.
        return np.array_split(batch.reshape(self.per_batch, -1), self.world_size)[self.rank].ravel()


def sample_per_label(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """At most ``count`` rows of each label, drawn at random, in ascending order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[labels[order].argsort(kind="stable")]
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return np.sort(order[rank < count])


def _apportion(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the shares that sum to the total (largest remainders)."""
    exact = np.asarray(shares, dtype=float) / sum(shares) * total
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts.tolist()
