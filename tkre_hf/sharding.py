"""Training whose parameters are spread over processes (FSDP): which modules are gathered together."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel, Trainer

from tkre_hf.errors import TkreError


def layers_to_shard(model: nn.Module) -> set[str]:
    """Class names of the modules that are gathered one after the other: the encoder's layers.

    Models name what must not be split between devices; with transformers 5 that is for most encoders the module around
    the embeddings too. Accelerate makes the embeddings a unit of their own, and fails where they are part of another.

    Args:
        model: Any model, PEFT's included.
    """
    named: set[str] = set()
    embeddings: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            named |= set(module._no_split_modules or ())
            embeddings.add(module.get_input_embeddings())
    around = {type(module).__name__ for module in model.modules() if embeddings.intersection(module.modules())}
    found = {type(module).__name__ for module in model.modules()}
    return (named & found) - around


def choose_layers(trainer: Trainer) -> None:
    """Has a trainer that shards its model gather the layers one by one, unless the launcher named other modules."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.transformer_cls_names_to_wrap is None and trainer.model is not None:
        plugin.transformer_cls_names_to_wrap = sorted(layers_to_shard(trainer.model))


def refuse_sharding(trainer: Trainer) -> None:
    """Raises where a trainer would shard a model that reads its node embeddings in pieces of its own.

    Raises:
        TkreError: The launcher says FSDP.
    """
    if getattr(trainer.accelerator.state, "fsdp_plugin", None) is not None:
        raise TkreError(
            "PF-HIN's model can't be sharded (FSDP): launch it with recipes/accelerate_configs/multi_gpu.yaml, which "
            "has it whole on each GPU"
        )
