"""What PF-HIN's models are put together from: outputs, what a node is read by, layers, and the objectives' heads.

Copied beside a saved checkpoint, as ``modeling_pfhin.py`` is.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.utils.generic import ModelOutput

from .configuration_pfhin import PFHINConfig

# Bins of how often a node was visited, and of its degree: powers of two.
VISIT_BINS, DEGREE_BINS = 8, 24


@dataclass
class PFHINModelOutput(ModelOutput):
    """What ``PFHINModel`` returns.

    Args:
        last_hidden_state: ``(batch, seq_len, hidden)``.
        node_embeds: Of the node that each sequence begins with, ``(batch, hidden)``.
    """

    last_hidden_state: Tensor | None = None
    node_embeds: Tensor | None = None


@dataclass
class PFHINPreTrainingOutput(ModelOutput):
    """What ``PFHINForPreTraining`` returns.

    Args:
        loss: λ_MNM · MNM + λ_ANP · ANP, where labels are given.
        mnm_loss: Masked node modeling, the mean over sequences of their masked nodes' mean.
        anp_loss: Adjacent node prediction, the mean over pairs.
        anp_logits: ``(pairs,)``: above 0 where the two nodes are held to be adjacent.
        node_embeds: ``(batch, hidden)``.
    """

    loss: Tensor | None = None
    mnm_loss: Tensor | None = None
    anp_loss: Tensor | None = None
    anp_logits: Tensor | None = None
    node_embeds: Tensor | None = None


@dataclass
class PFHINClassifierOutput(ModelOutput):
    """What ``PFHINForNodeClassification`` returns.

    Args:
        loss: Cross-entropy, where ``labels`` are given.
        logits: ``(batch, num_labels)``.
        node_embeds: ``(batch, hidden)``.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    node_embeds: Tensor | None = None


@dataclass
class PFHINLinkOutput(ModelOutput):
    """What ``PFHINForLinkPrediction`` returns.

    Args:
        loss: Binary cross-entropy, where ``labels`` are given.
        logits: ``(pairs,)``.
        node_embeds: Of heads, then tails, ``(2 · pairs, hidden)``.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    node_embeds: Tensor | None = None


class NodeEmbeddings(nn.Module):
    """What a position is read by: who it is and what it says (hidden where masked), its type, and where it stands."""

    def __init__(self, config: PFHINConfig) -> None:
        super().__init__()
        hidden, size = config.hidden_size, config.embedding_size or config.hidden_size
        self.config = config
        self.ids = nn.Embedding(config.num_nodes, size) if config.num_nodes else None
        # V x E, then E x H: the factorized embedding parameterization.
        self.widen = nn.Linear(size, hidden, bias=False) if config.num_nodes and size != hidden else None
        self.features = nn.Linear(config.num_features, hidden) if config.num_features else None
        self.text = nn.Linear(config.text_size, hidden) if config.text_size else None
        self.profile = nn.Linear(2 * len(config.edge_types), hidden, bias=False) if config.profile else None
        self.mask = nn.Parameter(torch.zeros(hidden))
        self.node_type = nn.Embedding(len(config.node_types), hidden)
        if config.structure:
            # 0 is the start, which no edge led to; then the edge types, then their reverses.
            self.edge_type = nn.Embedding(1 + 2 * len(config.edge_types), hidden)
            self.hops = nn.Embedding(config.max_hops + 1, hidden)
            # What tells who a node is, and is hidden with it: its rank, one table for each centrality, and its degree.
            self.rank = nn.Embedding(3 * config.rank_bins, hidden)
            self.degree = nn.Embedding(DEGREE_BINS, hidden)
            self.visits = nn.Embedding(VISIT_BINS, hidden)
        self.aggregate = Aggregation(config)
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def content(
        self,
        node_ids: Tensor | None,
        ranks: Tensor,
        degrees: Tensor,
        features: Tensor | None = None,
        text_embeds: Tensor | None = None,
        profiles: Tensor | None = None,
    ) -> Tensor:
        """What a node is known by, wherever it stands: ``(..., hidden)``; arguments as in ``PFHINModel.forward``."""
        bins = self.config.rank_bins
        content: Tensor = self.mask.new_zeros(())
        if self.config.structure:
            binned = (ranks * bins).long().clamp(0, bins - 1) + bins * torch.arange(3, device=ranks.device)
            content = self.rank(binned).sum(-2) + self.degree(log_bins(degrees, DEGREE_BINS))
        if self.ids is not None:
            if node_ids is None:
                raise ValueError("node_ids are needed: this model has node embeddings")
            ids = self.ids(node_ids.clamp(min=0))
            content = content + (ids if self.widen is None else self.widen(ids))
        for name, layer, given in (
            ("features", self.features, features),
            ("text_embeds", self.text, text_embeds),
            ("profiles", self.profile, profiles),
        ):
            if layer is not None:
                if given is None:
                    raise ValueError(f"{name} are needed: this model reads them")
                # NaN where a node has none.
                known = ~given.isnan().any(-1, keepdim=True)
                content = content + layer(given.nan_to_num()) * known
        return content

    def forward(
        self,
        content: Tensor,
        node_types: Tensor,
        edge_types: Tensor,
        hops: Tensor,
        visits: Tensor,
        attention_mask: Tensor,
        node_mask: Tensor | None = None,
    ) -> Tensor:
        if node_mask is not None:
            content = torch.where(node_mask.unsqueeze(-1), self.mask.to(content.dtype), content)
        states = content + self.node_type(node_types)
        if self.config.structure:
            states = (
                states
                + self.edge_type(edge_types)
                + self.hops(hops.clamp(max=self.config.max_hops))
                + self.visits(log_bins(visits, VISIT_BINS))
            )
        return self.dropout(self.norm(states + self.aggregate(states, node_types, attention_mask)))


def log_bins(counts: Tensor, bins: int) -> Tensor:
    """Counts as the number of their binary digits, at most ``bins - 1``."""
    return (counts.clamp(min=0).double() + 0.5).log2().floor().add(1).clamp(0, bins - 1).long()


class Aggregation(nn.Module):
    """Lets nodes of one type, which stand together, read each other: by a Bi-LSTM, by their mean, or not at all.

    The start stands for itself, whatever its type.
    """

    def __init__(self, config: PFHINConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.kind = config.aggregation
        if self.kind == "bilstm":
            self.lstm = nn.LSTM(hidden, hidden // 2, batch_first=True, bidirectional=True)
        elif self.kind == "mean":
            self.dense = nn.Linear(hidden, hidden)

    def forward(self, states: Tensor, node_types: Tensor, attention_mask: Tensor) -> Tensor:
        if self.kind == "none":
            return torch.zeros_like(states)
        valid = attention_mask.bool()
        # A group begins where the type changes, after the start, and with each sequence.
        begins = torch.ones_like(node_types, dtype=torch.bool)
        begins[:, 2:] = node_types[:, 2:] != node_types[:, 1:-1]
        group = begins[valid].cumsum(0) - 1
        flat = states[valid]
        lengths = group.bincount()
        if self.kind == "mean":
            total = flat.new_zeros(len(lengths), flat.shape[1]).index_add(0, group, flat)
            read = self.dense(total / lengths.unsqueeze(-1).to(total.dtype))[group]
        else:
            position = torch.arange(len(group), device=group.device) - (lengths.cumsum(0) - lengths)[group]
            padded = flat.new_zeros(len(lengths), int(lengths.max()), flat.shape[1])
            padded = padded.index_put((group, position), flat)
            packed = pack_padded_sequence(padded, lengths.cpu(), batch_first=True, enforce_sorted=False)
            outputs, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
            read = outputs[group, position]
        return torch.zeros_like(states, dtype=read.dtype).masked_scatter(valid.unsqueeze(-1), read)


class PFHINLayer(nn.Module):
    """One transformer layer; it normalizes before attention and before the feed-forward part."""

    def __init__(self, config: PFHINConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads, self.attention_dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        self.attention_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attention_out = nn.Linear(hidden, hidden)
        self.feed_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.feed_in = nn.Linear(hidden, config.intermediate_size)
        self.feed_out = nn.Linear(config.intermediate_size, hidden)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """States ``(batch, seq_len, hidden)``, and which positions may be read, ``(batch, 1, 1, seq_len)``."""
        batch, length, hidden = states.shape
        qkv = self.qkv(self.attention_norm(states)).view(batch, length, 3, self.heads, hidden // self.heads)
        dropout = self.attention_dropout if self.training else 0.0
        # On short sequences a CPU's fused attention takes longer in bfloat16 than in float32.
        slow = qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16
        with torch.autocast("cpu", enabled=False) if slow else nullcontext():
            query, key, value = (qkv.float() if slow else qkv).permute(2, 0, 3, 1, 4)
            read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        states = states + self.dropout(self.attention_out(read.transpose(1, 2).reshape(batch, length, hidden)))
        return states + self.dropout(self.feed_out(F.gelu(self.feed_in(self.feed_norm(states)))))


class MaskedNodeHead(nn.Module):
    """Who is hidden: a state against the nodes of its type, through the node embeddings' own matrices."""

    def __init__(self, config: PFHINConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.smoothing = config.label_smoothing
        size = (config.embedding_size or hidden) if config.num_nodes else hidden
        self.dense = nn.Linear(hidden, size)
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.num_nodes)) if config.num_nodes else None

    def queries(self, states: Tensor) -> Tensor:
        """What is compared with the candidates, ``(masked, E)``."""
        return self.norm(F.gelu(self.dense(states)))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each masked node's cross-entropy, ``(masked,)``, of logits ``(masked, candidates)``."""
        return F.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=self.smoothing)


class PairHead(nn.Module):
    """Whether a pair of nodes belongs together: of their embeddings, their product and their difference.

    With ``kinds`` there is a head for each edge type, whose first layer they share, and each knows head from tail.
    """

    def __init__(self, config: PFHINConfig, kinds: int = 0) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.directed = kinds > 0
        self.dense = nn.Linear((4 if self.directed else 3) * hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.classifier_dropout if self.directed else config.hidden_dropout_prob)
        self.out = nn.Linear(hidden, max(kinds, 1))

    def forward(self, first: Tensor, second: Tensor, kind: Tensor | None = None) -> Tensor:
        """Logits ``(pairs,)`` of embeddings ``(pairs, hidden)`` and edge types ``(pairs,)``."""
        ends = [first, second] if self.directed else [first + second]
        read = self.dense(torch.cat([*ends, first * second, (first - second).abs()], dim=-1))
        logits = self.out(self.dropout(F.gelu(self.norm(read))))
        if kind is None:
            return logits[..., 0]
        return logits.gather(-1, kind.unsqueeze(-1)).squeeze(-1)
