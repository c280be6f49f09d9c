"""Configuration of the PF-HIN network family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

# Where the Auto classes find PF-HIN's own in a saved folder, for those who load it with ``trust_remote_code``.
AUTO_MAP = {
    "AutoConfig": "configuration_pfhin.PFHINConfig",
    "AutoModel": "modeling_pfhin.PFHINModel",
    "AutoModelForPreTraining": "modeling_pfhin.PFHINForPreTraining",
}


class PFHINConfig(PretrainedConfig):
    """What a PF-HIN model is: the graph's types and sizes, what a node is read by, and the transformer.

    Args:
        node_types: Names of the node types.
        edge_types: Names of the edge types; each has a reverse too.
        nodes_per_type: How many nodes each type has, in the order of ``node_types``; the node embeddings' rows are
            laid out so. Empty without node embeddings: such a model is inductive, it reads any graph.
        graph_key: Of the graph whose nodes those are; another is refused.
        embedding_size: E, the width of the node embeddings, which a matrix widens to ``hidden_size``; ``None`` or
            ``hidden_size`` leaves out the factorization.
        num_features: Numeric features of a node; 0 none.
        text_size: Width of a node's text vector; 0 none.
        profile: Whether a node is known by how many edges of each type it has, either way along each, too.
        structure: Whether a position is also read by where it stands: rank and degree of its node, hops, visits, and
            the type of the edge stepped over. Without, it is its node (ids, features, text, profile) and its type.
        aggregation: How nodes of one type in a sequence read each other before the transformer does: ``bilstm``,
            ``mean`` or ``none``.
        hidden_size: H, the transformer's width.
        num_hidden_layers: Layers.
        num_hidden_groups: Sets of parameters that the layers share, in order; 1 is one for all, ``num_hidden_layers``
            no sharing.
        num_attention_heads: Heads of attention.
        intermediate_size: Width of the feed-forward part.
        hidden_dropout_prob: Of embeddings and of what each layer adds.
        attention_probs_dropout_prob: Of attention.
        classifier_dropout: Before a task's head.
        initializer_range: Standard deviation of new weights.
        layer_norm_eps: Of layer normalization.
        rank_bins: Bins of each centrality; the rank embedding is the sum of three.
        max_hops: Hops from the start that are told apart.
        lambda_mnm: Weight of masked node modeling in pre-training; 0 leaves it out.
        lambda_anp: Weight of adjacent node prediction; 0 leaves it out.
        label_smoothing: Of masked node modeling, where no sampled softmax stands in for the whole.
        walk: How the sequences were made that the model was trained on (``walks.WalkSettings``, the kind of rank),
            for those who make it new ones.
        num_labels: Classes of node classification.
    """

    model_type = "pfhin"

    def __init__(
        self,
        node_types: Sequence[str] = ("node",),
        edge_types: Sequence[str] = ("edge",),
        nodes_per_type: Sequence[int] = (),
        graph_key: str = "",
        embedding_size: int | None = 64,
        num_features: int = 0,
        text_size: int = 0,
        profile: bool = False,
        structure: bool = True,
        aggregation: str = "mean",
        hidden_size: int = 128,
        num_hidden_layers: int = 3,
        num_hidden_groups: int = 1,
        num_attention_heads: int = 4,
        intermediate_size: int = 256,
        hidden_dropout_prob: float = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        classifier_dropout: float = 0.1,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-6,
        rank_bins: int = 16,
        max_hops: int = 8,
        lambda_mnm: float = 1.0,
        lambda_anp: float = 1.0,
        label_smoothing: float = 0.1,
        walk: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if aggregation not in ("bilstm", "mean", "none"):
            raise ValueError(f"aggregation is {aggregation!r}: expected bilstm, mean or none")
        if not (structure or nodes_per_type or num_features or text_size or profile):
            raise ValueError("structure is off, and there are neither ids nor features nor texts nor profiles to read")
        if nodes_per_type and len(nodes_per_type) != len(node_types):
            raise ValueError(f"{len(nodes_per_type)} nodes_per_type for {len(node_types)} node_types")
        if not 1 <= num_hidden_groups <= num_hidden_layers:
            raise ValueError(f"num_hidden_groups must lie from 1 to {num_hidden_layers}, found {num_hidden_groups}")
        if hidden_size % num_attention_heads:
            raise ValueError(f"hidden_size {hidden_size} is no multiple of {num_attention_heads} attention heads")
        if aggregation == "bilstm" and hidden_size % 2:
            raise ValueError(f"hidden_size must be even for a Bi-LSTM, found {hidden_size}")
        self.node_types = list(node_types)
        self.edge_types = list(edge_types)
        self.nodes_per_type = list(nodes_per_type)
        self.graph_key = graph_key
        self.embedding_size = embedding_size
        self.num_features = num_features
        self.text_size = text_size
        self.profile = profile
        self.structure = structure
        self.aggregation = aggregation
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_hidden_groups = num_hidden_groups
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.classifier_dropout = classifier_dropout
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.rank_bins = rank_bins
        self.max_hops = max_hops
        self.lambda_mnm = lambda_mnm
        self.lambda_anp = lambda_anp
        self.label_smoothing = label_smoothing
        self.walk = dict(walk or {})
        self.auto_map = {**AUTO_MAP, **kwargs.pop("auto_map", {})}
        super().__init__(**kwargs)

    @property
    def num_nodes(self) -> int:
        """Rows of the node embeddings; 0 without."""
        return sum(self.nodes_per_type)


PFHINConfig.register_for_auto_class()
