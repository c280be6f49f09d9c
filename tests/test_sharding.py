"""Which modules FSDP gathers together. That sharded training is unsharded training: tests/invariants."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DebertaV2Config,
    DistilBertConfig,
    RobertaConfig,
)

from tkre_hf.errors import TkreError
from tkre_hf.sharding import choose_layers, layers_to_shard, refuse_sharding
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.modeling_tkre import TKREForMaskedSpanLM

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}


@pytest.mark.parametrize(
    ("encoder", "layers"),
    [
        (BertConfig(vocab_size=50, **SIZES), {"BertLayer"}),
        (RobertaConfig(vocab_size=50, **SIZES), {"RobertaLayer"}),
        # These name nothing that is not to be split.
        (DistilBertConfig(vocab_size=50, **DISTIL), {"TransformerBlock"}),
        (DebertaV2Config(vocab_size=50, **SIZES), {"DebertaV2Layer"}),
    ],
    ids=["bert", "roberta", "distilbert", "deberta"],
)
def test_the_layers_are_units_and_the_embeddings_are_not(encoder: Any, layers: set[str]) -> None:
    assert layers_to_shard(TKREForMaskedSpanLM(TKREConfig(backbone_config=encoder))) == layers


@pytest.fixture
def trainer() -> Any:
    """Of a model that the launcher has sharded, as far as the choice of layers asks."""
    plugin = SimpleNamespace(transformer_cls_names_to_wrap=None)
    accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
    return SimpleNamespace(
        accelerator=accelerator, is_fsdp_enabled=True, model=BertModel(BertConfig(vocab_size=50, **SIZES))
    )


@pytest.mark.parametrize(("given", "found"), [(None, ["BertLayer"]), (["BertAttention"], ["BertAttention"])])
def test_the_launchers_choice_stands(given: list[str] | None, found: list[str], trainer: Any) -> None:
    plugin = trainer.accelerator.state.fsdp_plugin
    plugin.transformer_cls_names_to_wrap = given
    choose_layers(trainer)
    assert plugin.transformer_cls_names_to_wrap == found


def test_an_encoder_without_known_layers_is_said_to_be_one_unit(trainer: Any, caplog: Any) -> None:
    trainer.model = AlbertModel(AlbertConfig(vocab_size=50, embedding_size=8, **SIZES))
    choose_layers(trainer)
    assert trainer.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap == []
    assert "each process gathers the whole model at once" in caplog.text


def test_what_cannot_be_sharded_is_refused(trainer: Any) -> None:
    with pytest.raises(TkreError, match="an encoder with lora can't be sharded .FSDP.: launch it with"):
        refuse_sharding(trainer, "an encoder with lora")
    trainer.is_fsdp_enabled = False
    refuse_sharding(trainer, "an encoder with lora")
