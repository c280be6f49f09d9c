"""The recipes themselves: their configs, their help, a whole chain, and how they end when something is wrong."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import tkre_hf.evaluation.few_shot
import tkre_hf.hin_tasks
import tkre_hf.hin_training
import tkre_hf.kshot
import tkre_hf.training
from tkre_hf.arguments import run

RECIPES = Path(__file__).parents[2] / "recipes"
# What a config's name begins with -> its recipe, and the function that is called with what was parsed.
STAGES = {
    "stage1": ("stage1_mslm.py", tkre_hf.training, "train_mslm"),
    "stage2": ("stage2_scl.py", tkre_hf.training, "train_scl"),
    "kshot": ("finetune_kshot.py", tkre_hf.kshot, "report_chain"),
    "evaluate": ("evaluate_episodes.py", tkre_hf.evaluation.few_shot, "run"),
    "pretrain": ("pretrain_pfhin.py", tkre_hf.hin_training, "pretrain"),
    "finetune": ("finetune_pfhin.py", tkre_hf.hin_tasks, "finetune"),
}

CONFIGS = sorted(path for stage in STAGES for path in (RECIPES / "configs").glob(f"{stage}_*.yaml"))

Main = Callable[[Sequence[str]], None]


def main_of(recipe: str) -> Main:
    """A recipe's own entry."""
    return runpy.run_path(str(RECIPES / recipe))["main"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_key_of_a_config_is_a_setting_of_its_recipe(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, module, function = STAGES[config.name.partition("_")[0]]
    parsed: list[Any] = []
    monkeypatch.setattr(module, function, lambda *args: parsed.extend(args))
    needed = {"pretrain": ["--network", "x"], "finetune": ["--network", "x", "--model", "x"]}
    argv = ["--config", str(config), "--seed", "7", *needed.get(config.name.partition("_")[0], [])]
    if recipe == "finetune_pfhin.py":
        monkeypatch.setattr(module, function, lambda *args: parsed.extend(args) or {})
    main_of(recipe)(argv)
    assert parsed and any(getattr(args, "seed", None) == 7 for args in parsed)


def test_every_recipe_has_a_config_and_every_stage_a_recipe() -> None:
    assert {path.name.partition("_")[0] for path in CONFIGS} == set(STAGES)


@pytest.mark.parametrize("recipe", sorted(path.name for path in RECIPES.glob("*.py")))
def test_help(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main_of(recipe)(["--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert "--config" in output
    assert f" recipes/{recipe} --" in output  # the line to type


def test_the_readme_names_every_recipe_and_config() -> None:
    text = (RECIPES / "README.md").read_text()
    for path in [*RECIPES.glob("*.py"), *CONFIGS, *(RECIPES / "accelerate_configs").glob("*.yaml")]:
        assert path.stem in text, path


def test_from_stage_1_to_figures(
    corpus_files: tuple[Path, Path], backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, info = map(str, corpus_files)
    config = tmp_path / "common.yaml"
    config.write_text(f"sources: [{sources}]\nbackbone: {backbone}\nmax_length: 64\nmax_steps: 2\nuse_cpu: true\n")
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    main_of("stage1_mslm.py")(["--config", str(config), "--output_dir", first])
    assert f"--checkpoint {first}" in capsys.readouterr().out
    main_of("stage2_scl.py")(
        ["--config", str(config), "--relation_info", info, "--relations_per_batch", "4", "--checkpoint", first]
        + ["--output_dir", second]
    )
    assert second in capsys.readouterr().out
    main_of("evaluate_episodes.py")(
        ["--model", second, "--data", sources, "--relation_info", info, "--num_episodes", "50", "--settings", "2w1s"]
    )
    assert "2w1s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("recipe", "argv", "message"),
    [
        ("stage1_mslm.py", [], "no sources"),
        ("stage1_mslm.py", ["--sources", "absent.jsonl"], "absent.jsonl"),
        ("stage1_mslm.py", ["--source", "a.jsonl"], "unknown setting --source; did you mean --sources?"),
        ("stage1_mslm.py", ["--config", "absent.yaml"], "can't read the config absent.yaml"),
        (
            "stage1_mslm.py",
            ["--sources", "{wrong}"],
            "wrong.jsonl, line 2, field 'tail': the span [4, 9)",
        ),
        ("stage1_mslm.py", ["--sources", "{rows}", "--backbone", "no/such"], "the backbone no/such can't be loaded"),
        ("stage2_scl.py", ["--sources", "{rows}", "--exclude_relations", "capitol"], "did you mean 'capital'?"),
        ("stage2_scl.py", ["--sources", "{rows}", "--shares", "1", "2"], "shares must be 1 numbers above 0"),
        ("stage2_scl.py", ["--sources", "{rows}", "--tau", "hot"], "argument --tau: invalid float value: 'hot'"),
        ("stage2_scl.py", ["--sources", "{rows}", "--relation_info", "absent.json"], "absent.json"),
        ("evaluate_episodes.py", [], "required: --model"),
        ("evaluate_episodes.py", ["--model", "no/such"], "no/such"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    recipe: str,
    argv: list[str],
    message: str,
    corpus_files: tuple[Path, Path],
    make_backbone: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = tmp_path / "wrong.jsonl"
    row = '{"text": "Ada Kiel", "head": [0, 3], "tail": [4, %d], "relation": "in"}\n'
    wrong.write_text(row % 8 + row % 9)
    argv = [word.format(wrong=wrong, rows=corpus_files[0]) for word in argv]
    if recipe != "evaluate_episodes.py":
        backbone = [] if "--backbone" in argv else ["--backbone", str(make_backbone())]
        argv += ["--output_dir", str(tmp_path / "out"), *backbone, "--max_length", "64", "--relations_per_batch", "4"]
        argv = argv if recipe == "stage2_scl.py" else argv[:-2]
    with pytest.raises(SystemExit) as stop:
        run(lambda: main_of(recipe)(argv))
    assert stop.value.code == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith("error: ") and message in sentence
    assert not (tmp_path / "out").exists()


def test_as_a_process_it_ends_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(RECIPES / "stage1_mslm.py"), "--sources", "absent.jsonl"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(RECIPES.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ") and "absent.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
