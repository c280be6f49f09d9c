"""How the relation extraction pipeline loads its model: a classifier, or a few-shot one with its relations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from transformers import PretrainedConfig, pipeline
from transformers.utils import CONFIG_NAME

from tkre_hf.errors import TkreError
from tkre_hf.hub_files import optional_file

from .configuration_tkre import TKREConfig
from .modeling_classification import TKREForRelationClassification
from .modeling_tkre import TKREForFewShotClassification
from .prototypes import PROTOTYPES, RELATIONS, RelationPrototypes

_HUB_SETTINGS = ("cache_dir", "revision", "token", "local_files_only")


class RelationExtractionModel:
    """What the pipeline loads a checkpoint with: a classifier where it holds one, else a few-shot model."""

    @classmethod
    def from_pretrained(
        cls, name: str, *, with_relations: bool = True, **kwargs: Any
    ) -> TKREForFewShotClassification | TKREForRelationClassification:
        """Loads a checkpoint, and the relations beside it if there are any.

        Args:
            name: Folder or Hub id.
            with_relations: Whether these are wanted.
            **kwargs: As of any ``from_pretrained``.

        Raises:
            TkreError: It holds another kind of model, or the relations beside it are broken.
        """
        settings = {key: kwargs[key] for key in _HUB_SETTINGS if kwargs.get(key) is not None}
        config, _ = PretrainedConfig.get_config_dict(name, **settings)
        if config.get("model_type") != TKREConfig.model_type:
            raise TkreError(f"{name} holds no TKRE model; its model type is {config.get('model_type', 'unknown')}")
        if config.get("architectures") == [TKREForRelationClassification.__name__]:
            return TKREForRelationClassification.from_pretrained(name, **kwargs)
        model = TKREForFewShotClassification.from_pretrained(name, **kwargs)
        if not with_relations:
            return model
        found = {file: optional_file(name, file, settings) for file in (PROTOTYPES, RELATIONS)}
        paths = [path for path in found.values() if path is not None]
        if len(paths) == 1:
            missing = next(file for file, path in found.items() if path is None)
            raise TkreError(f"{name} has no {missing}, which belongs to {Path(paths[0]).name}: fit the relations anew")
        if paths:
            # For the pipeline to take; the model itself knows nothing of it.
            vars(model)["saved_prototypes"] = RelationPrototypes.load(*paths)
        return model


def load_pipeline(
    model: str, ner: str | None = None, device: str | None = None, *, with_relations: bool = True
) -> Any:
    """``pipeline("relation-extraction")``, whose errors are one sentence.

    Args:
        model: Folder or Hub id.
        ner: Likewise, of a token classification model.
        device: Such as ``cuda:1``; the accelerator by default, if there is one.
        with_relations: Whether the relations that lie beside the model are wanted.

    Returns:
        A ``RelationExtractionPipeline``.

    Raises:
        TkreError: There is no such folder or Hub id, or it holds another kind of model; or there is no such device.
    """
    if device is not None:
        _check_device(device)
    make: Any = pipeline
    found: Any = None
    for task, name in (("token-classification", ner), ("relation-extraction", model)):
        options: dict[str, Any] = {"ner": found} if task == "relation-extraction" else {}
        if task == "relation-extraction" and not with_relations:
            options["model_kwargs"] = {"with_relations": False}
        try:
            if name is not None:
                _check_kind(task, name)
            found = make(task, model=name, device=device, **options) if name is not None else None
        except (OSError, HFValidationError) as error:
            first = str(error).strip().splitlines()[0]
            raise TkreError(f"the checkpoint {name} can't be loaded: {first}") from error
    return found


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0]
        raise TkreError(f"the device {device!r} can't be used, take another, such as cpu: {first}") from error


def _check_kind(task: str, name: str) -> None:
    """Refuses what ``pipeline`` would answer with a traceback, or with a head of random weights."""
    config, _ = PretrainedConfig.get_config_dict(name)
    if not config:
        raise TkreError(f"{name} has no {CONFIG_NAME}: it is no folder of a model")
    kinds = config.get("architectures") or []
    if task == "token-classification" and not any(kind.endswith("ForTokenClassification") for kind in kinds):
        raise TkreError(
            f"ner takes a token classification model, and {name} holds {', '.join(kinds) or 'no known model'}: name "
            "one that finds entities"
        )
