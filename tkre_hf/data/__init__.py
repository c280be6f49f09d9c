"""Records: one shape for every sentence, its builders, the bundled corpus and few-shot episodes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Where each public name lives: a name is imported when it is first asked for, so that importing this stays cheap.
_MODULES = {
    "schema": ("RECORD_FEATURES", "SOURCES", "Record", "check_span", "make_record", "tokenize_text"),
    "reading": ("SkippedRows",),
    "builder": ("PublishedConfig", "RecordsBuilder", "RecordsConfig"),
    "fewrel": ("FewRel", "FewRelConfig", "FewRelEpisodes", "FewRelEpisodesConfig"),
    "jsonl": ("OpenNREJsonl",),
    "tacred": ("Tacred", "TacredConfig"),
    "semeval": ("SemEval2010Task8", "SemEvalConfig"),
    "relations": ("RelationInfo", "complete_relation_info", "read_relation_info"),
    "load": ("load_records", "load_relation_info", "load_sample", "published_splits", "records_builder"),
    "kshot": ("KShotManifest", "draw_kshot", "find_kshot", "load_kshot_split"),
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
    "KShotManifest",
    "OpenNREJsonl",
    "PublishedConfig",
    "RECORD_FEATURES",
    "Record",
    "RecordsBuilder",
    "RecordsConfig",
    "RelationInfo",
    "SOURCES",
    "SemEval2010Task8",
    "SemEvalConfig",
    "SkippedRows",
    "Tacred",
    "TacredConfig",
    "check_span",
    "complete_relation_info",
    "draw_kshot",
    "find_kshot",
    "load_kshot_split",
    "load_records",
    "load_relation_info",
    "load_sample",
    "make_record",
    "published_splits",
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
