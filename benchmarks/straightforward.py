"""The two stages' training steps as a plain script has them: what training_step.py compares ours with.

The same model, losses, mask rates and optimizer. But a sentence is tokenized and masked on its own, in Python, and
padded to the longest that there may be; so are relation descriptions; the vocabulary's logits are those of every
token; the contrastive losses go from pair to pair; and all is float32.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tkre_hf.tkre.losses import IRRELEVANT, POSITIVE
from tkre_hf.tkre.masking import CUE_RATE, ENTITY_RATE, OTHER_RATE
from tkre_hf.tkre.modeling_tkre import TKREForMaskedSpanLM, TKREForPreTraining
from tkre_hf.tkre.processing_tkre import CUE, ENTITY, OTHER, TKREProcessor

_RATES = {CUE: CUE_RATE, ENTITY: ENTITY_RATE, OTHER: OTHER_RATE}
_IRRELEVANT_SPANS, _LONGEST_SPAN = 4, 4


class _Sentences(Dataset[dict[str, Tensor]]):
    """Tokenizes, masks and pads when a sentence is asked for."""

    def __init__(self, records: Sequence[Mapping[str, Any]], processor: TKREProcessor) -> None:
        self.records, self.processor = records, processor

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        features = self.processor.encode([self.records[index]])[0]
        ids, hidden = list(features["input_ids"]), set()
        for role, unit in dict.fromkeys(zip(features["roles"], features["units"], strict=True)):
            if role in _RATES and random.random() < _RATES[role]:
                hidden.add(unit)
        labels = [token if unit in hidden else -100 for token, unit in zip(ids, features["units"], strict=True)]
        mask = self.processor.tokenizer.mask_token_id
        ids = [token if label == -100 else mask for token, label in zip(ids, labels, strict=True)]
        return padded(ids, self.processor) | {"labels": torch.tensor(labels + [-100] * (self._length - len(labels)))}

    @property
    def _length(self) -> int:
        return self.processor.max_length


def padded(ids: Sequence[int], processor: TKREProcessor) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask``, both ``(max_length,)``."""
    missing = processor.max_length - len(ids)
    return {
        "input_ids": torch.tensor([*ids, *[processor.tokenizer.pad_token_id] * missing]),
        "attention_mask": torch.tensor([1] * len(ids) + [0] * missing),
    }


def stacked(items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """A batch of items of the same shape."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


class _PlainTrainer:
    def __init__(self, model: nn.Module) -> None:
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def update(self, loss: Tensor) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


class PlainMSLM(_PlainTrainer):
    """Stage 1. The model computes every token's logits (``sparse_prediction=False``)."""

    def __init__(
        self,
        model: TKREForMaskedSpanLM,
        processor: TKREProcessor,
        records: Sequence[Mapping[str, Any]],
        batch_size: int,
    ) -> None:
        super().__init__(model)
        self.loader = DataLoader(_Sentences(records, processor), batch_size, shuffle=True, drop_last=True)
        self.batches = iter(self.loader)

    def step(self) -> int:
        """One step; the number of sentences in it."""
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        self.update(self.model(**batch).loss)
        return len(batch["input_ids"])


class PlainSCL(_PlainTrainer):
    """Stage 2.

    Args:
        model: The model.
        processor: Its processor.
        records: The sentences.
        texts: Each relation's name and description.
        relations: Relations in a batch.
        per_relation: Sentences of each.
    """

    def __init__(
        self,
        model: TKREForPreTraining,
        processor: TKREProcessor,
        records: Sequence[Mapping[str, Any]],
        texts: Mapping[str, tuple[str, str]],
        relations: int,
        per_relation: int,
    ) -> None:
        super().__init__(model)
        self.processor, self.texts = processor, texts
        self.relations, self.per_relation = relations, per_relation
        self.tau, self.span_weight = model.config.tau, model.config.span_weight
        self.by_relation: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for record in records:
            self.by_relation[record["relation"]].append(record)

    def step(self) -> int:
        """One step; the number of sentences in it."""
        relations = random.sample(sorted(self.by_relation), self.relations)
        records = [record for name in relations for record in random.sample(self.by_relation[name], self.per_relation)]
        features = [self.processor.encode([record])[0] for record in records]
        spans = [[*f["entity_spans"], *f["cue_spans"]] for f in features]
        others = [irrelevant(f["roles"]) for f in features]
        kinds = [[POSITIVE] * len(a) + [IRRELEVANT] * len(b) for a, b in zip(spans, others, strict=True)]
        most = max(map(len, kinds))
        laid_out = [[*a, *b, *[[0, 0]] * (most - len(a) - len(b))] for a, b in zip(spans, others, strict=True)]
        anchors = [
            self.processor.encode_anchors([name], [text])[0]
            for name, text in (self.texts[label] for label in relations)
        ]
        sentence = stacked([padded(f["input_ids"], self.processor) for f in features])
        anchor = stacked([padded(ids, self.processor) for ids in anchors])
        outputs = self.model(
            **sentence,
            entity_spans=torch.tensor([f["entity_spans"] for f in features]),
            spans=torch.tensor(laid_out),
            anchor_input_ids=anchor["input_ids"],
            anchor_attention_mask=anchor["attention_mask"],
        )
        labels = [relations.index(record["relation"]) for record in records]
        anchor_labels = list(range(len(relations)))
        loss = relation_loss(outputs.relation_embeds, labels, outputs.anchor_embeds, anchor_labels, self.tau)
        flat = [outputs.span_embeds[i, j] for i, row in enumerate(kinds) for j in range(len(row))]
        flat_labels = [label for label, row in zip(labels, kinds, strict=True) for _ in row]
        flat_kinds = [kind for row in kinds for kind in row]
        loss = loss + self.span_weight * span_loss(
            flat, flat_labels, flat_kinds, outputs.anchor_embeds, anchor_labels, self.tau
        )
        self.update(loss)
        return len(records)


def irrelevant(roles: Sequence[int]) -> list[list[int]]:
    """Spans of one sentence with neither an entity nor a cue in them."""
    spans = []
    for _ in range(_IRRELEVANT_SPANS):
        length = random.randint(1, _LONGEST_SPAN)
        starts = [i for i in range(len(roles) - length + 1) if all(role == OTHER for role in roles[i : i + length])]
        if starts:
            start = random.choice(starts)
            spans.append([start, start + length])
    return spans


def relation_loss(
    relation: Tensor, labels: Sequence[int], anchors: Tensor, anchor_labels: Sequence[int], tau: float
) -> Tensor:
    """``losses.relation_contrastive_loss``, from pair to pair."""
    vectors, label = [*relation.unbind(), *anchors.unbind()], [*labels, *anchor_labels]
    losses = []
    for i in range(len(vectors)):
        similarity = {j: vectors[i] @ vectors[j] / tau for j in range(len(vectors)) if j != i}
        total = torch.logsumexp(torch.stack(list(similarity.values())), 0)
        positives = [total - similarity[j] for j in similarity if label[j] == label[i]]
        if positives:
            losses.append(torch.stack(positives).mean())
    return torch.stack(losses).mean()


def span_loss(
    spans: Sequence[Tensor],
    labels: Sequence[int],
    kinds: Sequence[int],
    anchors: Tensor,
    anchor_labels: Sequence[int],
    tau: float,
) -> Tensor:
    """``losses.span_contrastive_loss``, from pair to pair."""
    losses = []
    for anchor, own in zip(anchors.unbind(), anchor_labels, strict=True):
        positives, negatives = [], []
        for span, label, kind in zip(spans, labels, kinds, strict=True):
            if label == own and kind == POSITIVE:
                positives.append(anchor @ span / tau)
            elif label == own or kind == POSITIVE:
                negatives.append(anchor @ span / tau)
        for positive in positives:
            losses.append(torch.logsumexp(torch.stack([positive, *negatives]), 0) - positive)
    return torch.stack(losses).mean()
