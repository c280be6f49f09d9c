"""What a model returns for many sentences or descriptions, a batch at a time: vectors, or a classifier's logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from tkre_hf.data.relations import RelationInfo

from .modeling_tkre import TKREModel, TKREPreTrainedModel
from .processing_tkre import TKREProcessor
from .sampling import EncodedRecords

# Sentences, or descriptions, encoded at once where nobody says how many.
_BATCH_SIZE = 64


def embed_records(
    model: TKREPreTrainedModel,
    processor: TKREProcessor,
    records: EncodedRecords,
    batch_size: int = _BATCH_SIZE,
    rows: NDArray[np.int64] | None = None,
    output: str = "relation_embeds",
) -> Tensor:
    """Relation representations of sentences, ``(sentences, projection_dim)``, unit length, in float32 on the CPU.

    Args:
        model: The model.
        processor: Its processor.
        records: The sentences.
        batch_size: Sentences encoded at once.
        rows: Which of them, in this order; all by default.
        output: Another of the model's outputs instead, such as a classifier's ``logits``.
    """
    rows = np.arange(len(records)) if rows is None else rows
    ids = [records[int(row)]["input_ids"] for row in rows]
    return _forward(model, processor, ids, torch.from_numpy(records.entity_spans[rows]), output, batch_size)


def embed_features(
    model: TKREModel, processor: TKREProcessor, features: Sequence[dict[str, Any]], batch_size: int = _BATCH_SIZE
) -> Tensor:
    """Relation representations of what ``TKREProcessor.encode`` gives, as :func:`embed_records`; may be of none."""
    if not features:
        return torch.zeros((0, model.config.projection_dim))
    spans = torch.tensor([entry["entity_spans"] for entry in features])
    ids = [entry["input_ids"] for entry in features]
    return _forward(model, processor, ids, spans, "relation_embeds", batch_size)


def embed_anchors(
    model: TKREModel, processor: TKREProcessor, relations: Sequence[RelationInfo], batch_size: int = _BATCH_SIZE
) -> Tensor:
    """Anchors of relations by name and description, ``(relations, projection_dim)``, unit length, on the CPU.

    Args:
        model: The model.
        processor: Its processor.
        relations: Their names and descriptions.
        batch_size: Descriptions encoded at once.
    """
    ids = processor.encode_anchors([info.name for info in relations], [info.description for info in relations])
    return _forward(model, processor, ids, None, "anchor_embeds", batch_size)


@torch.inference_mode()
def _forward(
    model: TKREPreTrainedModel,
    processor: TKREProcessor,
    ids: Sequence[Any],
    entity_spans: Tensor | None,
    output: str,
    batch_size: int,
) -> Tensor:
    """One output of a model for rows of tokens: in order of length, so that little is padding.

    Under the autocast in force; the model is left in evaluation mode.
    """
    model.eval()
    order = np.argsort([len(row) for row in ids], kind="stable")
    parts = []
    for start in tqdm(range(0, len(order), batch_size), desc="Encoding", disable=None, leave=False):
        chosen = order[start : start + batch_size]
        inputs = processor.pad([ids[row] for row in chosen])
        if entity_spans is not None:
            inputs["entity_spans"] = entity_spans[torch.from_numpy(chosen)]
        outputs = model(**{name: value.to(model.device) for name, value in inputs.items()})
        parts.append(outputs[output].float().cpu())
    return torch.cat(parts)[torch.from_numpy(np.argsort(order))]
