"""What cards call a benchmark and its settings."""

from __future__ import annotations

import re

from tkre_hf.evaluation.report import Row
from tkre_hf.hub.facts import CardFacts
from tkre_hf.hub.sources import source_of

BENCHMARKS = {
    "fewrel_val_wiki": ("FewRel 1.0, validation relations", "fewrel", "val_wiki"),
    "fewrel_nota": ("FewRel 1.0, validation relations and none of the above", "fewrel", "val_wiki"),
    "fewrel_val_pubmed": ("FewRel 2.0, biomedical relations", "fewrel", "val_pubmed"),
    "semeval2010": ("SemEval-2010 Task 8, F1 of all relations but Other", "semeval", "test"),
    "semeval2010_official": ("SemEval-2010 Task 8, the task's own score", "semeval", "test"),
}


def benchmark_of(row: Row, facts: CardFacts) -> tuple[str, str | None, str | None]:
    """A benchmark's name, the Hub id of its data set, and the split."""
    if row.benchmark in BENCHMARKS:
        name, family, split = BENCHMARKS[row.benchmark]
        return name, source_of(f"{family}:").hub_id, split
    if row.benchmark == "demo":
        is_fewrel = any(name.startswith("fewrel:") for name in facts.sources)
        if is_fewrel:
            return "FewRel 1.0, validation relations", source_of("fewrel:").hub_id, "val_wiki"
        return "the bundled corpus of tkre_hf, validation relations", None, "validation"
    # A network that is known by name; what else was measured on is called as its rows call it.
    known = source_of(row.benchmark)
    return known.name.partition(" (")[0] if known.terms else row.benchmark, None, None


def setting_in_words(setting: str) -> str:
    """``5w1s na50`` as ``5-way 1-shot, 50% none of the above``."""
    match = re.fullmatch(r"(\d+)w(\d+)s(?: na(\d+))?", setting)
    if not match:
        return re.sub(r"^k(\d+)$", r"\1-shot", setting)
    words = f"{match[1]}-way " + (f"{match[2]}-shot" if match[2] != "0" else "zero-shot")
    return words + (f", {match[3]}% none of the above" if match[3] else "")
