"""From encoded sentences to a stage's batch: padding to the longest, labels, masks, spans and anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .losses import IRRELEVANT, PADDING, POSITIVE
from .masking import CUE_RATE, ENTITY_RATE, OTHER_RATE, IntArray, irrelevant_spans, span_mask
from .processing_tkre import SPECIAL, TKREProcessor

Features = Sequence[dict[str, Any]]


def _rows(features: Features) -> tuple[IntArray, int]:
    """The sentences' numbers, and the epoch that they are drawn in."""
    return np.array([feature["row"] for feature in features], dtype=np.int64), int(features[0]["epoch"])


@dataclass
class MSLMCollator:
    """Pads sentences and masks their spans, for stage 1.

    Args:
        processor: Pads.
        seed: Of the masks; which depend on it, the epoch and the row alone.
        cue_rate: Probability that a relation cue is masked; ``entity_rate`` and ``other_rate`` likewise.
    """

    processor: TKREProcessor
    seed: int = 0
    cue_rate: float = CUE_RATE
    entity_rate: float = ENTITY_RATE
    other_rate: float = OTHER_RATE

    def __call__(self, features: Features) -> dict[str, Tensor]:
        """Gives ``input_ids`` (masked), ``attention_mask`` and ``labels``, each ``(batch, seq_len)``."""
        batch = self.processor.pad([feature["input_ids"] for feature in features])
        return {**batch, **self.mask(features, batch["input_ids"])}

    def mask(self, features: Features, input_ids: Tensor) -> dict[str, Tensor]:
        """Masks padded ``input_ids`` ``(batch, seq_len)``: the masked ones and the ``labels``, -100 elsewhere."""
        roles = self.processor.pad([feature["roles"] for feature in features], SPECIAL)["input_ids"].numpy()
        units = self.processor.pad([feature["units"] for feature in features], -1)["input_ids"].numpy()
        rows, epoch = _rows(features)
        masked = torch.from_numpy(
            span_mask(roles, units, rows, epoch, self.seed, self.cue_rate, self.entity_rate, self.other_rate)
        )
        return {
            "input_ids": input_ids.masked_fill(masked, self.processor.tokenizer.mask_token_id),
            "labels": input_ids.masked_fill(~masked, -100),
        }


@dataclass
class RelationCollator:
    """Pads sentences whose relation is to be classified.

    Args:
        processor: Pads.
    """

    processor: TKREProcessor

    def __call__(self, features: Features) -> dict[str, Tensor]:
        """Gives ``input_ids``, ``attention_mask`` ``(batch, seq_len)``, ``entity_spans`` and ``labels``."""
        batch = self.processor.pad([feature["input_ids"] for feature in features])
        batch["entity_spans"] = torch.from_numpy(np.stack([feature["entity_spans"] for feature in features]))
        batch["labels"] = torch.tensor([int(feature["label"]) for feature in features])
        return batch


@dataclass
class SCLCollator:
    """Pads sentences, lays out their spans and adds their relations' anchors, for stage 2.

    Args:
        processor: Pads.
        anchors: Token ids of each relation's name and description, by relation number.
        num_irrelevant: Irrelevant spans drawn from each sentence.
        mslm: Masks for stage 2's own masked span language modeling; ``None`` leaves it out.
        seed: Of the irrelevant spans.
    """

    processor: TKREProcessor
    anchors: Sequence[Sequence[int]]
    num_irrelevant: int = 4
    mslm: MSLMCollator | None = None
    seed: int = 0

    def __call__(self, features: Features) -> dict[str, Tensor]:
        """Gives the inputs of ``TKREForPreTraining``, and ``labels``, ``anchor_ids`` and ``span_kinds``."""
        batch = self.processor.pad([feature["input_ids"] for feature in features])
        labels = np.array([feature["label"] for feature in features], dtype=np.int64)
        relations = np.unique(labels)
        anchors = self.processor.pad([self.anchors[relation] for relation in relations])
        spans, kinds = self._spans(features)
        batch |= {
            "entity_spans": torch.from_numpy(np.stack([feature["entity_spans"] for feature in features])),
            "spans": spans,
            "span_kinds": kinds,
            "labels": torch.from_numpy(labels),
            "anchor_ids": torch.from_numpy(relations),
            "anchor_input_ids": anchors["input_ids"],
            "anchor_attention_mask": anchors["attention_mask"],
        }
        if self.mslm is not None:
            masked = self.mslm.mask(features, batch["input_ids"])
            batch |= {"mslm_input_ids": masked["input_ids"], "mslm_labels": masked["labels"]}
        return batch

    def _spans(self, features: Features) -> tuple[Tensor, Tensor]:
        """Spans ``(batch, spans, 2)`` and their kinds ``(batch, spans)``: two entities, cues, irrelevant ones."""
        entities = np.stack([feature["entity_spans"] for feature in features])
        counts = np.array([len(feature["cue_spans"]) for feature in features])
        cues = np.zeros((len(features), max(int(counts.max()), 1), 2), dtype=np.int64)
        filled = np.arange(cues.shape[1]) < counts[:, None]
        if counts.any():
            cues[filled] = np.array([span for feature in features for span in feature["cue_spans"]])
        rows, epoch = _rows(features)
        roles = self.processor.pad([feature["roles"] for feature in features], SPECIAL)["input_ids"].numpy()
        others = irrelevant_spans(roles, rows, epoch, self.seed, self.num_irrelevant)
        spans = np.concatenate([entities, cues, others], axis=1)
        kinds = np.full(spans.shape[:2], POSITIVE)
        kinds[:, -self.num_irrelevant or spans.shape[1] :] = IRRELEVANT
        kinds[spans[..., 0] >= spans[..., 1]] = PADDING
        return torch.from_numpy(spans), torch.from_numpy(kinds)
