"""The contrastive losses against their definitions, written out as loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tkre_hf.tkre.losses import (
    IRRELEVANT,
    PADDING,
    POSITIVE,
    gather,
    relation_contrastive_loss,
    span_contrastive_loss,
)

TAUS = st.sampled_from([0.05, 0.1, 1.0])


def vectors(count: int, seed: int, dim: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator, dtype=torch.double), dim=-1)


def relation_loss_by_loops(
    relation: Tensor, labels: list[int], anchors: Tensor, anchor_labels: list[int], tau: float
) -> float:
    """Khosla et al. 2020, equation 2, for sentences and anchors alike."""
    everything, label = [*relation, *anchors], [*labels, *anchor_labels]
    losses = []
    for i, query in enumerate(everything):
        others = [j for j in range(len(everything)) if j != i]
        positives = [j for j in others if label[j] == label[i]]
        if not positives:
            continue
        denominator = sum(math.exp(float(query @ everything[j]) / tau) for j in others)
        logs = [math.log(math.exp(float(query @ everything[j]) / tau) / denominator) for j in positives]
        losses.append(-sum(logs) / len(positives))
    return sum(losses) / len(losses) if losses else 0.0


def span_loss_by_loops(
    spans: Tensor, labels: list[int], kinds: list[int], anchors: Tensor, anchor_labels: list[int], tau: float
) -> float:
    """One InfoNCE for each anchor and each cue or entity span of its relation."""
    losses = []
    for anchor, relation in zip(anchors, anchor_labels, strict=True):
        score = [math.exp(float(anchor @ span) / tau) for span in spans]
        negatives = [
            j
            for j in range(len(spans))
            if (kinds[j] == IRRELEVANT and labels[j] == relation) or (kinds[j] == POSITIVE and labels[j] != relation)
        ]
        for j in range(len(spans)):
            if kinds[j] == POSITIVE and labels[j] == relation:
                losses.append(-math.log(score[j] / (score[j] + sum(score[k] for k in negatives))))
    return sum(losses) / len(losses) if losses else 0.0


@given(
    st.lists(st.integers(0, 4), max_size=9), st.integers(0, 5), st.sampled_from([0.05, 0.1, 1.0]), st.integers(0, 99)
)
@settings(deadline=None)
def test_relation_loss_is_its_definition(labels: list[int], num_anchors: int, tau: float, seed: int) -> None:
    relation, anchors = vectors(len(labels), seed), vectors(num_anchors, seed + 1000)
    loss = relation_contrastive_loss(
        relation, torch.tensor(labels, dtype=torch.long), anchors, torch.arange(num_anchors), tau
    )
    expected = relation_loss_by_loops(relation, labels, anchors, list(range(num_anchors)), tau)
    assert loss.item() == pytest.approx(expected, abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([POSITIVE, IRRELEVANT, PADDING])), max_size=12),
    st.integers(0, 5),
    TAUS,
    st.integers(0, 99),
)
@settings(deadline=None)
def test_span_loss_is_its_definition(rows: list[tuple[int, int]], num_anchors: int, tau: float, seed: int) -> None:
    labels, kinds = [label for label, _ in rows], [kind for _, kind in rows]
    spans, anchors = vectors(len(rows), seed), vectors(num_anchors, seed + 1000)
    loss = span_contrastive_loss(
        spans,
        torch.tensor(labels, dtype=torch.long),
        torch.tensor(kinds, dtype=torch.long),
        anchors,
        torch.arange(num_anchors),
        tau,
    )
    expected = span_loss_by_loops(spans, labels, kinds, anchors, list(range(num_anchors)), tau)
    assert loss.item() == pytest.approx(expected, abs=1e-9)


LABELS = torch.tensor([0, 0, 1, 2])
KINDS = torch.tensor([POSITIVE, IRRELEVANT, POSITIVE, PADDING])
ANCHOR_LABELS = torch.tensor([0, 1, 2])


def test_gradients_are_those_of_the_losses() -> None:
    embeddings, anchors = vectors(4, 0).requires_grad_(), vectors(3, 1).requires_grad_()

    def relation_loss(embeddings: Tensor, anchors: Tensor) -> Tensor:
        return relation_contrastive_loss(embeddings, LABELS, anchors, ANCHOR_LABELS, 0.5)

    def span_loss(embeddings: Tensor, anchors: Tensor) -> Tensor:
        return span_contrastive_loss(embeddings, LABELS, KINDS, anchors, ANCHOR_LABELS, 0.5)

    assert torch.autograd.gradcheck(relation_loss, (embeddings, anchors))
    assert torch.autograd.gradcheck(span_loss, (embeddings, anchors))


@pytest.mark.parametrize("tau", [0.1, 0.01])
@pytest.mark.parametrize(
    "labels",
    [
        torch.empty(0, dtype=torch.long),  # no sentence
        torch.tensor([0]),  # a sentence without another of its relation
        torch.tensor([0, 1, 2]),
    ],
)
def test_without_positives_the_loss_is_zero_and_its_gradient_finite(labels: Tensor, tau: float) -> None:
    relation = vectors(len(labels), 0).float().requires_grad_()
    anchors = torch.empty(0, 6, requires_grad=True)
    empty = torch.empty(0, dtype=torch.long)
    loss = relation_contrastive_loss(relation, labels, anchors, empty, tau)
    spans_loss = span_contrastive_loss(relation, labels, torch.full_like(labels, POSITIVE), anchors, empty, tau)
    assert loss.item() == spans_loss.item() == 0
    (loss + spans_loss).backward()
    assert relation.grad is not None and torch.isfinite(relation.grad).all()


@pytest.mark.parametrize("kind", [POSITIVE, IRRELEVANT, PADDING])
def test_degenerate_spans_give_finite_losses_and_gradients(kind: int) -> None:
    # Empty spans are zero vectors; an anchor may have no negative, or no positive.
    spans = torch.zeros(3, 6, requires_grad=True)
    anchors = vectors(2, 0).float().requires_grad_()
    loss = span_contrastive_loss(
        spans, torch.tensor([0, 0, 0]), torch.full((3,), kind), anchors, torch.tensor([0, 1]), 0.1
    )
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(spans.grad).all() and torch.isfinite(anchors.grad).all()


def test_padding_changes_nothing() -> None:
    spans, anchors = vectors(4, 0), vectors(3, 1)
    loss = span_contrastive_loss(spans, LABELS, KINDS, anchors, ANCHOR_LABELS, 0.1)
    padded = span_contrastive_loss(
        torch.cat([spans, vectors(2, 5)]),
        torch.cat([LABELS, torch.tensor([0, 1])]),
        torch.cat([KINDS, torch.tensor([PADDING, PADDING])]),
        anchors,
        ANCHOR_LABELS,
        0.1,
    )
    assert padded.item() == pytest.approx(loss.item(), abs=1e-12)


def test_an_anchor_that_two_processes_have_is_two_views_of_one_relation() -> None:
    relation, anchors = vectors(4, 0), vectors(2, 1)
    loss = relation_contrastive_loss(
        relation, torch.tensor([0, 0, 1, 1]), anchors[[0, 1, 0]], torch.tensor([0, 1, 0]), 0.1
    )
    expected = relation_loss_by_loops(relation, [0, 0, 1, 1], anchors[[0, 1, 0]], [0, 1, 0], 0.1)
    assert loss.item() == pytest.approx(expected, abs=1e-9)


def test_alone_a_process_gathers_its_own() -> None:
    tensor = torch.ones(3, requires_grad=True)
    assert gather(tensor) is tensor
