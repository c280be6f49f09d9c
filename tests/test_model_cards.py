"""The committed cards: in step with the recipes and with docs/results, figure by figure."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from tkre_hf.hub.marks import is_edited
from tkre_hf.hub.model_card import setting_in_words

ROOT = Path(__file__).parents[1]
CARDS = sorted((ROOT / "model_cards").glob("*.md"))
# What each card's figures come from: the file, the system, and its benchmarks.
FEWREL = ("fewrel_val_wiki", "fewrel_val_pubmed")
SEMEVAL = ("semeval2010", "semeval2010_official")
FIGURES = {
    "tkre-bert-fewrel.md": ("fewrel", "stages 1 + 2", (*FEWREL, "fewrel_nota")),
    "tkre-bert-fewrel-knowledge.md": ("fewrel", "64 samples of the new relations", FEWREL),
    "tkre-bert-semeval-8-shot.md": ("kshot", "+ FewRel, SCDG and 400 more, mean of 3", SEMEVAL),
    "pfhin-codex-m.md": ("pfhin", "PF-HIN", ("codex_m",)),
}
# What a system takes; no figure of what it does.
COSTS = ("million_parameters", "cpu_minutes")


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.name)
def test_a_card_parses_and_tells_what_the_hub_wants_to_know(path: Path) -> None:
    card = ModelCard.load(path)
    assert card.data.library_name == "transformers" and card.data.license == "apache-2.0" and card.data.tags
    assert card.data.pipeline_tag in ("text-classification", "graph-ml")
    assert not is_edited(path.read_text("utf-8"))
    for name in re.findall(r"docs/results/\w+\.md", card.text):
        assert (ROOT / name).exists()
    for block in re.findall(r"^```python\n(.*?)^```$", card.text, re.S | re.M):
        compile(block, path.name, "exec")


@pytest.mark.parametrize(("name", "source"), FIGURES.items())
def test_every_figure_stands_in_docs_results(name: str, source: tuple[str, str, tuple[str, ...]]) -> None:
    file, system, benchmarks = source
    rows = json.loads((ROOT / "docs" / "results" / f"{file}.json").read_text())
    rows = [row for row in rows if row["benchmark"] in benchmarks and row["metric"] not in COSTS]
    card = ModelCard.load(ROOT / "model_cards" / name)
    if file == "pfhin":
        # Links are asked of another checkpoint, which has all edge types.
        rows = [row for row in rows if row["setting"].startswith("few40")]
    own = [row for row in rows if row["system"] == system and not row["published"]]
    assert {row["benchmark"] for row in own} == {*benchmarks}
    found = [
        (result.metric_type, result.metric_name.partition(", ")[2], result.metric_value)
        for result in card.data.eval_results
    ]
    settings = {row["setting"]: setting_in_words(row["setting"].removesuffix(row["metric"]).strip()) for row in own}
    assert sorted(found) == sorted((row["metric"], settings[row["setting"]], row["value"]) for row in own)
    # And the tables' cells, those that others measured or published among them.
    measured = {cell(row) for row in rows}
    results = card.text.partition("## Results")[2].partition("## Training")[0]
    cells = [text.strip() for line in results.splitlines() if line.startswith("| ") for text in line.split("|")]
    shown = [text for text in cells if re.fullmatch(r"[\d.]+( ± [\d.]+)?(, sd [\d.]+)?", text)]
    assert {cell(row) for row in own} <= {*shown} <= measured


def cell(row: dict[str, Any]) -> str:
    """A figure as a table shows it."""
    interval = f" ± {row['ci95']:.1f}" if row["ci95"] is not None else ""
    spread = f", sd {row['sd']:.1f}" if row.get("sd") is not None else ""
    return f"{row['value']:.1f}{interval}{spread}"


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.name)
def test_cards_without_measurements_hold_no_figures(path: Path) -> None:
    card = ModelCard.load(path)
    assert (card.data.eval_results is None) is (path.name not in FIGURES)
    if card.data.eval_results is None:
        results = card.text.partition("## Results")[2].partition("## Training")[0]
        assert not re.search(r"\d", results)


def test_the_committed_cards_are_what_the_command_writes(tmp_path: Path) -> None:
    """After a change of figures or of a recipe: python model_cards/render.py."""
    runpy.run_path(str(ROOT / "model_cards" / "render.py"))["main"](tmp_path)
    assert [path.name for path in CARDS] == sorted(path.name for path in tmp_path.iterdir())
    for path in CARDS:
        assert path.read_text("utf-8") == (tmp_path / path.name).read_text("utf-8"), path.name
