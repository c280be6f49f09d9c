"""PF-HIN models: a transformer over a node's neighbourhood, and heads for pre-training and the four tasks.

This file, ``modeling_parts.py`` and ``configuration_pfhin.py`` are copied beside a saved checkpoint, so that it loads
with ``trust_remote_code=True`` where tkre_hf is not installed: they import only each other, torch and transformers.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from .configuration_pfhin import PFHINConfig
from .modeling_parts import (
    MaskedNodeHead,
    NodeEmbeddings,
    PairHead,
    PFHINClassifierOutput,
    PFHINLayer,
    PFHINLinkOutput,
    PFHINModelOutput,
    PFHINPreTrainingOutput,
)


class PFHINPreTrainedModel(PreTrainedModel):
    """What all PF-HIN models share: configuration and initialisation."""

    config: PFHINConfig
    config_class = PFHINConfig
    base_model_prefix = "pfhin"
    supports_gradient_checkpointing = False
    _supports_sdpa = True

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, NodeEmbeddings):
            nn.init.normal_(module.mask, std=std)
            if module.widen is not None:
                # So that who a node is counts from the first step for as much as what else it is read by.
                nn.init.normal_(module.widen.weight, std=module.widen.in_features**-0.5)
        elif isinstance(module, MaskedNodeHead) and module.bias is not None:
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            for name, weight in module.named_parameters():
                if name.startswith("weight"):
                    nn.init.normal_(weight, std=std)
                else:
                    nn.init.zeros_(weight)

    def get_input_embeddings(self) -> nn.Module:
        base = self if isinstance(self, PFHINModel) else self.pfhin
        assert isinstance(base, PFHINModel)
        if base.embeddings.ids is None:
            raise NotImplementedError("this model has no node embeddings")
        return base.embeddings.ids

    def get_output_embeddings(self) -> None:
        # Masked node modeling reads the node embeddings themselves: there is no second matrix to tie.
        return None


class PFHINModel(PFHINPreTrainedModel):
    """A bidirectional transformer over sequences of nodes, whose layers may share their parameters."""

    def __init__(self, config: PFHINConfig) -> None:
        super().__init__(config)
        self.embeddings = NodeEmbeddings(config)
        self.groups = nn.ModuleList(PFHINLayer(config) for _ in range(config.num_hidden_groups))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.post_init()

    def forward(
        self,
        node_types: Tensor,
        edge_types: Tensor,
        hops: Tensor,
        visits: Tensor,
        ranks: Tensor,
        degrees: Tensor,
        attention_mask: Tensor,
        node_ids: Tensor | None = None,
        features: Tensor | None = None,
        text_embeds: Tensor | None = None,
        profiles: Tensor | None = None,
        node_mask: Tensor | None = None,
        content: Tensor | None = None,
        **kwargs: Any,
    ) -> PFHINModelOutput:
        """Encodes neighbourhoods.

        Args:
            node_types: ``(batch, seq_len)``; position 0 is the node that the sequence is of.
            edge_types: Of the edge stepped over to each node, plus 1; 0 at position 0. ``(batch, seq_len)``.
            hops: Steps from position 0, ``(batch, seq_len)``.
            visits: How often walkers came by, ``(batch, seq_len)``.
            ranks: Quantiles of each node's centralities, in (0, 1], ``(batch, seq_len, 3)``.
            degrees: ``(batch, seq_len)``.
            attention_mask: ``(batch, seq_len)``, 0 at padding.
            node_ids: Rows of the node embeddings, ``(batch, seq_len)``, for a model that has them.
            features: ``(batch, seq_len, num_features)``, NaN where a node has none, for a model that reads them.
            text_embeds: ``(batch, seq_len, text_size)``, likewise.
            profiles: Logarithms of one more than each node's edges of each type, forward and reverse,
                ``(batch, seq_len, 2 · edge types)``, for a model that reads them.
            node_mask: True where who the node is and what it says are hidden, ``(batch, seq_len)``.
            content: ``(batch, seq_len, hidden)``, instead of ids, features and texts.

        Raises:
            ValueError: Something that the model reads isn't given.
        """
        if content is None:
            content = self.embeddings.content(node_ids, ranks, degrees, features, text_embeds, profiles)
        states = self.embeddings(content, node_types, edge_types, hops, visits, attention_mask, node_mask)
        mask = attention_mask.bool()[:, None, None, :]
        layers, groups = self.config.num_hidden_layers, self.config.num_hidden_groups
        for i in range(layers):
            states = self.groups[i * groups // layers](states, mask)
        states = self.norm(states)
        weight = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weight).sum(1) / weight.sum(1)
        return PFHINModelOutput(
            last_hidden_state=states, node_embeds=self.pooler(torch.cat([states[:, 0], mean], dim=-1))
        )


class PFHINForPreTraining(PFHINPreTrainedModel):
    """Masked node modeling (MNM) and adjacent node prediction (ANP)."""

    def __init__(self, config: PFHINConfig) -> None:
        super().__init__(config)
        self.pfhin = PFHINModel(config)
        self.mnm_head = MaskedNodeHead(config)
        self.anp_head = PairHead(config)
        self.post_init()

    def forward(
        self,
        node_mask: Tensor | None = None,
        labels: Tensor | None = None,
        anp_labels: Tensor | None = None,
        candidates: Tensor | None = None,
        candidate_log_q: Tensor | None = None,
        **inputs: Tensor,
    ) -> PFHINPreTrainingOutput:
        """Encodes pairs of neighbourhoods: sequence ``2 · i`` and ``2 · i + 1`` are those of the i-th pair.

        Args:
            node_mask: ``(batch, seq_len)``, as in ``PFHINModel``.
            labels: ``(batch, seq_len)``: at the positions to predict, rows of the node embeddings; for a model
                without, places among the ``candidates``. -100 elsewhere.
            anp_labels: ``(pairs,)``: 1 adjacent, 0 not, -100 where it isn't asked.
            candidates: For sampled softmax, rows of the node embeddings that stand for all, ``(types, drawn)``. For
                a model without node embeddings, where in the batch each of its nodes stands first, ``row · seq_len +
                column``, ``(nodes,)``: it tells hidden nodes from the others of the batch.
            candidate_log_q: Logarithms of how often each is expected to be drawn, ``(types, drawn)``.
            **inputs: Of ``PFHINModel``.
        """
        config = self.config
        embeddings = self.pfhin.embeddings
        content = embeddings.content(
            inputs.get("node_ids"),
            inputs["ranks"],
            inputs["degrees"],
            inputs.get("features"),
            inputs.get("text_embeds"),
            inputs.get("profiles"),
        )
        outputs = self.pfhin(**inputs, content=content, node_mask=node_mask)
        loss = mnm_loss = anp_loss = None
        if labels is not None and config.lambda_mnm:
            asked = labels != -100
            node_types = inputs["node_types"][asked]
            each = self._masked_node_losses(
                outputs.last_hidden_state[asked],
                labels[asked],
                node_types,
                content,
                inputs,
                candidates,
                candidate_log_q,
            )
            per_sequence = asked.sum(1).clamp(min=1).to(each.dtype)
            row = asked.nonzero()[:, 0]
            mnm_loss = (each / per_sequence[row]).sum() / len(labels)
            loss = config.lambda_mnm * mnm_loss
        logits = self.anp_head(outputs.node_embeds[0::2], outputs.node_embeds[1::2])
        if anp_labels is not None and config.lambda_anp:
            asked = anp_labels != -100
            wrong = F.binary_cross_entropy_with_logits(
                logits.float(), anp_labels.clamp(min=0).to(torch.float32), reduction="none"
            )
            # Over all pairs, asked or not: so that the parts of a batch weigh as much as they are large.
            anp_loss = (wrong * asked).sum() / len(anp_labels)
            loss = config.lambda_anp * anp_loss + (loss if loss is not None else 0.0)
        return PFHINPreTrainingOutput(
            loss=loss, mnm_loss=mnm_loss, anp_loss=anp_loss, anp_logits=logits, node_embeds=outputs.node_embeds
        )

    def _masked_node_losses(
        self,
        states: Tensor,
        targets: Tensor,
        node_types: Tensor,
        content: Tensor,
        inputs: dict[str, Tensor],
        candidates: Tensor | None,
        log_q: Tensor | None,
    ) -> Tensor:
        """Each masked node's loss, ``(masked,)``: type by type, so that a softmax is over the nodes of its type."""
        queries = self.mnm_head.queries(states)
        losses = queries.new_zeros(len(targets), dtype=torch.float32)
        offsets = [0, *accumulate(self.config.nodes_per_type)]
        ids, bias = self.pfhin.embeddings.ids, self.mnm_head.bias
        for kind in node_types.unique().tolist():
            mine = (node_types == kind).nonzero()[:, 0]
            query, target = queries[mine], targets[mine]
            if ids is None or bias is None:
                if candidates is None:
                    raise ValueError("candidates are needed: this model has no node embeddings")
                # By what the batch's nodes of that type are known by, wherever they stand.
                own = (inputs["node_types"].flatten()[candidates] == kind).nonzero()[:, 0]
                known = content.flatten(0, 1)[candidates[own]].to(query.dtype)
                logits = query @ known.T / query.shape[1] ** 0.5
                each = self.mnm_head.loss(logits, torch.searchsorted(own, target))
            elif candidates is None or log_q is None:
                low, high = offsets[kind], offsets[kind + 1]
                logits = query @ ids.weight[low:high].to(query.dtype).T + bias[low:high]
                each = self.mnm_head.loss(logits, target - low)
            else:
                each = self._sampled(query, target, candidates[kind], log_q[kind])
            losses = losses.index_put((mine,), each)
        return losses

    def _sampled(self, query: Tensor, target: Tensor, drawn: Tensor, log_q: Tensor) -> Tensor:
        """Losses with sampled candidates: the true node, and those drawn but for the true one among them.

        A drawn one's logit is lowered by the logarithm of how often it is expected to be drawn, so that their sum is
        in expectation that over all nodes (Bengio and Senécal, 2008).
        """
        ids, bias = self.pfhin.embeddings.ids, self.mnm_head.bias
        assert ids is not None and bias is not None
        true = (query * ids(target).to(query.dtype)).sum(-1) + bias[target]
        others = (query @ ids(drawn).to(query.dtype).T + bias[drawn]).float() - log_q
        others = others.masked_fill(drawn == target.unsqueeze(-1), float("-inf"))
        # A sampled softmax has no uniform part to smooth with: it would smooth with the sample's.
        return torch.logsumexp(torch.cat([true.float().unsqueeze(-1), others], dim=-1), dim=-1) - true.float()


class PFHINForNodeClassification(PFHINPreTrainedModel):
    """Which class the node is of that a sequence begins with."""

    def __init__(self, config: PFHINConfig) -> None:
        super().__init__(config)
        self.pfhin = PFHINModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        labels: int = config.num_labels or 0
        self.classifier = nn.Linear(config.hidden_size, labels)
        self.post_init()

    def forward(self, labels: Tensor | None = None, **inputs: Tensor) -> PFHINClassifierOutput:
        """Classifies ``(batch, seq_len)`` inputs of ``PFHINModel``; ``labels`` are ``(batch,)``."""
        embeds = self.pfhin(**inputs).node_embeds
        logits = self.classifier(self.dropout(F.gelu(embeds)))
        loss = F.cross_entropy(logits.float(), labels) if labels is not None else None
        return PFHINClassifierOutput(loss=loss, logits=logits, node_embeds=embeds)


class PFHINForLinkPrediction(PFHINPreTrainedModel):
    """Whether an edge of a type leads from one node to another."""

    def __init__(self, config: PFHINConfig) -> None:
        super().__init__(config)
        self.pfhin = PFHINModel(config)
        self.link_head = PairHead(config, kinds=len(config.edge_types))
        self.post_init()

    def forward(self, link_types: Tensor, labels: Tensor | None = None, **inputs: Tensor) -> PFHINLinkOutput:
        """Judges pairs: sequences ``2 · i`` and ``2 · i + 1`` are head and tail of the i-th.

        Args:
            link_types: The edge type that is asked about, ``(pairs,)``.
            labels: 1 true, 0 false, ``(pairs,)``.
            **inputs: Of ``PFHINModel``, ``(2 · pairs, seq_len)``.
        """
        embeds = self.pfhin(**inputs).node_embeds
        logits = self.link_head(embeds[0::2], embeds[1::2], link_types)
        loss = None
        if labels is not None:
            loss = F.binary_cross_entropy_with_logits(logits.float(), labels.to(torch.float32))
        return PFHINLinkOutput(loss=loss, logits=logits, node_embeds=embeds)


class PFHINForNodeEmbedding(PFHINPreTrainedModel):
    """Node embeddings for similarity search and clustering."""

    def __init__(self, config: PFHINConfig) -> None:
        super().__init__(config)
        self.pfhin = PFHINModel(config)
        self.post_init()

    def forward(self, **inputs: Tensor) -> PFHINModelOutput:
        """Embeds: inputs as of ``PFHINModel``; ``node_embeds`` have length one, ``(batch, hidden)``."""
        outputs = self.pfhin(**inputs)
        return PFHINModelOutput(
            last_hidden_state=outputs.last_hidden_state, node_embeds=F.normalize(outputs.node_embeds.float(), dim=-1)
        )


# So that save_pretrained writes these files beside the weights.
PFHINModel.register_for_auto_class("AutoModel")
PFHINForPreTraining.register_for_auto_class("AutoModelForPreTraining")
for _head in (PFHINForNodeClassification, PFHINForLinkPrediction, PFHINForNodeEmbedding):
    # No Auto class has their task, so the map's key is their own name.
    setattr(_head, "_auto_class", _head.__name__)  # noqa: B010
