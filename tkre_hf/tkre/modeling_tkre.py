"""TKRE models: an encoder that reads entity markers, and heads for its two pre-training stages and few-shot use.

This file, ``modeling_parts.py`` and ``configuration_tkre.py`` are copied beside a saved checkpoint, so that it loads
with ``trust_remote_code=True`` where tkre_hf is not installed: they import only each other, torch and transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from .configuration_tkre import TKREConfig
from .modeling_parts import (
    AnchorTrust,
    MaskedSpanHead,
    TKREFewShotOutput,
    TKREMaskedSpanLMOutput,
    TKREModelOutput,
    TKREPreTrainingOutput,
    masked_loss,
    mean_pool,
    pool_spans,
    relation_states,
    unit,
)

_MASKED_ROWS = 128


class TKREPreTrainedModel(PreTrainedModel):
    """What all TKRE models share: configuration, initialisation, and where the word embeddings are."""

    config_class = TKREConfig
    base_model_prefix = "tkre"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flash_attn_2 = True

    def _init_weights(self, module: nn.Module) -> None:
        std = getattr(self.config.backbone_config, "initializer_range", 0.02)
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, MaskedSpanHead):
            nn.init.zeros_(module.bias)

    @property
    def base(self) -> TKREModel:
        """The ``TKREModel`` inside."""
        model = self if isinstance(self, TKREModel) else self.tkre
        assert isinstance(model, TKREModel)
        return model

    def get_input_embeddings(self) -> nn.Embedding:
        embeddings: nn.Embedding = self.base.encoder.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base.encoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> None:
        # The vocabulary's head reads the word embeddings themselves: there is no second matrix to tie.
        return None

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        embeddings: nn.Embedding = self.base.encoder.resize_token_embeddings(new_num_tokens, *args, **kwargs)
        self.config.backbone_config.vocab_size = self.config.vocab_size = embeddings.num_embeddings
        head = getattr(self, "lm_head", None)
        if head is not None:
            head.resize(embeddings.num_embeddings)
        return embeddings

    @classmethod
    def from_backbone(
        cls,
        backbone: str,
        vocab_size: int | None = None,
        new_tokens: dict[int, list[int]] | None = None,
        backbone_kwargs: dict[str, Any] | None = None,
        **config: Any,
    ) -> Self:
        """Starts a TKRE model from any pre-trained encoder.

        Args:
            backbone: Folder or Hub id that ``AutoModel`` loads.
            vocab_size: The tokenizer's size once markers are added; the embeddings grow to it.
            new_tokens: For each added token, the older tokens whose mean embedding it starts from
                (``TKREProcessor.new_tokens``).
            backbone_kwargs: Further arguments of the encoder's ``from_pretrained``, such as ``revision``.
            **config: Settings of ``TKREConfig``.
        """
        options = backbone_kwargs or {}
        with _quiet():
            encoder = AutoModel.from_pretrained(backbone, **options)
        # Or the saved configuration would tell where on this machine it lay.
        encoder.config.name_or_path = ""
        model = cls(TKREConfig(backbone_config=encoder.config, **config))
        # The encoder inside has no pooler, and the one loaded may have: what both have is taken, and no less.
        missing, _ = model.base.encoder.load_state_dict(encoder.state_dict(), strict=False)
        if missing:
            raise ValueError(f"the backbone {backbone} lacks the weights {', '.join(missing)}")
        model.base.reset_projections()
        head = getattr(model, "lm_head", None)
        if head is not None and type(encoder.config) in MODEL_FOR_MASKED_LM_MAPPING:
            with _quiet():
                masked_lm, report = AutoModelForMaskedLM.from_pretrained(backbone, output_loading_info=True, **options)
            # A head that the checkpoint lacks comes out random: ours is that already.
            absent = set(report["missing_keys"])
            head.load_from({key: value for key, value in masked_lm.state_dict().items() if key not in absent})
        if vocab_size is not None and vocab_size > model.config.vocab_size:
            model.resize_token_embeddings(vocab_size, mean_resizing=False)
        weight = model.get_input_embeddings().weight.detach()
        for token, sources in (new_tokens or {}).items():
            weight[token] = weight[sources].mean(0)
        return model

    def save_backbone(self, save_directory: str, **kwargs: Any) -> None:
        """Writes the plain encoder, which ``AutoModel`` loads with neither tkre_hf nor remote code."""
        self.base.encoder.save_pretrained(save_directory, **kwargs)


class TKREModel(TKREPreTrainedModel):
    """An encoder, and the space that its relations, spans and relation descriptions are compared in."""

    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]

    def __init__(self, config: TKREConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.backbone_config, **_without_pooler(config.backbone_config))
        hidden, dim = config.hidden_size, config.projection_dim
        self.relation_projection = nn.Linear(3 * hidden, dim)
        self.span_projection = nn.Linear(hidden, dim)
        self.anchor_projection = nn.Linear(hidden, dim)
        self.learned_anchors = nn.Embedding(config.num_learned_anchors, dim) if config.num_learned_anchors else None
        self.post_init()

    @torch.no_grad()
    def reset_projections(self) -> None:
        """Lets relations, spans and anchors start from the backbone's own similarity of mean states.

        All three are turned alike: a sentence lies near its relation's description before any training, as far as
        the backbone itself sees that they are alike. The entity markers, which it has never seen, count for little.
        """
        hidden, dim = self.config.hidden_size, self.config.projection_dim
        turn = torch.eye(hidden) if dim == hidden else nn.init.orthogonal_(torch.empty(dim, hidden))
        for projection in (self.relation_projection, self.span_projection, self.anchor_projection):
            projection.weight[:, -hidden:] = turn.to(projection.weight)
            projection.bias.zero_()

    @torch.no_grad()
    def turn(self, matrix: Tensor) -> None:
        """Maps the space that relations, spans and anchors are compared in.

        Args:
            matrix: ``(projection_dim, projection_dim)``; a vector ``v`` becomes the direction of ``matrix @ v``.
        """
        for projection in (self.relation_projection, self.span_projection, self.anchor_projection):
            turn = matrix.to(projection.weight)
            projection.weight.copy_(turn @ projection.weight)
            projection.bias.copy_(turn @ projection.bias)
        if self.learned_anchors is not None:
            weight = self.learned_anchors.weight
            weight.copy_(weight @ matrix.to(weight).T)

    def encode(self, input_ids: Tensor | None, attention_mask: Tensor | None, **kwargs: Any) -> Tensor:
        """The encoder's last states, ``(batch, seq_len, hidden)``."""
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state

    def relation_embeds(self, hidden: Tensor, attention_mask: Tensor, entity_spans: Tensor) -> Tensor:
        """Relation representations: both entity-marker states and the sentence's mean, projected.

        Args:
            hidden: ``(batch, seq_len, hidden)``.
            attention_mask: ``(batch, seq_len)``.
            entity_spans: ``(batch, 2, 2)``: head and tail, each ``[start, end)`` with its markers, so that ``start``
                is the opening marker.

        Returns:
            ``(batch, projection_dim)``, unit length.
        """
        return unit(self.relation_projection(relation_states(hidden, attention_mask, entity_spans)))

    def anchor_embeds(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Anchors of relation names and descriptions, ``(relations, projection_dim)``, unit length."""
        return unit(self.anchor_projection(mean_pool(hidden, attention_mask)))

    def span_embeds(self, hidden: Tensor, spans: Tensor) -> Tensor:
        """Spans ``(batch, spans, 2)`` as ``(batch, spans, projection_dim)``, unit length, zeros where empty."""
        valid = (spans[..., 1] > spans[..., 0]).unsqueeze(-1)
        return unit(self.span_projection(pool_spans(hidden, spans))) * valid

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        entity_spans: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> TKREModelOutput:
        """Encodes sentences with marked entities, or, without ``entity_spans``, relation descriptions.

        Args:
            input_ids: ``(batch, seq_len)``.
            attention_mask: ``(batch, seq_len)``; all ones by default.
            entity_spans: ``(batch, 2, 2)``, as ``TKREProcessor`` gives them.
            inputs_embeds: ``(batch, seq_len, hidden)``, instead of ``input_ids``.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("give either input_ids or inputs_embeds")
        if attention_mask is None:
            attention_mask = torch.ones(given.shape[:2], dtype=torch.long, device=given.device)
        hidden = self.encode(input_ids, attention_mask, inputs_embeds=inputs_embeds, **encoder_kwargs(kwargs))
        if entity_spans is None:
            return TKREModelOutput(last_hidden_state=hidden, anchor_embeds=self.anchor_embeds(hidden, attention_mask))
        relation_embeds = self.relation_embeds(hidden, attention_mask, entity_spans)
        return TKREModelOutput(last_hidden_state=hidden, relation_embeds=relation_embeds)


class TKREForMaskedSpanLM(TKREPreTrainedModel):
    """Stage 1: masked span language modeling (TKRE, section on MSLM)."""

    def __init__(self, config: TKREConfig) -> None:
        super().__init__(config)
        self.tkre = TKREModel(config)
        self.lm_head = MaskedSpanHead(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> TKREMaskedSpanLMOutput:
        """Predicts masked tokens.

        Args:
            input_ids: ``(batch, seq_len)``, masked.
            attention_mask: ``(batch, seq_len)``.
            labels: ``(batch, seq_len)``; the token at a masked position, -100 elsewhere.
            num_items_in_batch: The number of labels that the loss is averaged over, where a step is spread over
                several batches or processes; this batch's own by default.
        """
        hidden = self.tkre.encode(input_ids, attention_mask, **encoder_kwargs(kwargs))
        if labels is None:
            return TKREMaskedSpanLMOutput(logits=self._logits(hidden), last_hidden_state=hidden)
        if self.config.sparse_prediction:
            logits, loss = self._sparse_prediction(hidden, labels, num_items_in_batch)
        else:
            logits = self._logits(hidden)
            loss = masked_loss(logits.flatten(0, 1), labels.flatten(), num_items_in_batch)
        return TKREMaskedSpanLMOutput(loss=loss, logits=logits, last_hidden_state=hidden)

    def _sparse_prediction(
        self, hidden: Tensor, labels: Tensor, num_items: Tensor | int | None
    ) -> tuple[Tensor, Tensor]:
        """Logits at the masked positions alone, ``(masked, vocab)``, and the loss there.

        Rows are filled up to a multiple of ``_MASKED_ROWS``: every other number of them would be a shape of its own,
        and on the CPU each shape has its matrix multiplications compiled and kept (gigabytes in an epoch).
        """
        masked = labels != -100
        states, targets = hidden[masked], labels[masked]
        count = len(targets)
        logits = self._logits(F.pad(states, (0, 0, 0, -count % _MASKED_ROWS)))
        loss = masked_loss(logits, F.pad(targets, (0, -count % _MASKED_ROWS), value=-100), num_items)
        return logits[:count], loss

    def _logits(self, hidden: Tensor) -> Tensor:
        embeddings = self.get_input_embeddings()
        unshard: Any = getattr(embeddings, "unshard", None)
        if unshard is not None:
            # Under FSDP they were given back after the encoder had read them.
            unshard()
        return self.lm_head(hidden, embeddings.weight)


class TKREForPreTraining(TKREForMaskedSpanLM):
    """Stage 2: masked span language modeling and span-level contrastive learning over one encoder.

    Gives the embeddings that ``losses.relation_contrastive_loss`` compares across all processes, and the MSLM loss.
    """

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        entity_spans: Tensor,
        spans: Tensor | None = None,
        anchor_input_ids: Tensor | None = None,
        anchor_attention_mask: Tensor | None = None,
        anchor_ids: Tensor | None = None,
        mslm_input_ids: Tensor | None = None,
        mslm_labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> TKREPreTrainingOutput:
        """Embeds sentences, their spans and their relations' anchors.

        Args:
            input_ids: Unmasked sentences, ``(batch, seq_len)``.
            attention_mask: ``(batch, seq_len)``.
            entity_spans: ``(batch, 2, 2)``.
            spans: Cue, entity and irrelevant spans, ``(batch, spans, 2)``; empty ones are padding.
            anchor_input_ids: The batch's relations' names and descriptions, ``(relations, anchor_len)``.
            anchor_attention_mask: ``(relations, anchor_len)``.
            anchor_ids: ``(relations,)``, rows of the learned anchors, where the configuration has them.
            mslm_input_ids: The same sentences with spans masked, ``(batch, seq_len)``.
            mslm_labels: ``(batch, seq_len)``, -100 where nothing is masked.
            num_items_in_batch: As in ``TKREForMaskedSpanLM``.
        """
        model = self.tkre
        hidden = model.encode(input_ids, attention_mask)
        anchors = None
        if model.learned_anchors is not None and anchor_ids is not None:
            anchors = unit(model.learned_anchors(anchor_ids))
        elif anchor_input_ids is not None and anchor_attention_mask is not None:
            anchor_hidden = model.encode(anchor_input_ids, anchor_attention_mask)
            anchors = model.anchor_embeds(anchor_hidden, anchor_attention_mask)
        loss = None
        if mslm_input_ids is not None and mslm_labels is not None:
            masked_hidden = model.encode(mslm_input_ids, attention_mask)
            _, loss = self._sparse_prediction(masked_hidden, mslm_labels, num_items_in_batch)
        return TKREPreTrainingOutput(
            loss=loss,
            relation_embeds=model.relation_embeds(hidden, attention_mask, entity_spans),
            span_embeds=model.span_embeds(hidden, spans) if spans is not None else None,
            anchor_embeds=anchors,
        )


class TKREForFewShotClassification(TKREPreTrainedModel):
    """Few-shot and zero-shot use: queries against prototypes of supports and relation descriptions, by cosine."""

    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]

    def __init__(self, config: TKREConfig) -> None:
        super().__init__(config)
        self.tkre = TKREModel(config)
        self.post_init()

    def prototypes(
        self,
        support_embeds: Tensor | None = None,
        support_labels: Tensor | None = None,
        anchor_embeds: Tensor | None = None,
    ) -> Tensor:
        """Prototypes of the relations at hand.

        Args:
            support_embeds: ``(supports, projection_dim)``; none for zero-shot use.
            support_labels: ``(supports,)``, from 0 to n_way - 1; every relation needs one unless there are anchors.
            anchor_embeds: ``(n_way, projection_dim)``.

        Returns:
            ``(n_way, projection_dim)``, unit length.

        Raises:
            ValueError: There are neither supports nor anchors, or a relation has neither.
        """
        if support_embeds is None or support_labels is None:
            if anchor_embeds is None:
                raise ValueError("a relation needs supports, a description, or both; found neither")
            return unit(anchor_embeds)
        n_way = len(anchor_embeds) if anchor_embeds is not None else int(support_labels.max()) + 1
        member = F.one_hot(support_labels, n_way).T.to(support_embeds.dtype)
        if anchor_embeds is None and not bool(member.any(1).all()):
            raise ValueError(f"relation {int((~member.any(1)).nonzero()[0])} has neither a support nor a description")
        # As relation_prototypes, for relations that may differ in how many supports they have.
        total = member @ support_embeds
        if anchor_embeds is None:
            return unit(total)
        judged = (support_embeds @ anchor_embeds.T / self.config.tau).softmax(-1)
        own = judged.gather(1, support_labels[:, None]).mean()
        trust = AnchorTrust(self.config.anchor_weight, self.config.anchor_doubt, self.config.tau)
        # A relation without a support has nothing else to go by.
        weight = torch.where(member.any(1), trust(own, n_way), 1.0)
        return unit(total + weight[:, None] * anchor_embeds)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        entity_spans: Tensor | None = None,
        prototypes: Tensor | None = None,
        support_input_ids: Tensor | None = None,
        support_attention_mask: Tensor | None = None,
        support_entity_spans: Tensor | None = None,
        support_labels: Tensor | None = None,
        anchor_input_ids: Tensor | None = None,
        anchor_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TKREFewShotOutput:
        """Scores queries against the relations of one episode.

        Args:
            input_ids: The queries, ``(queries, seq_len)``; ``attention_mask`` and ``entity_spans`` (required)
                belong to them.
            prototypes: ``(n_way, projection_dim)`` from an earlier call, instead of supports and anchors.
            support_input_ids: ``(supports, support_len)``; mask, spans and labels belong to them.
            anchor_input_ids: Names and descriptions, ``(n_way, anchor_len)``.
            labels: ``(queries,)``, from 0 to n_way - 1, or n_way (with a calibrated ``na_threshold``) for none of
                the above.
        """
        if entity_spans is None:
            raise ValueError("entity_spans are needed: the head's and the tail's place in each query")
        embeds = self.tkre(input_ids, attention_mask, entity_spans).relation_embeds
        if prototypes is None:
            support = anchors = None
            if support_input_ids is not None:
                support = self.tkre(support_input_ids, support_attention_mask, support_entity_spans).relation_embeds
            if anchor_input_ids is not None:
                anchors = self.tkre(anchor_input_ids, anchor_attention_mask).anchor_embeds
            prototypes = self.prototypes(support, support_labels, anchors)
        cosine = embeds @ prototypes.T
        if self.config.na_threshold is not None:
            cosine = torch.cat([cosine, cosine.new_full((len(cosine), 1), self.config.na_threshold)], dim=1)
        logits = cosine / self.config.tau
        loss = F.cross_entropy(logits, labels) if labels is not None else None
        return TKREFewShotOutput(loss=loss, logits=logits, relation_embeds=embeds, prototypes=prototypes)


# So that save_pretrained writes this file and the configuration's beside the weights.
TKREModel.register_for_auto_class("AutoModel")
TKREForMaskedSpanLM.register_for_auto_class("AutoModelForMaskedLM")
TKREForPreTraining.register_for_auto_class("AutoModelForPreTraining")
# No Auto class has its task, so the map's key is its own name.
setattr(TKREForFewShotClassification, "_auto_class", "TKREForFewShotClassification")  # noqa: B010


def _without_pooler(backbone_config: PretrainedConfig) -> dict[str, bool]:
    """Leaves out the pooler where the architecture lets us: no head reads it, and its weights would go untrained."""
    model_class: Any = MODEL_MAPPING.get(type(backbone_config), None)
    # Some model types name several classes; none of those has a pooler to leave out.
    accepts = isinstance(model_class, type) and "add_pooling_layer" in signature(model_class).parameters
    return {"add_pooling_layer": False} if accepts else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the report of weights not found or not used to ourselves: here both are expected, and checked."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def encoder_kwargs(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Of a forward's further arguments those that the encoder reads."""
    return {name: kwargs[name] for name in ("token_type_ids", "position_ids") if kwargs.get(name) is not None}
