"""The card of generated knowledge: of a folder that ``tkre generate`` left."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from tkre_hf.data.reading import read_json, read_json_lines
from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.evaluation.report import markdown
from tkre_hf.hub.marks import marked
from tkre_hf.places import published_text, without_folders

_TEMPLATE = Path(__file__).with_name("dataset_card_template.md")

# What a run leaves that is worth publishing: records, and of samples those that passed the consistency filter. Its
# answers, refusals and journal stay at home.
RECORDS, FILTERED, TRAIN = "records.jsonl", "consistent.jsonl", "train.jsonl"
_ABOUT = ("run.json", "report.json", "report.md")
_REASON = re.compile(r"^- (no answer|stopped): ", re.M)
_KINDS = {"explanations": "explanations of labelled rows (EDKG)", "samples": "samples of relations (SCDG)"}


@dataclass(frozen=True)
class Knowledge:
    """Generated rows in a folder.

    Args:
        files: Name of each configuration, and its file's path within the folder.
        about: Files that tell how they came to be.
        counts: How many rows of each source, by configuration.
        relations: How many relations, by configuration.
        runs: The settings of the runs, by the file that they stand in.
    """

    files: dict[str, str]
    about: list[str]
    counts: dict[str, Counter[str]]
    relations: dict[str, int]
    runs: dict[str, dict[str, Any]]

    @property
    def gold(self) -> int:
        """How many labelled rows there are."""
        return max((counts["gold"] for counts in self.counts.values()), default=0)


def read_knowledge(folder: Path, with_gold: bool) -> Knowledge:
    """Finds what a ``tkre generate`` run, or its whole chain, left in a folder.

    Args:
        folder: A run's, or one with the runs' folders and a training set in it.
        with_gold: Take files that hold labelled rows too.

    Raises:
        TkreError: There are no generated rows, or a row is wrong.
    """
    runs = (
        [path for path in (folder, *sorted(folder.iterdir())) if (path / RECORDS).is_file()] if folder.is_dir() else []
    )
    found = Knowledge({}, [], {}, {}, {})
    for run in runs:
        name = "default" if run == folder else run.name
        records = run / (FILTERED if (run / FILTERED).is_file() else RECORDS)
        _take(found, name, records, folder)
        found.about.extend(str((run / file).relative_to(folder)) for file in _ABOUT if (run / file).is_file())
        if (run / "run.json").is_file():
            settings = read_json(run / "run.json")
            if not isinstance(settings, dict):
                raise TkreError(f"{run / 'run.json'} holds no settings of a run: move it away")
            found.runs[(run / "run.json").relative_to(folder).as_posix()] = without_places(settings)
    if with_gold and (folder / TRAIN).is_file():
        _take(found, "train", folder / TRAIN, folder)
    if not found.files:
        raise TkreError(
            f"{folder} holds no generated rows: expected {RECORDS}, as `tkre generate samples --output {folder}` "
            "leaves it"
        )
    return found


def _take(found: Knowledge, name: str, file: Path, folder: Path) -> None:
    sources: Counter[str] = Counter()
    relations: set[str] = set()
    for row in read_json_lines(file):
        if isinstance(row, InvalidRowError):
            raise row
        if not {"tokens", "head", "tail", "relation", "source"} <= row.data.keys():
            raise row.error("", "no record: expected a line of a run's records.jsonl")
        sources[str(row.data["source"])] += 1
        relations.add(str(row.data["relation"]))
    found.files[name] = file.relative_to(folder).as_posix()
    found.counts[name], found.relations[name] = sources, len(relations)


def render_dataset(name: str, knowledge: Knowledge, licence: str | None) -> str:
    """The card's text.

    Args:
        name: What loads them: a Hub id, or the folder's name.
        knowledge: The rows.
        licence: As the Hub spells it; stated only where the user says it.
    """
    total = sum(sum(counts.values()) for counts in knowledge.counts.values())
    data = DatasetCardData(
        license=licence,
        task_categories=["text-classification"],
        tags=["tkre_hf", "relation-extraction", "synthetic"],
        size_categories=_size(total),
        configs=[{"config_name": name, "data_files": file} for name, file in knowledge.files.items()],
    )
    cells = [["configuration", "relations", "rows", "of them"], ["---", "---:", "---:", "---"]]
    for key, counts in knowledge.counts.items():
        parts = ", ".join(f"{count:,} {source}" for source, count in sorted(counts.items()))
        cells.append([key, f"{knowledge.relations[key]:,}", f"{sum(counts.values()):,}", parts])
    card = DatasetCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        title=name.rpartition("/")[2],
        name=name,
        first=next(iter(knowledge.files)),
        summary="Sentences with two marked entities and their relation, which a language model wrote, checked and "
        "aligned to tokens by tkre_hf.",
        counts=markdown(cells),
        written=_written(knowledge),
        gold=f"{knowledge.gold:,}" if knowledge.gold else "",
        licence=f"{licence}." if licence else "Not stated: whoever publishes these rows has to say it.",
    )
    return marked(re.sub(r"\n{3,}", "\n\n", str(card)))


def published_report(path: Path) -> str:
    """A run's report without the folders and addresses that its reasons may name; its counts stay.

    Raises:
        TkreError: It is no report.
    """
    if path.suffix == ".json":
        report = read_json(path)
        if not isinstance(report, dict):
            raise TkreError(f"{path} holds no report of a run: move it away")
        for name in ("failures", "notes"):
            if isinstance(report.get(name), list):
                report[name] = [published_text(str(reason)) for reason in report[name]]
        if isinstance(report.get("stopped"), str):
            report["stopped"] = published_text(report["stopped"])
        return json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    text = path.read_text("utf-8")
    first = _REASON.search(text)  # they come last
    start = first.start() if first is not None else len(text)
    return text[:start] + published_text(text[start:])


def without_places(run: dict[str, Any]) -> dict[str, Any]:
    """A run's settings without the folders that models and data lay in."""
    return {key: without_folders(value) if isinstance(value, str) else value for key, value in run.items()}


def _written(knowledge: Knowledge) -> str:
    lines = []
    for run in knowledge.runs.values():
        kind = _KINDS.get(str(run.get("kind")), "rows")
        model = str(run.get("model", ""))
        prompt = (
            f", with the prompt whose SHA-256 begins with `{str(run['prompt_sha256'])[:12]}`"
            if run.get("prompt_sha256")
            else ""
        )
        lines.append(f"- {kind}: by `{model or 'a model that is not named'}`{prompt}.")
    checks = (
        "Each row's entities stand in its sentence word for word, near-duplicates were dropped, and what was refused "
        "is counted in `report.json`."
    )
    return "\n".join([*lines, "", checks]) if lines else checks


def _size(rows: int) -> str:
    for bound, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < bound:
            return name
    return "n>1M"
