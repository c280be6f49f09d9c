"""Masks and irrelevant spans: the paper's rates, whole units, and nothing that depends on the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tkre_hf.tkre.masking import hashed_uniform, irrelevant_spans, span_mask
from tkre_hf.tkre.processing_tkre import CUE, ENTITY, OTHER, SPECIAL, TKREProcessor

IntArray = NDArray[np.int64]

ROLES = hnp.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 20)), elements=st.integers(0, 3))


def distinct_units(roles: IntArray) -> IntArray:
    """Every token a unit of its own; special tokens have none."""
    return np.where(roles == SPECIAL, -1, np.arange(roles.shape[1]))


@pytest.mark.parametrize(("role", "rate"), [(CUE, 0.8), (ENTITY, 0.5), (OTHER, 0.2), (SPECIAL, 0.0)])
def test_rates_by_role_are_the_papers(role: int, rate: float) -> None:
    roles = np.full((400, 50), role)
    mask = span_mask(roles, np.tile(np.arange(50), (400, 1)), np.arange(400), epoch=3, seed=1)
    # Five standard deviations of the binomial distribution.
    assert abs(mask.mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / mask.size)


def test_rates_are_settings() -> None:
    roles = np.tile([CUE, ENTITY, OTHER], (50, 1))
    units = np.tile(np.arange(3), (50, 1))
    mask = span_mask(roles, units, np.arange(50), 0, 0, cue_rate=0.0, entity_rate=1.0, other_rate=0.0)
    assert (mask == [False, True, False]).all()


@given(ROLES, st.integers(0, 5), st.integers(0, 99), st.data())
@settings(deadline=None)
def test_a_unit_is_masked_as_a_whole_and_special_tokens_never(
    roles: IntArray, epoch: int, seed: int, data: st.DataObject
) -> None:
    # Units are of one role: a cue, an entity with all its mentions, a word.
    units = roles * 100 + data.draw(hnp.arrays(np.int64, roles.shape, elements=st.integers(0, 3)))
    units = np.where(roles == SPECIAL, -1, units)
    mask = span_mask(roles, units, np.arange(len(roles)), epoch, seed)
    assert not mask[roles == SPECIAL].any()
    for row_mask, row_units in zip(mask, units, strict=True):
        for unit in set(row_units.tolist()) - {-1}:
            assert len(set(row_mask[row_units == unit].tolist())) == 1


@given(ROLES, st.integers(0, 5), st.integers(0, 99), st.integers(0, 6), st.data())
@settings(deadline=None)
def test_neither_order_nor_padding_nor_neighbours_change_a_row(
    roles: IntArray, epoch: int, seed: int, padding: int, data: st.DataObject
) -> None:
    rows, units = np.arange(len(roles)) * 7, distinct_units(roles)
    mask = span_mask(roles, units, rows, epoch, seed)
    spans = irrelevant_spans(roles, rows, epoch, seed, 3)
    order = np.array(data.draw(st.permutations(range(len(roles)))))[: data.draw(st.integers(1, len(roles)))]
    wider = ((0, 0), (0, padding))
    other_roles = np.pad(roles[order], wider, constant_values=SPECIAL)
    other_units = np.pad(units[order], wider, constant_values=-1)
    other = span_mask(other_roles, other_units, rows[order], epoch, seed)
    assert (other[:, : roles.shape[1]] == mask[order]).all()
    assert not other[:, roles.shape[1] :].any()
    assert (irrelevant_spans(other_roles, rows[order], epoch, seed, 3) == spans[order]).all()


def test_epoch_seed_and_row_change_the_mask() -> None:
    roles = np.full((1, 200), OTHER)
    units = np.arange(200)[None]

    def mask(row: int = 0, epoch: int = 0, seed: int = 0) -> bytes:
        return span_mask(roles, units, np.array([row]), epoch, seed).tobytes()

    assert mask() == mask()
    assert len({mask(), mask(row=1), mask(epoch=1), mask(seed=1)}) == 4


def test_all_mentions_are_masked_together(processor: TKREProcessor, records: list[dict[str, Any]]) -> None:
    words = ["Ada", "met", "Kiel", "and", "ada", "saw", "Kiel"]
    row = {**records[0], "tokens": words, "head": {"start": 0, "end": 1}, "tail": {"start": 2, "end": 3}, "cues": []}
    (encoded,) = processor.encode([row])
    roles, units = (np.tile(encoded[name], (500, 1)) for name in ("roles", "units"))
    mask = span_mask(roles, units, np.arange(500), 0, 0)
    entities = np.unique(units[0][roles[0] == ENTITY])
    assert len(entities) == 2
    for unit in entities:
        mine = mask[:, units[0] == unit]
        assert mine.shape[1] >= 2
        assert (mine == mine[:, :1]).all()
        assert 0.4 < mine[:, 0].mean() < 0.6


@given(ROLES, st.integers(0, 5), st.integers(0, 99), st.integers(1, 5), st.integers(1, 6))
@settings(deadline=None)
def test_irrelevant_spans_hold_neither_entity_nor_cue(
    roles: IntArray, epoch: int, seed: int, num_spans: int, max_length: int
) -> None:
    spans = irrelevant_spans(roles, np.arange(len(roles)), epoch, seed, num_spans, max_length)
    assert spans.shape == (len(roles), num_spans, 2)
    for row, row_spans in zip(roles, spans, strict=True):
        for start, end in row_spans:
            if start == end == 0:
                continue  # padding
            assert 0 <= start < end <= len(row) and end - start <= max_length
            assert (row[start:end] == OTHER).all()
        if not (row == OTHER).any():
            assert not row_spans.any()


def test_irrelevant_spans_are_spread_over_the_sentence() -> None:
    roles = np.full((2000, 12), OTHER)
    roles[:, [0, 5, 11]] = SPECIAL, ENTITY, SPECIAL
    spans = irrelevant_spans(roles, np.arange(2000), 0, 0, 1)[:, 0]
    lengths = spans[:, 1] - spans[:, 0]
    assert np.bincount(lengths, minlength=5)[1:5].min() > 400  # each of the four lengths, about 500 times
    starts = np.bincount(spans[lengths == 1, 0], minlength=12)
    assert starts[[1, 2, 3, 4, 6, 7, 8, 9, 10]].min() > 25  # each of the nine places, about 55 times
    # Where a sentence has no room for a long span, it has none.
    roles[:, 6:] = SPECIAL
    roles[:, 2] = ENTITY
    spans = irrelevant_spans(roles, np.arange(2000), 0, 0, 1)[:, 0]
    assert set(map(tuple, spans.tolist())) == {(0, 0), (1, 2), (3, 4), (4, 5), (3, 5)}


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=4))
def test_hashed_numbers_lie_in_the_unit_interval(keys: list[int]) -> None:
    value = hashed_uniform(*keys)
    assert 0 <= value < 1
    assert value == hashed_uniform(*keys)


def test_hashed_numbers_are_uniform_and_uncorrelated() -> None:
    values = hashed_uniform(0, np.arange(300)[:, None], np.arange(300))
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    assert abs(counts - values.size / 20).max() < 5 * np.sqrt(values.size / 20)
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 0.02
