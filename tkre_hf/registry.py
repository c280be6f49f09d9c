"""Makes transformers' Auto classes and pipelines know the model families, without importing transformers or torch.

``AutoModel.register`` wants the classes themselves, and importing them costs seconds. So each family is entered the
way transformers enters its own: by name, in the tables that the Auto classes look model types up in, with the classes
imported when they are asked for. A table is extended right after its module has been executed, still under that
module's import lock, so no thread ever sees it without the families. Nothing is imported at that moment: it may lie
in the middle of ``import peft`` or of transformers' own modules, where the model classes couldn't be imported yet.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Model type -> configuration class. All names below are public names of tkre_hf.
CONFIGS = {"tkre": "TKREConfig", "pfhin": "PFHINConfig"}

# transformers' table -> model type -> class: the tables of AutoModel, AutoModelForMaskedLM and the like.
MODELS = {
    "MODEL_MAPPING": {"tkre": "TKREModel", "pfhin": "PFHINModel"},
    "MODEL_FOR_MASKED_LM_MAPPING": {"tkre": "TKREForMaskedSpanLM"},
    "MODEL_FOR_PRETRAINING_MAPPING": {"tkre": "TKREForPreTraining", "pfhin": "PFHINForPreTraining"},
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING": {"tkre": "TKREForRelationClassification"},
}
PROCESSORS = {"PROCESSOR_MAPPING": {"tkre": "TKREProcessor"}}

# Task of a pipeline -> model type, kind of input, pipeline, and what loads its model.
TASKS = {
    "relation-extraction": (
        "tkre",
        "text",
        "tkre_hf.hub.pipelines.RelationExtractionPipeline",
        "tkre_hf.tkre.loading.RelationExtractionModel",
    )
}


def register() -> None:
    """Enters the families into transformers' tables: now where these are loaded, else as soon as they are.

    ``import tkre_hf`` calls it; calling it again changes nothing. A model type or class that somebody else registered
    stays theirs.

    Warns:
        RuntimeWarning: A model type is already somebody else's.
    """
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    for name, extend in _TABLES.items():
        if name in sys.modules:
            extend(importlib.import_module(name))  # waits where another thread is still executing it


def _is_ours(model_type: str) -> bool:
    return getattr(sys.modules.get(f"transformers.models.{model_type}"), "__name__", "") == __package__


def _extend_configs(auto: ModuleType) -> None:
    for model_type, config in CONFIGS.items():
        if model_type in auto.CONFIG_MAPPING and not _is_ours(model_type):
            warnings.warn(
                f"the model type '{model_type}' is already registered with transformers by another package, so the "
                "Auto classes load that package's classes; import tkre_hf before it to load tkre_hf's",
                RuntimeWarning,
                stacklevel=2,
            )
            continue
        # The Auto classes take a class as an attribute of transformers.models.<model type>.
        sys.modules[f"transformers.models.{model_type}"] = sys.modules[__package__]
        auto.CONFIG_MAPPING_NAMES[model_type] = config
        if hasattr(auto, "MODEL_NAMES_MAPPING"):  # transformers 4: titles for the Auto classes' docstrings
            auto.MODEL_NAMES_MAPPING[model_type] = model_type.upper()


def _extend_classes(auto: ModuleType, tables: dict[str, dict[str, str]]) -> None:
    for table, classes in tables.items():
        for model_type, name in classes.items():
            if _is_ours(model_type):
                getattr(auto, f"{table}_NAMES").setdefault(model_type, name)
                # A table that was built before its configurations were extended doesn't know their class names.
                getattr(auto, table)._reverse_config_mapping.setdefault(CONFIGS[model_type], model_type)


class _Task(dict[str, Any]):
    """A task's entry in transformers' table of pipelines, whose classes are imported when they are asked for."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if key == "impl":
            return _imported(value)
        return tuple(map(_imported, value)) if key == "pt" else value


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _extend_tasks(pipelines: ModuleType) -> None:
    for task, (model_type, kind, pipeline, model) in TASKS.items():
        if _is_ours(model_type):
            # transformers 4 asks for TensorFlow's classes too.
            entry = _Task({"impl": pipeline, "pt": (model,), "tf": (), "type": kind})
            pipelines.SUPPORTED_TASKS.setdefault(task, entry)


_TABLES: dict[str, Callable[[ModuleType], None]] = {
    "transformers.models.auto.configuration_auto": _extend_configs,
    "transformers.models.auto.modeling_auto": lambda auto: _extend_classes(auto, MODELS),
    "transformers.models.auto.processing_auto": lambda auto: _extend_classes(auto, PROCESSORS),
    "transformers.pipelines": _extend_tasks,
}


class _TableFinder:
    """Finds the tables' modules as the other finders do, and has them extended once they are executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _TABLES:
            return None
        found = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_extend(module: ModuleType) -> None:
                execute(module)
                _TABLES[fullname](module)

            # On the loader itself, not around it: it stays the loader that inspect and linecache know.
            spec.loader.exec_module = execute_and_extend  # type: ignore[method-assign]
        return spec


_FINDER = _TableFinder()
