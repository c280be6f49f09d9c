"""What TKRE's models are put together from: outputs, pooling, prototypes, and the vocabulary's head.

Copied beside a saved checkpoint, as ``modeling_tkre.py`` is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils.generic import ModelOutput

from .configuration_tkre import TKREConfig


@dataclass
class TKREModelOutput(ModelOutput):
    """What ``TKREModel`` returns.

    Args:
        last_hidden_state: The encoder's states, ``(batch, seq_len, hidden)``.
        relation_embeds: Unit vectors of the relation between head and tail, ``(batch, projection_dim)``; only when
            ``entity_spans`` are given.
        anchor_embeds: Unit vectors of the texts read as relation descriptions, ``(batch, projection_dim)``; only when
            no ``entity_spans`` are given.
    """

    last_hidden_state: Tensor | None = None
    relation_embeds: Tensor | None = None
    anchor_embeds: Tensor | None = None


@dataclass
class TKREMaskedSpanLMOutput(ModelOutput):
    """What ``TKREForMaskedSpanLM`` returns.

    Args:
        loss: Cross-entropy at the masked positions, when ``labels`` are given.
        logits: ``(batch, seq_len, vocab)``, or ``(masked positions, vocab)`` with labels and ``sparse_prediction``.
        last_hidden_state: The encoder's states, ``(batch, seq_len, hidden)``.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None


@dataclass
class TKREPreTrainingOutput(ModelOutput):
    """What ``TKREForPreTraining`` returns; the contrastive loss itself is ``losses.py``'s, since it spans processes.

    Args:
        loss: λ1-free masked span language modeling loss, when ``mslm_labels`` are given.
        relation_embeds: ``(batch, projection_dim)``, unit length.
        span_embeds: ``(batch, spans, projection_dim)``, unit length; zeros where a span is empty.
        anchor_embeds: ``(relations, projection_dim)``, unit length.
    """

    loss: Tensor | None = None
    relation_embeds: Tensor | None = None
    span_embeds: Tensor | None = None
    anchor_embeds: Tensor | None = None


@dataclass
class TKREFewShotOutput(ModelOutput):
    """What ``TKREForFewShotClassification`` returns.

    Args:
        loss: Cross-entropy of the queries, when ``labels`` are given.
        logits: ``(queries, n_way)``, and one more column for none of the above once ``na_threshold`` is calibrated.
        relation_embeds: The queries' relation representations, ``(queries, projection_dim)``.
        prototypes: ``(n_way, projection_dim)``, unit length.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    relation_embeds: Tensor | None = None
    prototypes: Tensor | None = None


@dataclass
class TKREClassificationOutput(ModelOutput):
    """What ``TKREForRelationClassification`` returns.

    Args:
        loss: Cross-entropy, when ``labels`` are given.
        logits: ``(batch, num_labels)``.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Means of the states that the mask keeps: ``(batch, seq_len, hidden)`` to ``(batch, hidden)``."""
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)


def relation_states(hidden: Tensor, attention_mask: Tensor, entity_spans: Tensor) -> Tensor:
    """What a relation is read from: the states of both opening entity markers, and the sentence's mean.

    Args:
        hidden: ``(batch, seq_len, hidden)``.
        attention_mask: ``(batch, seq_len)``.
        entity_spans: ``(batch, 2, 2)``, head and tail, each from its opening marker on.

    Returns:
        ``(batch, 3 * hidden)``.
    """
    index = entity_spans[..., 0].unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
    return torch.cat([hidden.gather(1, index).flatten(1), mean_pool(hidden, attention_mask)], dim=-1)


def pool_spans(hidden: Tensor, spans: Tensor) -> Tensor:
    """Mean state of each span.

    Args:
        hidden: ``(batch, seq_len, hidden)``.
        spans: ``(batch, spans, 2)``, end exclusive; an empty span (start = end) is padding.

    Returns:
        ``(batch, spans, hidden)``, zeros for an empty span.
    """
    position = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (position >= spans[..., :1]) & (position < spans[..., 1:])
    inside = inside.to(hidden.dtype)
    return (inside @ hidden) / inside.sum(-1, keepdim=True).clamp(min=1)


def unit(vectors: Tensor) -> Tensor:
    """Vectors at length one, in float32: a cosine in half precision has two digits."""
    return F.normalize(vectors.float(), dim=-1)


@dataclass(frozen=True)
class AnchorTrust:
    """How much the anchors of relations count for beside their supports: the less, the more these contradict them.

    Args:
        weight: How many supports an anchor counts for where anchors alone would tell all supports apart.
        doubt: The power of their reliability that it is multiplied by; 0 trusts them whatever the supports say.
        tau: Temperature of the anchors' judgement.
    """

    weight: float = 3.0
    doubt: float = 1.0
    tau: float = 0.05

    def __call__(self, own: Tensor, n_way: int) -> Tensor:
        """How many supports an anchor counts for.

        Args:
            own: The mean probability that anchors alone give to the supports' own relations, any shape.
            n_way: Among how many relations.

        Returns:
            Of the same shape: ``weight`` at 1, nothing at chance and below.
        """
        chance = 1 / n_way
        reliability = ((own - chance) / (1 - chance)).clamp(min=0) if n_way > 1 else torch.ones_like(own)
        return self.weight * reliability**self.doubt


def relation_prototypes(support: Tensor, anchors: Tensor | None = None, trust: AnchorTrust | None = None) -> Tensor:
    """A relation's prototype: the direction of its supports' sum, with the anchor as so many supports more.

    So an anchor decides where one support stands alone, and gives way to five; and where the anchors together take
    supports for other relations' than their own, as in a domain that was never trained on, they count for less.

    Args:
        support: Unit vectors of the supports, ``(..., n_way, k_shot, dim)``.
        anchors: Unit vectors of the relations, ``(..., n_way, dim)``.
        trust: How much they count for.

    Returns:
        ``(..., n_way, dim)``, unit length.
    """
    total = support.sum(-2)
    if anchors is None:
        return unit(total)
    trust = trust or AnchorTrust()
    logits = support @ anchors.unsqueeze(-3).transpose(-1, -2) / trust.tau
    own = logits.softmax(-1).diagonal(dim1=-3, dim2=-1).mean((-1, -2))
    return unit(total + trust(own, anchors.shape[-2])[..., None, None] * anchors)


# Where encoders keep the dense layer, the norm and the bias of their masked language modeling head.
_PRETRAINED_HEADS = (
    ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),  # BERT
    ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),  # RoBERTa
    ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),  # DistilBERT
    ("head.dense", "head.norm", "decoder.bias"),  # ModernBERT
    ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),  # ELECTRA
)


class MaskedSpanHead(nn.Module):
    """From states to the vocabulary: dense, GELU, norm, and the word embeddings themselves as the output matrix."""

    def __init__(self, config: TKREConfig) -> None:
        super().__init__()
        encoder = config.backbone_config
        # The word embeddings of ELECTRA and ALBERT are narrower than their states.
        width = getattr(encoder, "embedding_size", config.hidden_size)
        eps = getattr(encoder, "layer_norm_eps", getattr(encoder, "norm_eps", 1e-12))
        self.dense = nn.Linear(config.hidden_size, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(hidden))), embeddings, self.bias)

    def resize(self, vocab_size: int) -> None:
        bias = self.bias.data.new_zeros(vocab_size)
        bias[: len(self.bias)] = self.bias.data[:vocab_size]
        self.bias = nn.Parameter(bias)

    def load_from(self, state: dict[str, Tensor]) -> None:
        """Takes over a pre-trained masked language model's head where it has this one's shape (BERT, RoBERTa …)."""
        for dense, norm, bias in _PRETRAINED_HEADS:
            ours = {f"{dense}.weight": self.dense.weight, f"{dense}.bias": self.dense.bias, bias: self.bias}
            ours |= {f"{norm}.weight": self.norm.weight, f"{norm}.bias": self.norm.bias}
            for name, parameter in ours.items():
                if name in state and state[name].shape == parameter.shape:
                    parameter.data.copy_(state[name])


def masked_loss(logits: Tensor, labels: Tensor, num_items: Tensor | int | None) -> Tensor:
    """Cross-entropy summed over masked positions, divided by ``num_items`` or, without it, by their number."""
    total = F.cross_entropy(logits.float(), labels, reduction="sum")  # passes -100 over
    return total / (num_items if num_items is not None else (labels != -100).sum().clamp(min=1))
