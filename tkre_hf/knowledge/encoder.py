"""A TKRE checkpoint as the callables that retrieval and the consistency filter take, through the Auto classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoProcessor

import tkre_hf  # noqa: F401  (makes the Auto classes know TKRE)
from tkre_hf.data.relations import RelationInfo
from tkre_hf.data.schema import Record
from tkre_hf.errors import TkreError


class RelationEncoder:
    """Relation representations of records, and anchors of relation descriptions, in one space.

    Args:
        model: A model with ``relation_embeds`` and ``anchor_embeds`` in its output, such as ``TKREModel``.
        processor: Its processor.
        batch_size: Sentences at once.
    """

    def __init__(self, model: Any, processor: Any, batch_size: int = 64) -> None:
        self.model, self.processor, self.batch_size = model.eval(), processor, batch_size

    @classmethod
    def from_pretrained(cls, path: str, *, trust_remote_code: bool = False) -> RelationEncoder:
        """Loads a checkpoint.

        Raises:
            TkreError: There is none, or it is no TKRE checkpoint.
        """
        try:
            model = AutoModel.from_pretrained(path, trust_remote_code=trust_remote_code)
            processor = AutoProcessor.from_pretrained(path, trust_remote_code=trust_remote_code)
        except (OSError, ValueError) as error:
            raise TkreError(f"cannot load the checkpoint {path}: {str(error).strip().splitlines()[0]}") from None
        if not hasattr(processor, "encode_anchors"):
            raise TkreError(f"{path} is no TKRE checkpoint: its processor can't mark entities")
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), processor)

    @torch.no_grad()
    def __call__(self, records: Sequence[Record]) -> NDArray[np.float32]:
        """Relation representations ``(records, dim)``, unit length."""
        vectors = []
        for batch in self._batches(records):
            rows = self.processor.encode(batch)
            inputs = self.processor.pad([row["input_ids"] for row in rows])
            spans = torch.tensor([row["entity_spans"] for row in rows])
            vectors.append(self._run(inputs, entity_spans=spans).relation_embeds)
        return _numpy(vectors)

    def error(self, record: Record) -> str:
        """Why the checkpoint can't read a record: an entity that it has no mark for, or that its window can't hold."""
        try:
            self.processor.encode([record])
        except ValueError as error:
            return str(error)
        return ""

    @torch.no_grad()
    def anchors(self, relations: Mapping[str, RelationInfo]) -> dict[str, NDArray[np.float32]]:
        """Each relation's embedded name and description, ``(dim,)``, unit length."""
        vectors = []
        for batch in self._batches(list(relations.values())):
            ids = self.processor.encode_anchors([info.name for info in batch], [info.description for info in batch])
            vectors.append(self._run(self.processor.pad(ids)).anchor_embeds)
        return dict(zip(relations, _numpy(vectors), strict=True))

    def _run(self, inputs: Mapping[str, torch.Tensor], **more: torch.Tensor) -> Any:
        return self.model(**{name: tensor.to(self.model.device) for name, tensor in {**inputs, **more}.items()})

    def _batches(self, rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size]


def _numpy(vectors: list[torch.Tensor]) -> NDArray[np.float32]:
    return torch.cat(vectors).float().cpu().numpy()
