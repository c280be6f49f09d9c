"""Adapters (PEFT) on a classifier's encoder: little to train, little to store, one checkpoint for many of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .configuration_tkre import TKREConfig
from .modeling_classification import TKREForRelationClassification

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTERS = ("lora", "ia3")

# Where LoRA's encoders keep what IA3 scales: keys, values and the feed-forward layer's second matrix, by the names
# that the architectures of transformers give them.
_IA3_TARGETS = ("key", "value", "k_proj", "v_proj", "k_lin", "v_lin", "Wqkv", "in_proj")
_IA3_FEEDFORWARD = ("output.dense", "output_layer", "lin2", "fc2", "down_proj", "Wo")


def add_adapter(
    model: TKREForRelationClassification, kind: str, rank: int = 8, alpha: int = 16, dropout: float = 0.1
) -> PeftModel:
    """Freezes a classifier but for an adapter on its encoder and the classifier's own layer.

    Args:
        model: The classifier; its weights stay in place.
        kind: ``lora`` (Hu et al., 2022), on all linear layers of the encoder, or ``ia3`` (Liu et al., 2022), on keys,
            values and feed-forward layers.
        rank: LoRA's rank; IA3 has none.
        alpha: LoRA's scale, over the rank.
        dropout: LoRA's dropout.

    Raises:
        ValueError: There is no such kind, or IA3 finds no layer of its own in this encoder.
        ImportError: peft isn't installed.
    """
    from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model

    prefix = "tkre.encoder."
    layers = [
        name for name, module in model.named_modules() if name.startswith(prefix) and isinstance(module, nn.Linear)
    ]
    config: PeftConfig
    if kind == "lora":
        config = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=layers, modules_to_save=["classifier"]
        )
    elif kind == "ia3":
        feedforward = [
            name
            for name in layers
            if name.endswith(_IA3_FEEDFORWARD) and "attention" not in name and "attn" not in name
        ]
        attention = [name for name in layers if name.rpartition(".")[2] in _IA3_TARGETS]
        if not feedforward or not attention:
            known = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
            raise ValueError(f"ia3 knows none of this encoder's layers ({known}): use lora")
        config = IA3Config(
            target_modules=[*attention, *feedforward], feedforward_modules=feedforward, modules_to_save=["classifier"]
        )
    else:
        raise ValueError(f"there is no adapter {kind!r}; choose of {', '.join(ADAPTERS)}")
    return get_peft_model(model, config)


def load_adapter(folder: str | Path, base: str | None = None, merge: bool = True) -> Any:
    """Loads an adapter that was saved alone onto the checkpoint it was trained on.

    Args:
        folder: The adapter's folder.
        base: The checkpoint; by default the one that the adapter's configuration names.
        merge: Give a plain classifier with the adapter's weights merged into its own, rather than the PEFT model.

    Returns:
        A ``TKREForRelationClassification``, or with ``merge`` off a ``PeftModel`` around one.

    Raises:
        OSError: There is no such folder or checkpoint.
        ImportError: peft isn't installed.
    """
    from peft import PeftModel

    settings = json.loads(Path(folder, "adapter_config.json").read_text("utf-8"))
    config = TKREConfig.from_pretrained(folder)
    model = TKREForRelationClassification.from_pretrained(base or settings["base_model_name_or_path"], config=config)
    adapted = PeftModel.from_pretrained(model, str(folder))
    return adapted.merge_and_unload() if merge else adapted


def count_trained(model: nn.Module) -> tuple[int, int]:
    """How many parameters are trained, and how many there are, without the copies that an adapter keeps frozen."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for name, parameter in model.named_parameters() if "original_module" not in name)
    return trained, total
