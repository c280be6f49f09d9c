"""Batches of both stages: what is masked, which spans say what, and anchors of the relations at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tkre_hf.tkre.data_collator import MSLMCollator, SCLCollator
from tkre_hf.tkre.losses import IRRELEVANT, PADDING, POSITIVE
from tkre_hf.tkre.processing_tkre import OTHER, TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords


@pytest.fixture
def dataset(processor: TKREProcessor, records: list[dict[str, Any]]) -> EncodedRecords:
    return EncodedRecords(records, processor)


def test_masked_batches(processor: TKREProcessor, dataset: EncodedRecords) -> None:
    keys = [(0, 2), (9, 2), (20, 2), (41, 2)]
    features = [dataset[key] for key in keys]
    batch = MSLMCollator(processor, seed=5)(features)
    original = processor.pad([feature["input_ids"] for feature in features])
    masked = batch["labels"] != -100
    assert masked.any()
    assert (batch["input_ids"][masked] == processor.tokenizer.mask_token_id).all()
    assert (batch["labels"][masked] == original["input_ids"][masked]).all()
    assert (batch["input_ids"][~masked] == original["input_ids"][~masked]).all()
    assert not masked[original["attention_mask"] == 0].any()
    special = torch.isin(original["input_ids"], torch.tensor(processor.tokenizer.all_special_ids))
    assert not masked[special].any()

    # A row's mask doesn't depend on who else is in the batch; another pass masks other tokens.
    alone = MSLMCollator(processor, seed=5)([features[2]])["labels"]
    assert alone[0].tolist() == batch["labels"][2, : alone.shape[1]].tolist()
    later = MSLMCollator(processor, seed=5)([dataset[row, 3] for row, _ in keys])["labels"]
    assert later.tolist() != batch["labels"].tolist()


def test_rates_reach_the_masks(processor: TKREProcessor, dataset: EncodedRecords) -> None:
    features = [dataset[i, 0] for i in range(8)]
    none = MSLMCollator(processor, cue_rate=0.0, entity_rate=0.0, other_rate=0.0)(features)
    assert (none["labels"] == -100).all()
    entities = MSLMCollator(processor, cue_rate=0.0, entity_rate=1.0, other_rate=0.0)(features)
    for feature, labels in zip(features, entities["labels"], strict=True):
        (start, end), _ = feature["entity_spans"]
        assert (labels[start + 1 : end - 1] != -100).all()


@pytest.mark.parametrize("num_irrelevant", [0, 1, 4])
def test_contrastive_batches(processor: TKREProcessor, dataset: EncodedRecords, num_irrelevant: int) -> None:
    anchors = processor.encode_anchors(dataset.relations)
    features = [dataset[i, 1] for i in (0, 1, 17, 18, 47)]
    collator = SCLCollator(processor, anchors, num_irrelevant, MSLMCollator(processor), seed=2)
    batch = collator(features)
    assert batch["labels"].tolist() == [int(feature["label"]) for feature in features]
    assert batch["anchor_ids"].tolist() == sorted(set(batch["labels"].tolist()))
    for relation, ids, mask in zip(
        batch["anchor_ids"], batch["anchor_input_ids"], batch["anchor_attention_mask"], strict=True
    ):
        assert ids[mask.bool()].tolist() == anchors[relation]
    assert (batch["input_ids"] != processor.tokenizer.mask_token_id).all()
    assert (batch["mslm_input_ids"] == processor.tokenizer.mask_token_id).any()

    spans, kinds = batch["spans"], batch["span_kinds"]
    assert spans.shape == (*kinds.shape, 2)
    assert ((spans[..., 0] < spans[..., 1]) == (kinds != PADDING)).all()
    for i, feature in enumerate(features):
        positive = spans[i][kinds[i] == POSITIVE].tolist()
        assert positive == [*feature["entity_spans"].tolist(), *feature["cue_spans"]]
        irrelevant = spans[i][kinds[i] == IRRELEVANT].tolist()
        assert len(irrelevant) <= num_irrelevant
        for start, end in irrelevant:
            assert (np.asarray(feature["roles"][start:end]) == OTHER).all()
    if num_irrelevant:
        assert (kinds == IRRELEVANT).any()


def test_sentences_without_cues(processor: TKREProcessor, records: list[dict[str, Any]]) -> None:
    record = {**records[0], "tokens": ["Ada", "Kiel"], "cues": []}
    record |= {"head": {"start": 0, "end": 1}, "tail": {"start": 1, "end": 2}}
    dataset = EncodedRecords([record], processor)
    batch = SCLCollator(processor, processor.encode_anchors(dataset.relations))([dataset[0]])
    assert batch["span_kinds"].tolist() == [[POSITIVE, POSITIVE, PADDING, PADDING, PADDING, PADDING, PADDING]]
    assert "mslm_labels" not in batch
