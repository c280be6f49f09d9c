"""Knowledge from a language model: explanations (EDKG) and schema-constrained samples (SCDG), as records."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Where each public name lives: a name is imported when it is first asked for, so that importing this stays cheap.
_MODULES = {
    "backends": ("Answer", "Backend", "RecordedBackend", "RefusedError", "Request", "Sampling", "TransientError"),
    "cli": ("generate_explanations", "generate_samples"),
    "consistency": ("margins", "prototypes", "worst"),
    "duplicates": ("NearDuplicateIndex",),
    "encoder": ("RelationEncoder",),
    "generate": ("Job", "Limits", "Runner"),
    "inference": ("InferenceBackend",),
    "journal": ("RunFolder",),
    "local": ("TransformersBackend",),
    "merge": ("merge",),
    "parse": ("UnparseableError", "parse_explanation", "parse_samples"),
    "prompts": ("PromptTemplate",),
    "report": ("RunReport",),
    "retrieve": ("DemonstrationIndex", "in_context_prompt"),
    "schema": ("RelationSchema", "complete_schemas"),
    "settings": ("GenerateArguments", "MergeArguments", "SampleArguments"),
    "tasks": ("RandomDemonstrations", "explanation_jobs", "sample_jobs"),
    "tgi": ("TgiBackend",),
    "validate": ("REASONS", "ExplanationValidator", "Rejection", "SampleValidator", "TextChecks"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "REASONS",
    "Answer",
    "Backend",
    "DemonstrationIndex",
    "ExplanationValidator",
    "GenerateArguments",
    "InferenceBackend",
    "Job",
    "Limits",
    "MergeArguments",
    "NearDuplicateIndex",
    "PromptTemplate",
    "RandomDemonstrations",
    "RecordedBackend",
    "RefusedError",
    "Rejection",
    "RelationEncoder",
    "RelationSchema",
    "Request",
    "RunFolder",
    "RunReport",
    "Runner",
    "SampleArguments",
    "SampleValidator",
    "Sampling",
    "TextChecks",
    "TgiBackend",
    "TransformersBackend",
    "TransientError",
    "UnparseableError",
    "complete_schemas",
    "explanation_jobs",
    "generate_explanations",
    "generate_samples",
    "in_context_prompt",
    "margins",
    "merge",
    "parse_explanation",
    "parse_samples",
    "prototypes",
    "sample_jobs",
    "worst",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
