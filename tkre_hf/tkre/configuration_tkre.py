"""Configuration of the TKRE text family."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

# Where the Auto classes find TKRE's own in a saved folder, for those who load it with ``trust_remote_code``.
AUTO_MAP = {
    "AutoConfig": "configuration_tkre.TKREConfig",
    "AutoModel": "modeling_tkre.TKREModel",
    "AutoModelForMaskedLM": "modeling_tkre.TKREForMaskedSpanLM",
    "AutoModelForPreTraining": "modeling_tkre.TKREForPreTraining",
    "AutoModelForSequenceClassification": "modeling_classification.TKREForRelationClassification",
    "AutoProcessor": "processing_tkre.TKREProcessor",
}


class TKREConfig(PretrainedConfig):
    """What a TKRE model is: any encoder, the entity markers it reads, and the space its relations live in.

    Args:
        backbone_config: Configuration of the encoder, or its dictionary; any that ``AutoModel`` knows. A BERT by
            default.
        marker: The entity marker strategy that the processor applies (see ``tkre_hf.tkre.markers``).
        projection_dim: Size of the space that relations, spans and anchors are compared in.
        tau: τ, the temperature of the contrastive loss and of the few-shot logits.
        lambda_mslm: λ1, the weight of masked span language modeling in stage 2; 0 leaves its pass out.
        lambda_scl: λ2, the weight of the span-level contrastive loss in stage 2.
        span_weight: Weight of the cue and entity spans beside the relation representation, within the contrastive
            loss.
        num_learned_anchors: Size of the table of learned relation anchors; 0 embeds names and descriptions instead.
        anchor_weight: How many supports a relation's anchor counts for in its prototype, where anchors alone would
            tell all supports apart.
        anchor_doubt: How fast it counts for less where they wouldn't (``modeling_parts.AnchorTrust``); 0 never.
        na_threshold: Cosine below which a query is none of the above; ``None`` while it isn't calibrated.
        sparse_prediction: With labels, compute the vocabulary's logits at the masked positions only.
        na_label: Of a classifier's labels the one that says that there is no relation, as the data spell it; ``None``
            where every label is a relation.
    """

    model_type = "tkre"
    sub_configs = {"backbone_config": AutoConfig}

    def __init__(
        self,
        backbone_config: PretrainedConfig | dict[str, Any] | None = None,
        marker: str = "entity_marker",
        projection_dim: int = 384,
        tau: float = 0.05,
        lambda_mslm: float = 0.0,
        lambda_scl: float = 1.0,
        span_weight: float = 0.1,
        num_learned_anchors: int = 0,
        anchor_weight: float = 3.0,
        anchor_doubt: float = 1.0,
        na_threshold: float | None = None,
        sparse_prediction: bool = True,
        na_label: str | None = None,
        **kwargs: Any,
    ) -> None:
        if backbone_config is None:
            backbone_config = AutoConfig.for_model("bert")
        elif isinstance(backbone_config, dict):
            settings = dict(backbone_config)
            backbone_config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        if not tau > 0:
            raise ValueError(f"tau must be positive, found {tau}")
        self.backbone_config = backbone_config
        self.marker = marker
        self.projection_dim = projection_dim
        self.tau = tau
        self.lambda_mslm = lambda_mslm
        self.lambda_scl = lambda_scl
        self.span_weight = span_weight
        self.num_learned_anchors = num_learned_anchors
        self.anchor_weight = anchor_weight
        self.anchor_doubt = anchor_doubt
        self.na_threshold = na_threshold
        self.sparse_prediction = sparse_prediction
        self.na_label = na_label
        # The Trainer, and everybody who asks a model for its width, looks here.
        self.hidden_size: int = backbone_config.hidden_size
        self.vocab_size: int = backbone_config.vocab_size
        kwargs.pop("hidden_size", None)
        kwargs.pop("vocab_size", None)
        kwargs.setdefault("pad_token_id", getattr(backbone_config, "pad_token_id", None))
        # All of them, whichever class is saved: every head's weights hold what the others need.
        self.auto_map = {**AUTO_MAP, **kwargs.pop("auto_map", {})}
        super().__init__(**kwargs)


TKREConfig.register_for_auto_class()
