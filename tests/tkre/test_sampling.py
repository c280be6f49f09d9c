"""Which sentences meet in a batch: all of them, alike on any number of processes, and the same for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tkre_hf.epoch_loader import EpochDataLoader
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import (
    _NEIGHBOURHOOD,
    EncodedRecords,
    LengthBatchSampler,
    RelationBatchSampler,
)

LENGTHS = np.random.default_rng(0).integers(5, 60, 103)


def rows(batches: list[list[tuple[int, int]]]) -> list[int]:
    return [row for batch in batches for row, _ in batch]


def test_encoded_records_are_what_the_processor_gives(processor: TKREProcessor, records: list[dict[str, Any]]) -> None:
    dataset = EncodedRecords(records, processor, batch_size=7)
    assert len(dataset) == len(records)
    assert dataset.relations == sorted({record["relation"] for record in records})
    for i, encoded in enumerate(processor.encode(records)):
        row = dataset[i, 3]
        assert (row["row"], row["epoch"]) == (i, 3)
        assert dataset.relations[row["label"]] == records[i]["relation"]
        for name in ("input_ids", "roles", "units", "entity_spans", "cue_spans"):
            assert np.asarray(row[name]).tolist() == encoded[name]
        assert dataset.lengths[i] == len(encoded["input_ids"])
    assert dataset[5]["epoch"] == 0
    assert (dataset.num_truncated, dataset.num_cues_lost) == (0, 0)


def test_encoded_records_count_what_the_window_cuts(processor: TKREProcessor, records: list[dict[str, Any]]) -> None:
    processor.max_length = 10
    encoded = processor.encode(records)
    dataset = EncodedRecords(records, processor)
    assert dataset.num_truncated == sum(row["truncated"] for row in encoded) > 0
    assert dataset.num_cues_lost == sum(row["cues_lost"] for row in encoded) > 0


def test_relations_can_be_numbered_beforehand(processor: TKREProcessor, records: list[dict[str, Any]]) -> None:
    dataset = EncodedRecords(records[:1], processor, ["zzz", records[0]["relation"]])
    assert dataset.labels.tolist() == [1]
    assert len(EncodedRecords([], processor)) == 0


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 3), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_processes_share_each_length_batch(per_process: int, world: int, epoch: int, seed: int) -> None:
    batch_size = per_process * world
    one = LengthBatchSampler(LENGTHS, batch_size, seed)
    several = [LengthBatchSampler(LENGTHS, batch_size, seed, rank, world) for rank in range(world)]
    for sampler in (one, *several):
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in several]
    assert [len(share) for share in shares] == [len(sampler) for sampler in several]
    together = [sum((share[i] for share in shares), []) for i in range(len(shares[0]))]
    whole = [batch for batch in one if len(batch) >= world]
    assert together == whole
    assert all(share for batch in zip(*shares, strict=True) for share in batch)
    # Every sentence comes once, but for a rest that can't give every process one.
    assert len(set(rows(together))) == len(rows(together)) > len(LENGTHS) - world
    assert all(key[1] == epoch for batch in together for key in batch)


def test_length_batches_waste_little_and_are_shuffled() -> None:
    lengths = np.random.default_rng(1).integers(5, 120, 20_000)
    sampler = LengthBatchSampler(lengths, 50, seed=3)
    batches = [[row for row, _ in batch] for batch in sampler]
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.1 * lengths.sum()
    means = np.array([lengths[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2  # short and long ones follow each other
    again = [[row for row, _ in batch] for batch in sampler]
    sampler.set_epoch(1)
    other = [[row for row, _ in batch] for batch in sampler]
    assert again == batches != other


LABELS = np.repeat(np.arange(12), [3, 40, 7, 9, 1, 2, 30, 4, 4, 4, 20, 6])
ROWS = np.random.default_rng(2).permutation(len(LABELS))
LABELS = LABELS[ROWS]
LABEL_LENGTHS = np.random.default_rng(3).integers(5, 60, len(LABELS))


@given(st.sampled_from([(4, 1), (4, 2), (6, 3), (8, 2), (12, 4)]), st.integers(1, 5), st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_relation_batches(sizes: tuple[int, int], per_relation: int, epoch: int) -> None:
    relations, world = sizes
    one = RelationBatchSampler(LABELS, LABEL_LENGTHS, relations, per_relation)
    several = [
        RelationBatchSampler(LABELS, LABEL_LENGTHS, relations, per_relation, rank=rank, world_size=world)
        for rank in range(world)
    ]
    for sampler in (one, *several):
        sampler.set_epoch(epoch)
    whole = list(one)
    assert len(whole) == len(one) >= 1
    assert whole == [sum(shares, []) for shares in zip(*several, strict=True)]
    for batch in whole:
        labels = LABELS[[row for row, _ in batch]].reshape(relations, per_relation)
        assert (labels == labels[:, :1]).all()  # a relation's sentences stand together
        assert len(np.unique(labels[:, 0])) == relations
    for shares in zip(*several, strict=True):
        mine = [set(LABELS[[row for row, _ in share]].tolist()) for share in shares]
        assert len(set.union(*mine)) == sum(map(len, mine))  # and no relation is on two processes


def test_a_batch_never_repeats_a_sentence_that_need_not_be() -> None:
    sampler = RelationBatchSampler(LABELS, LABEL_LENGTHS, 6, 4)
    counts = np.bincount(LABELS)
    for epoch in range(20):
        sampler.set_epoch(epoch)
        for batch in sampler:
            drawn = np.array([row for row, _ in batch]).reshape(6, 4)
            for sentences in drawn:
                assert len(set(sentences.tolist())) == min(4, counts[LABELS[sentences[0]]])


def test_relations_are_drawn_alike_and_sentences_in_turn() -> None:
    sampler = RelationBatchSampler(LABELS, LABEL_LENGTHS, 4, 2)
    seen = np.zeros(len(LABELS), dtype=int)
    for epoch in range(200):
        sampler.set_epoch(epoch)
        np.add.at(seen, rows(list(sampler)), 1)
    drawn = np.bincount(LABELS, weights=seen) / 2
    assert drawn.min() > 0.85 * drawn.max()  # a large relation comes no more often than a small one
    largest = seen[LABELS == 1]
    assert largest.min() > 0.5 * largest.mean()


def test_corpora_get_their_shares() -> None:
    groups = (LABELS >= 8).astype(int)
    sampler = RelationBatchSampler(LABELS, LABEL_LENGTHS, 4, 2, groups, [0.25, 0.75])
    for batch in sampler:
        relations = LABELS[[row for row, _ in batch]][::2]
        assert ((relations >= 8).sum(), (relations < 8).sum()) == (3, 1)


@pytest.mark.parametrize("hard_share", [0.0, 0.5, 1.0])
def test_hard_batches_come_from_one_neighbourhood(hard_share: float) -> None:
    # Forty relations in two blocks that are like themselves, each a neighbourhood for two relations a batch or more.
    labels = np.repeat(np.arange(40), 30)
    similarity = np.kron(np.eye(2), np.ones((20, 20))) + np.eye(40)
    similarity = (similarity + 0.1 * np.random.default_rng(0).random((40, 40))).astype(np.float32)
    per_batch = 20 // _NEIGHBOURHOOD
    assert per_batch >= 2
    samplers = [
        RelationBatchSampler(labels, np.full(1200, 9), per_batch, 1, None, None, similarity, hard_share, seed=seed)
        for seed in range(3)
    ]
    drawn = np.array([[row for row, _ in batch] for sampler in samplers for batch in sampler])
    block = labels[drawn] // 20
    alike = (block == block[:, :1]).mean(axis=0)[1:].mean()
    chance = 19 / 39  # that another relation is of the first one's block
    assert alike == pytest.approx(hard_share + (1 - hard_share) * chance, abs=0.06)
    assert abs(block[:, 0].mean() - 0.5) < 0.06  # both blocks are drawn
    assert (np.bincount(labels[drawn].ravel(), minlength=40) > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relations_per_batch": 13}, "asks 13 of a corpus that has 12"),
        ({"relations_per_batch": 4, "world_size": 3}, r"relations_per_batch \(4\) is no multiple of 3 processes"),
    ],
)
def test_a_batch_that_cannot_be_filled_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelationBatchSampler(LABELS, LABEL_LENGTHS, **{"sentences_per_relation": 2, **settings})


def test_the_loader_passes_the_epoch_on(processor: TKREProcessor, records: list[dict[str, Any]]) -> None:
    dataset = EncodedRecords(records, processor)
    loader = EpochDataLoader(dataset, batch_sampler=LengthBatchSampler(dataset.lengths, 48), collate_fn=list)
    loader.set_epoch(4)
    (batch,) = loader
    assert {row["epoch"] for row in batch} == {4}
