"""``tkre demo`` end to end: both stages on the bundled corpus, with a tiny encoder and few steps."""

from __future__ import annotations

import io
import math
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from transformers import AutoModel, AutoProcessor
from transformers.utils import logging

import tkre_hf
from tkre_hf.cli import main
from tkre_hf.evaluation.report import read_rows

SYSTEMS = ("backbone as it is", "stage 1", "stage 1 + 2")
SETTINGS = ("5w0s", "5w1s", "5w5s", "10w1s", "10w5s")


def demo(backbone: Path, folder: Path, *options: str) -> int:
    steps = ("--stage1-steps", "2", "--stage2-steps", "3")
    return main(["demo", "--backbone", str(backbone), "--output-dir", str(folder), *steps, *options])


@pytest.fixture(scope="module")
def finished(real_text_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo's folder, and what it printed."""
    pytest.importorskip("matplotlib", reason="the demo's picture needs matplotlib, of the extra [demo]")
    folder = tmp_path_factory.mktemp("demo") / "tkre-bert"
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(printed):
        assert demo(real_text_backbone, folder) == 0
    return folder, printed.getvalue()


def test_tells_what_each_stage_adds(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    rows = read_rows(folder / "demo.json")
    assert [(row.system, row.setting) for row in rows] == [(a, b) for a in SYSTEMS for b in SETTINGS]
    assert all(row.n == 2_000 and row.metric == "accuracy" and row.command for row in rows)
    # An untrained encoder of 32 dimensions is near chance, but what is measured must be a measurement.
    assert all(100 / int(row.setting.partition("w")[0]) / 2 < row.value < 100 for row in rows)
    assert [row.minutes is None for row in rows] == [True] * 5 + [False] * 10
    for row in rows:
        line = next(line for line in printed.splitlines() if line.startswith(f"| {row.system} "))
        assert f"{row.value:.1f} ± {row.ci95:.1f}" in line
    assert f"The checkpoint is in {folder}" in printed
    assert f"tkre evaluate --model {folder}" in printed


def test_the_libraries_keep_quiet(finished: tuple[Path, str]) -> None:
    _, printed = finished
    assert "{'" not in printed and "Warning" not in printed and "Loading" not in printed
    assert logging.is_progress_bar_enabled() and transformers.logging.get_verbosity() == logging.WARNING


def test_leaves_a_checkpoint(finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = finished
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert isinstance(model, tkre_hf.TKREModel) and isinstance(processor, tkre_hf.TKREProcessor)
    inputs = processor("Oslo is the capital of Norway.", head=(0, 4), tail=(23, 29))
    with torch.no_grad():
        vector = model(inputs["input_ids"], inputs["attention_mask"], inputs["entity_spans"]).relation_embeds
    assert vector.shape == (1, model.config.projection_dim) and math.isclose(vector.norm(), 1, rel_tol=1e-5)
    arguments = ["--model", str(folder), "--settings", "5w1s", "--num_episodes", "2000", "--confusion", "1"]
    assert main(["evaluate", *arguments]) == 0
    (row,) = (row for row in read_rows(folder / "demo.json") if (row.system, row.setting) == (SYSTEMS[-1], "5w1s"))
    assert f"{row.value:.1f} ± {row.ci95:.1f}" in capsys.readouterr().out


def test_leaves_a_card_with_its_figures(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    card = ModelCard.load(folder / "README.md")
    rows = [row for row in read_rows(folder / "demo.json") if row.system == SYSTEMS[-1]]
    assert [result.metric_value for result in card.data.eval_results] == [row.value for row in rows]
    assert card.data.eval_results[0].dataset_name == "the bundled corpus of tkre_hf, validation relations"
    assert f'from_pretrained("{folder.name}")' in card.text and "backbone as it is" in card.text


def test_leaves_a_picture(finished: tuple[Path, str]) -> None:
    from matplotlib.image import imread

    picture = imread(finished[0] / "confusion.png")
    assert min(picture.shape[:2]) > 500 and len({*picture[..., :3].reshape(-1, 3).sum(1).tolist()}) > 10


def test_says_nothing_of_this_machine(finished: tuple[Path, str], real_text_backbone: Path) -> None:
    folder, _ = finished
    for file in folder.iterdir():
        content = file.read_bytes()
        assert str(real_text_backbone.parent).encode() not in content, file
        assert b"tkre-demo-" not in content, file


def test_takes_the_place_of_an_earlier_demo_alone(
    finished: tuple[Path, str], real_text_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    (folder / "notes.txt").write_text("mine")
    for name in ("prototypes.safetensors", "relations.json", "results.json"):
        (folder / name).write_text("of the weights before")
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    monkeypatch.chdir(folder.parent)
    assert demo(real_text_backbone, Path(folder.name), "--seed", "1", "--stage1-steps", "1") == 0
    after = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert before.keys() - after.keys() == {"prototypes.safetensors", "relations.json", "results.json"}
    assert not after.keys() - before.keys()
    assert {name for name in after if after[name] == before[name]} == {"notes.txt"}
    assert {tuple(row.seeds) for row in read_rows(folder / "demo.json")} == {(1,)}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_refuses_what_is_not_its_own(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "tkre-bert"
    if kind == "folder":
        place.mkdir()
    file = place / "thesis.txt" if kind == "folder" else place
    file.write_text("years of work")
    assert demo(tmp_path, place) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tkre demo: {place} exists and is not an earlier demo's checkpoint")
    assert file.read_text() == "years of work" and len(list(tmp_path.rglob("*"))) == 1 + (kind == "folder")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage1-steps", "0"], "at least 1"),
        (["--seed", "-1"], "at least 0"),
        (["--stage2-steps", "many"], "whole number"),
    ],
)
def test_refuses_settings_that_mean_nothing(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo(tmp_path, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--backbone", "no/such/folder"], ["--data-dir", "no/such/folder"]])
def test_what_is_missing_is_said_in_one_sentence(
    options: list[str], real_text_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the demo's picture needs matplotlib, of the extra [demo]")
    assert demo(real_text_backbone, tmp_path / "out", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tkre demo: ") and "no/such/folder" in line
    assert not (tmp_path / "out").exists()
