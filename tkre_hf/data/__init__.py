"""Records: one shape for every sentence, its builders, the bundled corpus and few-shot episodes."""

from __future__ import annotations

from tkre_hf.lazy import lazy_exports

# Where each public name lives.
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

__getattr__, __dir__ = lazy_exports(__name__, _MODULES)
