"""The committed cards: in step with the recipes and with docs/results, figure by figure."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tkre_hf.hub.marks import is_edited
from tkre_hf.hub.model_card import setting_in_words

ROOT = Path(__file__).parents[1]
CARDS = sorted((ROOT / "model_cards").glob("*.md"))
ROWS = json.loads((ROOT / "docs" / "results" / "fewrel.json").read_text())
SYSTEM = "stages 1 + 2"


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


def test_every_figure_stands_in_docs_results() -> None:
    card = ModelCard.load(ROOT / "model_cards" / "tkre-bert-fewrel.md")
    own = [row for row in ROWS if row["system"] == SYSTEM and not row["published"]]
    told = {(f"accuracy, {setting_in_words(row['setting'])}", row["value"]) for row in own}
    assert own and {(result.metric_name, result.metric_value) for result in card.data.eval_results} == told
    assert len(card.data.eval_results) == len(own)
    # And the tables' cells, those that others published among them.
    measured = {f"{row['value']:.1f}" + (f" ± {row['ci95']:.1f}" if row["ci95"] else "") for row in ROWS}
    results = card.text.partition("## Results")[2].partition("## Training")[0]
    cells = [cell.strip() for line in results.splitlines() if line.startswith("| ") for cell in line.split("|")]
    figures = [cell for cell in cells if re.fullmatch(r"[\d.]+( ± [\d.]+)?", cell)]
    assert len(figures) >= len(own) and not set(figures) - measured


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.name)
def test_cards_without_measurements_hold_no_figures(path: Path) -> None:
    card = ModelCard.load(path)
    if card.data.eval_results is None:
        results = card.text.partition("## Results")[2].partition("## Training")[0]
        assert not re.search(r"\d", results)


def test_the_committed_cards_are_what_the_command_writes(tmp_path: Path) -> None:
    """After a change of figures or of a recipe: python model_cards/render.py."""
    runpy.run_path(str(ROOT / "model_cards" / "render.py"))["main"](tmp_path)
    assert [path.name for path in CARDS] == sorted(path.name for path in tmp_path.iterdir())
    for path in CARDS:
        assert path.read_text("utf-8") == (tmp_path / path.name).read_text("utf-8"), path.name
