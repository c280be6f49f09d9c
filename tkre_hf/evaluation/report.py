"""Reports: flat rows as JSON, the same rows as a table, and what they were measured with."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shlex
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from tkre_hf.errors import TkreError
from tkre_hf.places import published_words

_PACKAGES = ("tkre-hf", "torch", "transformers", "datasets", "accelerate")

# Two-sided 95% quantiles of Student's t for 1, 2 … degrees of freedom; the normal one stands in beyond.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

# What the fields of a row are that are no texts, and which of them may be None.
_FIELD_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(("value", "ci95", "minutes", "sd"), ((int, float), "a number")),
    "n": (int, "a whole number"),
    "seeds": (list, "a list"),
    "versions": (dict, "a mapping"),
    "published": (bool, "true or false"),
}
_MAY_BE_ABSENT = frozenset(("ci95", "n", "minutes", "sd"))


@dataclass(frozen=True)
class Row:
    """One figure, with all that it takes to measure it again.

    Args:
        benchmark: What was measured on: ``fewrel_val_wiki``, ``fewrel_val_pubmed``, ``fewrel_nota`` …
        system: What was measured.
        setting: Such as ``5w1s``, and for none of the above the rate: ``5w1s na50``.
        metric: Such as ``accuracy``.
        value: The figure; percent where the metric is one.
        ci95: Half the width of the 95% interval; ``None`` where it isn't known.
        n: Episodes (or test rows) behind each seed's value.
        seeds: Training seeds that ``value`` is the mean of.
        knowledge: What was known of the relations: ``none``, ``descriptions``, ``synthetic``.
        minutes: Of training.
        command: What to type to measure it again.
        versions: Of the packages that count.
        machine: Processor, cores and memory.
        published: True for a figure from a paper, which ``source`` then names.
        source: Where a published figure stands; else what the training data were.
        sd: Standard deviation over seeds, where that is what others publish.
    """

    benchmark: str
    system: str
    setting: str
    metric: str
    value: float
    ci95: float | None = None
    n: int | None = None
    seeds: list[int] = field(default_factory=list)
    knowledge: str = "none"
    minutes: float | None = None
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    published: bool = False
    source: str = ""
    sd: float | None = None

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What makes a row the same measurement as another."""
        return (self.benchmark, self.system, self.setting, self.metric, self.knowledge)


def mean_ci95(values: Sequence[float], ci95_of_one: float) -> tuple[float, float]:
    """The mean over seeds and half its 95% interval: Student's t over seeds, or for a single seed its own interval."""
    if len(values) == 1:
        return values[0], ci95_of_one
    quantile = _T95[len(values) - 2] if len(values) - 2 < len(_T95) else 1.96
    return statistics.fmean(values), quantile * statistics.stdev(values) / math.sqrt(len(values))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a figure depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The processor's name, its cores and the memory, and the GPUs there are, used or not; nothing that names it."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    return ", ".join([f"{name}, {os.cpu_count()} cores{memory}", *_gpus()])


def _gpus() -> list[str]:
    """The GPUs' names, each with how many there are where it's more than one."""
    import torch  # Not for reading rows, which needs none of it.

    if not torch.cuda.is_available():
        return []
    names = Counter(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return [name if count == 1 else f"{count} {name}" for name, count in names.items()]


def command() -> str:
    """The command line that this process was started with, without secrets and without where files lie.

    An absolute path is its name alone; a relative one stays as it is.
    """
    script, here = Path(sys.argv[0]).resolve(), Path.cwd()
    if script.suffix != ".py":
        program = [script.name]
    elif (script.parent.name, script.name) == ("tkre_hf", "cli.py"):
        program = ["tkre"]
    else:
        program = ["python", str(script.relative_to(here)) if script.is_relative_to(here) else script.name]
    return shlex.join([*program, *published_words(sys.argv[1:])])


def read_rows(path: str | Path) -> list[Row]:
    """Reads rows; none if there is no such file yet.

    Raises:
        TkreError: The file holds something else.
    """
    path = Path(path)
    if not path.exists():
        return []
    known = {entry.name for entry in fields(Row)}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [_checked({name: entry[name] for name in entry if name in known}) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise TkreError(f"{path} does not hold result rows ({error}); move it away, or name another file") from None


def _checked(entry: dict[str, Any]) -> Row:
    """A row whose fields are of their kinds, which a file that others wrote needn't have."""
    row = Row(**entry)
    for name, value in vars(row).items():
        kinds, what = _FIELD_KINDS.get(name, (str, "a text"))
        if value is None and name in _MAY_BE_ABSENT:
            continue
        if not isinstance(value, kinds) or (isinstance(value, bool) and name != "published"):
            raise ValueError(f"{name} is {value!r}, not {what}")
    return row


def write_rows(path: str | Path, rows: Iterable[Row]) -> list[Row]:
    """Adds rows to a file: one that measures the same thing again takes its predecessor's place.

    Returns:
        All rows of the file.

    Raises:
        TkreError: The file holds something else.
        ValueError: A number is none that JSON has.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with results_lock(path):
        merged = {row.key: row for row in read_rows(path)}
        merged |= {row.key: row for row in rows}
        text = json.dumps([asdict(row) for row in merged.values()], indent=1, allow_nan=False) + "\n"
        partial = path.with_name(path.name + ".part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    return list(merged.values())


def results_lock(path: Path) -> FileLock:
    """Held while a file of results, or its page, is read and written again: another command may add rows to it too.

    It lies among the temporary files, for the results' own folder is what people publish.
    """
    name = hashlib.sha256(f"{Path.home()}\n{path.resolve()}".encode()).hexdigest()[:32]
    return FileLock(Path(tempfile.gettempdir()) / f"tkre_hf-{name}.lock")


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table: a line for each system and knowledge, a column for each setting."""
    settings = list(dict.fromkeys(row.setting for row in rows))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        interval = f" ± {row.ci95:.1f}" if row.ci95 is not None and not math.isnan(row.ci95) else ""
        spread = f", sd {row.sd:.1f}" if row.sd is not None else ""
        lines.setdefault((row.system, row.knowledge), {})[row.setting] = f"{row.value:.1f}{interval}{spread}"
    cells = [["system", "knowledge", *settings], ["---", "---", *["---:"] * len(settings)]]
    cells += [[*key, *[values.get(setting, "") for setting in settings]] for key, values in lines.items()]
    return markdown(cells)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table that lines up; the second of its lines holds the columns' dashes."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    # A dashed cell grows with its column, keeping the colon that aligns it to the right.
    padded = [
        [
            cell.rjust(width, "-") if set(cell) <= set("-:") and cell else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        for row in cells
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in padded)
