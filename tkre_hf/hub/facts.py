"""What a folder tells of the model in it: what a card is made of."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from tkre_hf.data.reading import file_sha256, read_json
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import Row, read_rows, write_rows
from tkre_hf.hub.sources import MINILM_ID
from tkre_hf.places import published_command
from tkre_hf.tkre.prototypes import PROTOTYPES, RELATIONS
from tkre_hf.training_data import MINILM, training_summary

MODEL_TYPES = ("tkre", "pfhin")

# Figures beside a checkpoint, and the system that is the checkpoint where a file holds several.
FIGURES = "results.json"
RESULTS = {FIGURES: None, "demo.json": "stage 1 + 2"}
_TEST_RESULTS, EMISSIONS = "test_results.json", "emissions.csv"

# What is said of weights, or was taught to them, and holds of no others.
OF_WEIGHTS = (FIGURES, PROTOTYPES, RELATIONS)


@dataclass(frozen=True)
class Emissions:
    """What codecarbon measured.

    Args:
        grams: CO2 equivalent of all its runs together.
        hardware: The processors, as codecarbon names them; empty where it doesn't.
    """

    grams: float
    hardware: str = ""


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Args:
        name: What loads the model: a Hub id, or its folder's name.
        config: ``config.json``.
        stages: How it was trained, as in ``TrainingSummary``.
        parameters: How many numbers its weights are; ``None`` where there are no weights to count.
        rows: Figures of the model.
        others: Figures of other systems, measured alike.
        emissions: What training emitted, if that was measured.
        licence: Of the model, as the Hub spells it; by default what follows from what it was trained on.
        tags: Beside the project's own.
        datasets: Hub ids beside those of the sources.
        language: ISO 639-1, where the sources don't tell.
        results_note: What stands in the place of figures where there are none.
        taught: The relations that the model was taught, each with ``relation``, ``name`` and ``description``.
    """

    name: str
    config: Mapping[str, Any]
    stages: Sequence[Mapping[str, Any]] = ()
    parameters: int | None = None
    rows: Sequence[Row] = ()
    others: Sequence[Row] = ()
    emissions: Emissions | None = None
    licence: str | None = None
    tags: Sequence[str] = ()
    datasets: Sequence[str] = ()
    language: str | None = None
    results_note: str = ""
    taught: Sequence[Mapping[str, Any]] = ()

    @property
    def model_class(self) -> str:
        """The class that was saved."""
        return str((self.config.get("architectures") or ["?"])[0])

    @property
    def is_network(self) -> bool:
        """Whether it is of the network family."""
        return self.config.get("model_type") == "pfhin"

    @property
    def sources(self) -> list[str]:
        """Names of all that any stage was trained on, each once."""
        return list(
            dict.fromkeys(name for stage in self.stages for name in [*stage["sources"], *stage["add_sources"]])
        )

    @property
    def base_model(self) -> str | None:
        """Hub id of what the first stage started from, where it is known."""
        first: Mapping[str, Any] = self.stages[0] if self.stages else {}
        if first.get("backbone") == MINILM:
            return MINILM_ID
        return str(first["base_model"]) if first.get("base_model") else None


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model in a folder.

    Raises:
        TkreError: There is no model of ours in it.
    """
    file = folder / "config.json"
    if not file.is_file() or not weight_files(folder):
        raise TkreError(
            f"{folder} holds no model: expected config.json and model.safetensors, as a stage or save_pretrained "
            "writes them"
        )
    try:
        config = json.loads(file.read_text("utf-8"))
        model_type = config.get("model_type")
    except (ValueError, AttributeError) as error:
        raise TkreError(f"{file} is no model's configuration: {error}") from None
    if model_type not in MODEL_TYPES:
        raise TkreError(f"{folder} holds a model of type {model_type!r}; expected one of {', '.join(MODEL_TYPES)}")
    return dict(config)


def read_facts(
    folder: Path,
    name: str | None = None,
    results: str | Path | None = None,
    system: str | None = None,
    otherwise: Sequence[Mapping[str, Any]] = (),
    **given: Any,
) -> CardFacts:
    """Reads what a folder tells of its model.

    Args:
        folder: Holds the model.
        name: What loads it; the folder's name by default.
        results: File of result rows; by default those beside the model.
        system: Which of the file's systems is the model, where there are several.
        otherwise: The stages, where the folder doesn't tell them.
        **given: Further fields of :class:`CardFacts`.

    Raises:
        TkreError: There is no model, or a file beside it is wrong.
    """
    config = read_config(folder)
    summary = training_summary(folder)
    stages = list(otherwise) if summary is None else summary.stages
    rows, others = _find_rows(folder, results, system, stages)
    return CardFacts(
        name=name or folder.resolve().name,
        config=config,
        stages=stages,
        parameters=count_parameters(folder),
        rows=rows,
        others=others,
        emissions=read_emissions(folder / EMISSIONS),
        taught=read_taught(folder / RELATIONS),
        **given,
    )


def weight_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of the weights in a folder, by name."""
    return {file.name: file_sha256(file) for file in weight_files(folder)}


@contextmanager
def new_weights(folder: str | Path, here: bool = True) -> Iterator[None]:
    """While weights are written: what lies beside them and is of others that lay there is removed.

    Args:
        folder: Where they are written; the same weights again, and nothing is removed.
        here: Whether this process is the one that writes them.
    """
    folder = Path(folder)
    before = weight_digests(folder) if here else {}
    yield
    if before and before != weight_digests(folder):
        for name in OF_WEIGHTS:
            (folder / name).unlink(missing_ok=True)


def choose_rows(rows: Sequence[Row], system: str | None, file: str) -> tuple[list[Row], list[Row]]:
    """Figures of one system, and those of others that can be laid beside them.

    Args:
        rows: All.
        system: Which one; may be left out where the rows, published ones aside, are one system's.
        file: Where they stand, for the error.

    Raises:
        TkreError: There is no such system, or there are several.
    """
    systems = list(dict.fromkeys(row.system for row in rows if not row.published))
    if system is None and len(systems) > 1:
        raise TkreError(
            f"{file} holds figures of several systems: say which one the model is, --system {systems[0]!r}"
        )
    system = system if system is not None else next(iter(systems), None)
    own = [row for row in rows if row.system == system and not row.published]
    if not own:
        raise TkreError(f"{file} holds no figure of the system {system!r}; it has {', '.join(systems) or 'none'}")
    measured = {(row.benchmark, row.setting, row.metric) for row in own}
    rest = [row for row in rows if row not in own and (row.benchmark, row.setting, row.metric) in measured]
    # An ablation has its page; beside what others publish it says nothing.
    return own, [row for row in rest if row.published] or rest


def keep_rows(folder: Path, results: Path, system: str | None) -> Path:
    """Keeps the figures of a model beside it, and what others published, so that they hold on.

    Args:
        folder: Holds the model.
        results: File of result rows.
        system: Which of the file's systems is the model, where there are several.

    Returns:
        The file beside the model.

    Raises:
        TkreError: There is no model, or no such file or system; or the file beside the model has another's figures.
    """
    read_config(folder)
    kept = folder / FIGURES
    rows, others = _find_rows(folder, results, system, ())
    if kept.is_file() and kept.samefile(results):
        return kept
    strangers = [row.system for row in read_rows(kept) if not row.published and row.system != rows[0].system]
    if strangers:
        raise TkreError(
            f"{kept} has figures of {strangers[0]!r}, and {results} those of {rows[0].system!r}: move the first away, "
            "for a model's figures are one system's"
        )
    shown = [*rows, *(row for row in others if row.published)]
    # The file goes out as the card does.
    write_rows(kept, [replace(row, command=published_command(row.command)) for row in shown])
    return kept


def _find_rows(
    folder: Path, results: str | Path | None, system: str | None, stages: Sequence[Mapping[str, Any]]
) -> tuple[list[Row], list[Row]]:
    if results is not None:
        if not Path(results).is_file():
            raise TkreError(f"results: there is no file {results}")
        return choose_rows(read_rows(results), system, str(results))
    tested = _test_rows(folder / _TEST_RESULTS, stages)
    for name, own in RESULTS.items():
        if (folder / name).is_file():
            rows, others = choose_rows(read_rows(folder / name), system or own, name)
            return [*tested, *rows], others
    return tested, []


def _test_rows(file: Path, stages: Sequence[Mapping[str, Any]]) -> list[Row]:
    """What PF-HIN's fine-tuning measured on its test part."""
    if not file.is_file() or not stages:
        return []
    stage, measured = stages[-1], read_json(file)
    if not isinstance(measured, dict) or not all(isinstance(value, int | float) for value in measured.values()):
        raise TkreError(f"{file} holds something else than metrics and their values: move it away")
    return [
        Row(
            benchmark=Path(stage["sources"][0]).name if stage["sources"] else "test",
            system=stage["stage"],
            setting=f"test {metric}",
            metric=metric,
            value=round(value, 3),
            seeds=[stage["seed"]] if stage.get("seed") is not None else [],
            minutes=stage.get("minutes"),
        )
        for metric, value in measured.items()
        if not metric.startswith("val_")
    ]


def weight_files(folder: Path) -> list[Path]:
    """A model's weights in a folder, as transformers names them; prototypes and scorers of links beside are none."""
    return sorted(folder.glob("model*.safetensors"))


def count_parameters(folder: Path) -> int:
    """How many numbers the weights in a folder are, by the headers of their files.

    Raises:
        TkreError: A file is no safetensors file.
    """
    total = 0
    for file in weight_files(folder):
        header = read_header(file)
        total += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def read_header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: an entry for each tensor.

    Raises:
        TkreError: It is none.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            # More than the file has is no length, but the first bytes of something else.
            text = stream.read(length) if 0 < length <= size - 8 else b""
    except OSError as error:
        raise TkreError(f"{file} can't be read ({error.strerror}): look to the file, or where it links to") from None
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise TkreError(f"{file} is no safetensors file, whatever its name says")
    return header


def read_taught(file: Path) -> list[dict[str, Any]]:
    """The relations that a model was taught, as they stand beside it; none where there is no such file.

    Raises:
        TkreError: The file is another one.
    """
    if not file.is_file():
        return []
    told = read_json(file)
    rows = told.get("relations") if isinstance(told, dict) else None
    names = ("relation", "name", "description")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and all(isinstance(row.get(name), str) for name in names) for row in rows
    ):
        raise TkreError(f"{file} doesn't tell a model's relations: `tkre relations fit` makes it anew")
    return rows


def read_emissions(file: Path) -> Emissions | None:
    """What codecarbon wrote into its ``emissions.csv``; ``None`` where there is none.

    Raises:
        TkreError: The file is another one.
    """
    if not file.is_file():
        return None
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        kilograms = sum(float(row["emissions"]) for row in rows)
    except (KeyError, TypeError, ValueError, csv.Error):
        raise TkreError(f"{file} isn't codecarbon's: expected a column 'emissions', in kilograms") from None
    names = [row.get(column) or "" for row in rows for column in ("gpu_model", "cpu_model")]
    return Emissions(1000 * kilograms, ", ".join(dict.fromkeys(filter(None, names)))) if rows else None
