"""The page beside a file of result rows: its tables, how each was measured, and the notes that a person wrote."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tkre_hf.evaluation.report import Row, read_rows, results_lock, table, write_rows

# What stands below this line is a person's, and kept.
NOTES = "<!-- notes: kept when this page is written again -->"


def write_page(json_path: str | Path, title: str = "") -> Path:
    """Writes ``NAME.md`` from ``NAME.json``; notes below the marker stay.

    Args:
        json_path: The rows.
        title: The page's title; the one it has, or the file's name, by default.

    Returns:
        The page.
    """
    json_path = Path(json_path)
    with results_lock(json_path):
        return _write_page(json_path, title)


def _write_page(json_path: Path, title: str) -> Path:
    page = json_path.with_suffix(".md")
    before, _, notes = (page.read_text(encoding="utf-8") if page.exists() else "").partition(NOTES)
    if not title:
        first = before.partition("\n")[0]
        title = first.removeprefix("# ") if first.startswith("# ") else json_path.stem
    rows = read_rows(json_path)
    parts = [f"# {title}", f"Written by the measurements themselves; the same rows stand in `{json_path.name}`."]
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        own = [row for row in rows if row.benchmark == benchmark]
        parts += [f"## {benchmark}", table(own), _how(own)]
    partial = page.with_name(page.name + ".part")
    partial.write_text("\n\n".join([*filter(None, parts), NOTES]) + (notes or "\n"), encoding="utf-8")
    partial.replace(page)
    return page


def save_rows(output: str | Path | None, rows: Sequence[Row], title: str = "") -> None:
    """Adds rows to a file of results, writes its page, and says where both are; nothing without a file.

    Args:
        output: The JSON file.
        rows: What was measured.
        title: Of the page, where it has none yet.
    """
    if output is not None:
        before = {row.key: row.command for row in read_rows(Path(output))}
        replaced = [row for row in rows if before.get(row.key, row.command) != row.command]
        write_rows(output, rows)
        if replaced:
            print(
                f"warning: {output} had {len(replaced)} of these rows from another command, such as "
                f"{replaced[0].system} in {replaced[0].setting}, and they were replaced: what is to stand beside "
                "another measurement needs a name of its own",
                file=sys.stderr,
            )
        print(f"\nWritten to {output} and {write_page(output, title)}")


def _how(rows: Sequence[Row]) -> str:
    """How rows were measured, those that were measured alike in one line; with settings where a system's differ."""
    alike: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        alike.setdefault(_facts(row), {}).setdefault(f"{row.system} ({row.knowledge})", []).append(row.setting)
    times = Counter(system for systems in alike.values() for system in systems)
    lines = []
    for facts, systems in alike.items():
        names: dict[str, list[str]] = {}
        for system, settings in systems.items():
            names.setdefault(f": {', '.join(settings)}" if times[system] > 1 else "", []).append(system)
        lines.append(f"- {'; '.join(', '.join(group) + of for of, group in names.items())} – {facts}")
    return "\n".join(lines)


def _facts(row: Row) -> str:
    """Where a row comes from, seeds, minutes, command, machine and versions."""
    if row.published:
        return f"published, {row.source}"
    facts = [f"trained on {row.source}" if row.source else "", f"seeds {row.seeds}" if row.seeds else ""]
    facts += [f"{row.minutes:g} minutes of training" if row.minutes else "", f"n = {row.n}" if row.n else ""]
    facts += [f"`{row.command}`" if row.command else "", row.machine]
    facts += [", ".join(f"{package} {version}" for package, version in row.versions.items())]
    return "; ".join(filter(None, facts))
