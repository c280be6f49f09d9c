"""Which modules FSDP gathers together. That sharded training is unsharded training: tests/invariants."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import BertConfig, BertModel, DistilBertConfig, RobertaConfig

from tkre_hf.sharding import choose_layers, layers_to_shard
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
from tkre_hf.tkre.modeling_tkre import TKREForMaskedSpanLM

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}


@pytest.mark.parametrize(
    ("encoder", "layers"),
    [
        (BertConfig(vocab_size=50, **SIZES), {"BertLayer"}),
        (RobertaConfig(vocab_size=50, **SIZES), {"RobertaLayer"}),
        # It names none.
        (DistilBertConfig(vocab_size=50, **DISTIL), set()),
    ],
    ids=["bert", "roberta", "distilbert"],
)
def test_the_layers_are_units_and_the_embeddings_are_not(encoder: Any, layers: set[str]) -> None:
    assert layers_to_shard(TKREForMaskedSpanLM(TKREConfig(backbone_config=encoder))) == layers


def test_an_adapter_is_seen_through() -> None:
    peft = pytest.importorskip("peft")
    config = TKREConfig(backbone_config=BertConfig(vocab_size=50, **SIZES), num_labels=3)
    model = peft.get_peft_model(TKREForRelationClassification(config), peft.LoraConfig(target_modules=["query"]))
    assert layers_to_shard(model) == {"BertLayer"}


@pytest.mark.parametrize(("given", "found"), [(None, ["BertLayer"]), (["BertAttention"], ["BertAttention"])])
def test_the_launchers_choice_stands(given: list[str] | None, found: list[str]) -> None:
    plugin = SimpleNamespace(transformer_cls_names_to_wrap=given)
    accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
    trainer: Any = SimpleNamespace(accelerator=accelerator, model=BertModel(BertConfig(vocab_size=50, **SIZES)))
    choose_layers(trainer)
    assert plugin.transformer_cls_names_to_wrap == found
