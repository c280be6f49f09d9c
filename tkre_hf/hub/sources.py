"""What is known of the data sets and encoders that a checkpoint may come from: name, Hub id, licence, language."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"

APACHE = "apache-2.0"


@dataclass(frozen=True)
class Source:
    """Something that a model was trained on.

    Args:
        name: What a card calls it; of a file its name alone, for where it lay is nobody's business.
        hub_id: The data set on the Hub that holds the same.
        licence: As the Hub spells it, where it is one that the Hub knows.
        terms: The licence and where it stands, in words; empty where it isn't known.
        language: ISO 639-1.
    """

    name: str
    hub_id: str | None = None
    licence: str | None = None
    terms: str = ""
    language: str | None = None


# By what stands before the colon of a published source's name.
_PUBLISHED = {
    "fewrel": Source("FewRel", "thunlp/few_rel", "mit", "MIT (its publisher's repository, thunlp/FewRel)", "en"),
    "semeval": Source(
        "SemEval-2010 Task 8", "SemEvalWorkshop/sem_eval_2010_task_8", "cc-by-3.0", "CC BY 3.0 (its authors)", "en"
    ),
    "tacred": Source(
        "TACRED",
        "DFKI-SLT/tacred",
        None,
        "the LDC's licence (LDC2018T24): its sentences may not be passed on",
        "en",
    ),
    "sample": Source(
        "the bundled corpus of tkre_hf",
        None,
        APACHE,
        "Apache-2.0 (this project's own, written by a language model)",
        "en",
    ),
}

# Networks that the project's recipes use, by the name of their folder.
_NETWORKS = {
    "codex_s": Source("CodEx-S", None, "mit", "MIT (CodEx); Wikidata's facts are CC0"),
    "codex_m": Source("CodEx-M", None, "mit", "MIT (CodEx); Wikidata's facts are CC0"),
    "openflights": Source("OpenFlights", None, "odbl", "ODbL (OpenFlights)"),
}


def source_of(name: str) -> Source:
    """What is known of a source, from the name that a stage was given.

    Args:
        name: A file, a folder, or a published data set such as ``fewrel:wiki``.
    """
    family, colon, part = name.partition(":")
    if colon and family in _PUBLISHED:
        known = _PUBLISHED[family]
        return Source(f"{known.name} (`{name}`)", known.hub_id, known.licence, known.terms, known.language)
    bare = Path(name).name
    if Path(name).parts[-3:-1] == ("recipes", "knowledge"):
        return Source(f"samples of tkre_hf's recipes (`{bare}`)", None, APACHE, _PUBLISHED["sample"].terms, "en")
    if bare in _NETWORKS:
        known = _NETWORKS[bare]
        return Source(f"{known.name} (`{bare}`)", known.hub_id, known.licence, known.terms)
    return Source(f"`{bare}`")


def common(values: Iterable[str | None]) -> str | None:
    """The value that all have, or ``None`` where one has none or another."""
    found = set(values)
    return found.pop() if len(found) == 1 else None
