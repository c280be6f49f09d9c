"""TKRE's classifier of relations, for K-shot fine-tuning.

Copied beside a saved checkpoint, as ``modeling_tkre.py`` is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .configuration_tkre import TKREConfig
from .modeling_parts import TKREClassificationOutput, masked_loss, relation_states, unit
from .modeling_tkre import TKREModel, TKREPreTrainedModel, encoder_kwargs


class TKREForRelationClassification(TKREPreTrainedModel):
    """Relations as classes: a linear layer on both entity-marker states and the sentence's mean.

    It may start from stage 2's anchors instead of at random (:meth:`set_class_vectors`), so that what stage 2 has
    learned of the relations isn't thrown away (TKRE, fine-tuning).
    """

    def __init__(self, config: TKREConfig) -> None:
        super().__init__(config)
        if config.na_label is not None and config.na_label not in (config.label2id or {}):
            raise ValueError(f"na_label is {config.na_label!r}, which is none of the {config.num_labels} labels")
        self.num_labels = int(config.num_labels or 0)
        self.tkre = TKREModel(config)
        self.dropout = nn.Dropout(getattr(config.backbone_config, "hidden_dropout_prob", 0.1))
        self.classifier = nn.Linear(3 * config.hidden_size, self.num_labels)
        self.post_init()

    @torch.no_grad()
    def set_class_vectors(self, vectors: Tensor, length: float) -> None:
        """Lets classes start from vectors of the space that relations are compared in, such as their anchors.

        The projection of that space and the comparison are both linear, so their product is a linear layer: logits
        are then the cosines of relation representation and class vectors over τ, but for the representation's
        length, which ``length`` stands in for.

        Args:
            vectors: ``(num_labels, projection_dim)``; their own length doesn't count.
            length: Mean length of relation representations before they are brought to length one.
        """
        projection = self.tkre.relation_projection
        scaled = unit(vectors).to(projection.weight) / (self.config.tau * length)
        self.classifier.weight.copy_(scaled @ projection.weight)
        self.classifier.bias.copy_(scaled @ projection.bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        entity_spans: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> TKREClassificationOutput:
        """Classifies the relation between head and tail.

        Args:
            input_ids: ``(batch, seq_len)``.
            attention_mask: ``(batch, seq_len)``; all ones by default.
            entity_spans: ``(batch, 2, 2)``, as ``TKREProcessor`` gives them.
            labels: ``(batch,)``.
            num_items_in_batch: The number of sentences that the loss is averaged over, where a step is spread over
                several batches or processes; this batch's own by default.

        Raises:
            ValueError: ``entity_spans`` are missing: without them there is no relation to classify.
        """
        if entity_spans is None:
            raise ValueError("give entity_spans, as TKREProcessor makes them: they say which relation is meant")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.tkre.encode(input_ids, attention_mask, **encoder_kwargs(kwargs))
        logits = self.classifier(self.dropout(relation_states(hidden, attention_mask, entity_spans)))
        loss = masked_loss(logits, labels, num_items_in_batch) if labels is not None else None
        return TKREClassificationOutput(loss=loss, logits=logits)


TKREForRelationClassification.register_for_auto_class("AutoModelForSequenceClassification")
