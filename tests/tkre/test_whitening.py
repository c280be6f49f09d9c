"""The last turn of the space: what varies within relations counts less, and a checkpoint carries it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tkre_hf.tkre.modeling_parts import unit
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining, TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords, sample_per_label
from tkre_hf.tkre.whitening import within_class_transform


def clusters(relations: int = 30, sentences: int = 40, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Relations apart along all axes, whose sentences scatter along the first one most."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(relations, 1, dim, generator=generator)
    spread = torch.randn(relations, sentences, dim, generator=generator) * torch.tensor([4.0, *[0.3] * (dim - 1)])
    return (centre + spread).flatten(0, 1), torch.arange(relations).repeat_interleave(sentences)


def within(vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    parts = [vectors[labels == label] for label in labels.unique()]
    residual = torch.cat([part - part.mean(0) for part in parts])
    return residual.T @ residual / (len(vectors) - len(parts))


def test_sentences_of_a_relation_differ_alike_in_all_directions() -> None:
    vectors, labels = clusters()
    covariance = within(vectors @ within_class_transform(vectors, labels, 0.0), labels)
    torch.testing.assert_close(covariance / covariance.diagonal().mean(), torch.eye(6), atol=1e-3, rtol=0)


def test_nearest_relations_are_found_more_often() -> None:
    vectors, labels = clusters()
    train, test = labels < 20, labels >= 20
    matrix = within_class_transform(vectors[train], labels[train], 0.1)

    def accuracy(turned: torch.Tensor) -> float:
        own, label = unit(turned[test]), labels[test] - 20
        prototypes = unit(torch.stack([own[label == i][:5].sum(0) for i in range(10)]))
        return float(((own @ prototypes.T).argmax(1) == label).float().mean())

    assert accuracy(vectors @ matrix) > accuracy(vectors) + 0.2


def test_much_shrinkage_leaves_angles_as_they_are() -> None:
    vectors, labels = clusters()
    turned = vectors @ within_class_transform(vectors, labels, 1e6)
    torch.testing.assert_close(unit(turned), unit(vectors), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("labels", "shrinkage", "message"),
    [([0, 1, 2], 1.0, "no relation has two different"), ([0, 0, 1], -0.5, "must not be below 0, found -0.5")],
)
def test_what_cannot_be_measured_is_refused(labels: list[int], shrinkage: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        within_class_transform(torch.eye(3), torch.tensor(labels), shrinkage)


def test_a_turned_model_gives_turned_vectors(
    model: TKREForPreTraining, processor: TKREProcessor, records: list[dict[str, Any]]
) -> None:
    dataset = EncodedRecords(records[:8], processor)
    inputs = processor.pad([dataset[i]["input_ids"] for i in range(8)])
    spans = torch.from_numpy(dataset.entity_spans)
    anchors = processor.pad(processor.encode_anchors(["mother: a woman", "plays"]))
    matrix = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))

    def embeds(base: TKREModel) -> list[torch.Tensor]:
        with torch.inference_mode():
            span = base.span_embeds(base(**inputs).last_hidden_state, spans)
            return [base(**inputs, entity_spans=spans).relation_embeds, base(**anchors).anchor_embeds, span]

    before = embeds(model.base)
    model.base.turn(matrix)
    for old, new in zip(before, embeds(model.base), strict=True):
        torch.testing.assert_close(new, unit(old @ matrix.T), atol=1e-5, rtol=0)


def test_learned_anchors_are_turned_as_well() -> None:
    from tkre_hf.tkre.configuration_tkre import TKREConfig

    backbone = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = TKREModel(TKREConfig({**backbone, "intermediate_size": 8}, projection_dim=4, num_learned_anchors=3))
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    assert model.learned_anchors is not None
    before = model.learned_anchors.weight.detach().clone()
    model.turn(matrix)
    torch.testing.assert_close(model.learned_anchors.weight.detach(), before @ matrix.T)


@given(arrays.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 5)), st.integers(1, 9), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_rows_are_drawn_evenly(labels: np.ndarray, count: int, seed: int) -> None:
    rows = sample_per_label(labels, count, seed)
    assert (np.diff(rows) > 0).all()
    for label in range(6):
        assert (labels[rows] == label).sum() == min(count, (labels == label).sum())
    assert rows.tolist() == sample_per_label(labels, count, seed).tolist()
