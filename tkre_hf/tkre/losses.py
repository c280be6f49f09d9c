"""Stage 2's contrastive losses, over the embeddings of the whole global batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather  # the differentiable one

# What a span is to its sentence's relation. IRRELEVANT spans are negatives only; PADDING counts nowhere.
POSITIVE, IRRELEVANT, PADDING = range(3)


def gather(tensor: Tensor) -> Tensor:
    """Concatenates a tensor over all processes, letting gradients back to each; first dimensions may differ.

    Every process then computes the same global loss. A gathered tensor's gradient is summed over the processes, and
    the gradients of their parameters are averaged, so what each process ends with is the global loss's own gradient.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return tensor
    lengths = [torch.zeros(1, dtype=torch.long, device=tensor.device) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, torch.tensor([len(tensor)], device=tensor.device))
    missing = max(int(length) for length in lengths) - len(tensor)
    padded = torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])]).contiguous()
    if tensor.requires_grad:
        parts = list(all_gather(padded))
    else:
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
    return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])


def relation_contrastive_loss(
    relation: Tensor, labels: Tensor, anchors: Tensor, anchor_labels: Tensor, tau: float
) -> Tensor:
    """Supervised contrastive loss over sentences and anchors (Khosla et al. 2020, equation 2; anchors are views).

    Each sentence's relation representation and each anchor is a query; its positives are the other members of its
    relation, its negatives all members of other relations.

    Args:
        relation: Unit vectors, ``(sentences, dim)``.
        labels: ``(sentences,)``.
        anchors: Unit vectors, ``(relations, dim)``.
        anchor_labels: ``(relations,)``.
        tau: Temperature.

    Returns:
        The mean over queries that have a positive; 0 if none has.
    """
    vectors, label = torch.cat([relation, anchors]), torch.cat([labels, anchor_labels])
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    logits = (vectors @ vectors.T / tau).masked_fill(itself, float("-inf"))
    log_prob = logits - logits.logsumexp(1, keepdim=True)
    positive = (label[:, None] == label) & ~itself
    count = positive.sum(1)
    per_query = -log_prob.masked_fill(~positive, 0.0).sum(1) / count.clamp(min=1)
    return per_query.sum() / (count > 0).sum().clamp(min=1)


def span_contrastive_loss(
    spans: Tensor, span_labels: Tensor, kinds: Tensor, anchors: Tensor, anchor_labels: Tensor, tau: float
) -> Tensor:
    """InfoNCE between a relation's anchor and its cue and entity spans (TKRE, span-level contrastive learning).

    For an anchor and one of its relation's spans, the negatives are the irrelevant spans of that relation's own
    sentences, and the cue and entity spans of every other relation in the batch. Other spans of the same relation
    are neither.

    Args:
        spans: Unit vectors, ``(spans, dim)``.
        span_labels: ``(spans,)``, the relation of each span's sentence.
        kinds: ``(spans,)``: ``POSITIVE`` (cue, entity), ``IRRELEVANT`` or ``PADDING``.
        anchors: Unit vectors, ``(relations, dim)``.
        anchor_labels: ``(relations,)``.
        tau: Temperature.

    Returns:
        The mean over (anchor, positive span) pairs; 0 if there are none.
    """
    same = anchor_labels[:, None] == span_labels
    positive = same & (kinds == POSITIVE)
    negative = (same & (kinds == IRRELEVANT)) | (~same & (kinds == POSITIVE))
    similarity = anchors @ spans.T / tau
    # The lowest finite number rather than -inf: an anchor without negatives must not turn gradients into NaN.
    lowest = torch.finfo(similarity.dtype).min
    negatives = similarity.masked_fill(~negative, lowest).logsumexp(1, keepdim=True)
    per_pair = torch.logaddexp(similarity, negatives) - similarity
    return per_pair.masked_fill(~positive, 0.0).sum() / positive.sum().clamp(min=1)
