"""Training whose parameters are spread over processes (FSDP): which modules are gathered together."""

from __future__ import annotations

import logging

from torch import nn
from transformers import Trainer
from transformers.modeling_layers import GradientCheckpointingLayer

from tkre_hf.errors import TkreError

logger = logging.getLogger(__name__)


def layers_to_shard(model: nn.Module) -> set[str]:
    """Class names of the modules that are gathered one after the other: an encoder's layers.

    Not what models name as not to be split between devices, which with transformers 5 is for many encoders the module
    around the embeddings too: Accelerate makes the embeddings a unit of their own, and fails where they are part of
    another.
    """
    return {type(module).__name__ for module in model.modules() if isinstance(module, GradientCheckpointingLayer)}


def choose_layers(trainer: Trainer) -> None:
    """Has a trainer that shards its model gather the layers one by one, unless the launcher named other modules."""
    if not trainer.is_fsdp_enabled or trainer.model is None:
        return
    plugin = trainer.accelerator.state.fsdp_plugin
    if plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = sorted(layers_to_shard(trainer.model))
        if not plugin.transformer_cls_names_to_wrap:
            logger.warning(
                "the encoder has no layers that transformers marks as such: each process gathers the whole model at "
                "once; name them with accelerate's --fsdp_transformer_layer_cls_to_wrap"
            )


def refuse_sharding(trainer: Trainer, what: str) -> None:
    """Raises where the launcher has a trainer's model sharded.

    Args:
        trainer: Of a model that can't be.
        what: The model, for the message.

    Raises:
        TkreError: It has.
    """
    if trainer.is_fsdp_enabled:
        raise TkreError(
            f"{what} can't be sharded (FSDP): launch it with recipes/accelerate_configs/multi_gpu.yaml, which has it "
            "whole on each GPU"
        )
