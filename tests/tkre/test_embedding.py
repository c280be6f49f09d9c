"""Vectors of sentences and descriptions are the model's own, whatever the batches they were made in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tkre_hf.data import RelationInfo
from tkre_hf.tkre.embedding import embed_anchors, embed_features, embed_records
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining, TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords


@pytest.fixture
def encoder(model: TKREForPreTraining) -> TKREModel:
    """Of the tiny model."""
    return model.base


@pytest.mark.parametrize("batch_size", [1, 5, 48, 1000])
def test_batches_change_no_vector(
    batch_size: int, encoder: TKREModel, processor: TKREProcessor, records: list[dict[str, Any]]
) -> None:
    """In float32; each row's vector is its own, in the order of the rows."""
    order = np.random.default_rng(0).permutation(len(records))
    vectors = embed_records(encoder, processor, EncodedRecords(records, processor))
    shuffled = embed_records(encoder, processor, EncodedRecords([records[i] for i in order], processor), batch_size)
    assert torch.allclose(shuffled, vectors[torch.from_numpy(order)], atol=1e-6)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(records)), atol=1e-6)
    assert len(vectors.unique(dim=0)) > len(records) / 2


def test_vectors_are_the_models_own(
    encoder: TKREModel, processor: TKREProcessor, records: list[dict[str, Any]]
) -> None:
    vectors = embed_records(encoder, processor, EncodedRecords(records[:6], processor))
    for vector, record in zip(vectors, records[:6], strict=True):
        spans = {role: [record[role]["start"], record[role]["end"]] for role in ("head", "tail")}
        inputs = processor(words=list(record["tokens"]), **spans)
        with torch.no_grad():
            found = encoder(inputs["input_ids"], inputs["attention_mask"], inputs["entity_spans"]).relation_embeds
        assert torch.allclose(found[0], vector, atol=1e-6)


def test_evaluation_turns_dropout_off(encoder: TKREModel, processor: TKREProcessor, records: list[Any]) -> None:
    encoded = EncodedRecords(records[:4], processor)
    encoder.train()
    embed_records(encoder, processor, encoded)
    assert not encoder.training


def test_what_the_processor_gave_is_embedded_alike(
    encoder: TKREModel, processor: TKREProcessor, records: list[dict[str, Any]]
) -> None:
    found = embed_features(encoder, processor, processor.encode(records), batch_size=7)
    assert torch.allclose(found, embed_records(encoder, processor, EncodedRecords(records, processor)), atol=1e-6)
    assert embed_features(encoder, processor, []).shape == (0, 16)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_no_more_descriptions_are_encoded_at_once(
    batch_size: int, encoder: TKREModel, processor: TKREProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = [
        RelationInfo(name, "who wrote a book " * i) for i, name in enumerate(("author", "capital of", "mother", "in"))
    ]
    expected, forward, sizes = embed_anchors(encoder, processor, info), encoder.forward, []
    monkeypatch.setattr(
        encoder, "forward", lambda **inputs: sizes.append(len(inputs["input_ids"])) or forward(**inputs)
    )
    found = embed_anchors(encoder, processor, info, batch_size)
    assert max(sizes) == batch_size and sum(sizes) == len(info)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
