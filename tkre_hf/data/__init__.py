"""Records: one shape for every sentence, its builders, the bundled corpus and few-shot episodes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Where each public name lives: a name is imported when it is first asked for, so that importing this stays cheap.
_MODULES = {
    "schema": ("RECORD_FEATURES", "SOURCES", "Record", "check_span", "make_record", "tokenize_text"),
    "reading": ("SkippedRows",),
    "builder": ("RecordsBuilder", "RecordsConfig"),
    "fewrel": ("FewRel", "FewRelConfig", "FewRelEpisodes", "FewRelEpisodesConfig"),
    "jsonl": ("OpenNREJsonl",),
    "relations": ("RelationInfo", "complete_relation_info", "read_relation_info"),
    "load": ("load_records", "load_relation_info", "load_sample", "records_builder"),
    "episodes": ("Episode", "EpisodeDataset"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Episode",
    "EpisodeDataset",
    "FewRel",
    "FewRelConfig",
    "FewRelEpisodes",
    "FewRelEpisodesConfig",
    "OpenNREJsonl",
    "RECORD_FEATURES",
    "Record",
    "RecordsBuilder",
    "RecordsConfig",
    "RelationInfo",
    "SOURCES",
    "SkippedRows",
    "check_span",
    "complete_relation_info",
    "load_records",
    "load_relation_info",
    "load_sample",
    "make_record",
    "read_relation_info",
    "records_builder",
    "tokenize_text",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
