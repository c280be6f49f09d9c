"""Records: one shape for every sentence, its builders, the bundled corpus and few-shot episodes."""

from __future__ import annotations

from tkre_hf.lazy import lazy_exports

# Where each public name lives.
_MODULES = {
    "hin": ("EdgeTypeInfo", "HINTables", "Links", "read_hin", "read_links", "write_hin"),
    "held_out": ("draw_links", "write_links"),
    "triples": ("NetworkBuilder", "from_triples", "node_key"),
    "schema": ("RECORD_FEATURES", "SOURCES", "Record", "check_span", "make_record", "tokenize_text"),
    "reading": ("SkippedRows",),
    "builder": ("PublishedConfig", "RecordsBuilder", "RecordsConfig"),
    "fewrel": ("FewRel", "FewRelConfig", "FewRelEpisodes", "FewRelEpisodesConfig"),
    "jsonl": ("OpenNREJsonl",),
    "tacred": ("Tacred", "TacredConfig"),
    "semeval": ("SemEval2010Task8", "SemEvalConfig"),
    "relations": ("RelationInfo", "complete_relation_info", "read_relation_info"),
    "load": ("load_records", "load_relation_info", "load_sample", "load_split", "published_splits", "records_builder"),
    "kshot": ("KShotManifest", "draw_kshot", "find_kshot", "load_kshot_split"),
    "episodes": ("Episode", "EpisodeDataset"),
}

__all__ = [
    "EdgeTypeInfo",
    "Episode",
    "EpisodeDataset",
    "FewRel",
    "FewRelConfig",
    "FewRelEpisodes",
    "FewRelEpisodesConfig",
    "HINTables",
    "KShotManifest",
    "Links",
    "NetworkBuilder",
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
    "draw_links",
    "find_kshot",
    "from_triples",
    "load_kshot_split",
    "load_records",
    "load_relation_info",
    "load_sample",
    "load_split",
    "make_record",
    "node_key",
    "published_splits",
    "read_hin",
    "read_links",
    "read_relation_info",
    "records_builder",
    "tokenize_text",
    "write_hin",
    "write_links",
]

__getattr__, __dir__ = lazy_exports(__name__, _MODULES)
