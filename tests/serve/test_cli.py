"""``tkre serve``: the page from the command line, and the Space that it writes."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from tkre_hf.cli import main
from tkre_hf.serve.cli import ServeArguments, load, model_card
from tkre_hf.serve.space import _front_matter

from ..conftest import RELATIONS
from .conftest import CARD


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--model"),
        (["--model", "no/such/folder"], "no/such/folder"),
        (["--model", "x", "--port", "70000"], "port is 70000"),
        (["--model", "x", "--relations", "nowhere.yaml"], "nowhere.yaml"),
        (["--model", "x", "--prot", "80"], "--port"),
        (["--model", "./x", "--export-space", "space"], "./x is no folder"),
        (["--model", ".", "--export-space", "space"], "holds no checkpoint"),
        (["--model", "me/x", "--relations", "nowhere.yaml", "--export-space", "space"], "nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_sentence(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("gradio", reason="the page needs Gradio, of the extra [serve]")
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tkre serve: ") and message in line
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tkre_hf.serve.cli.find_spec", lambda name: None)
    assert main(["serve", "--model", "x"]) == 2
    assert "pip install 'tkre-hf[serve]'" in capsys.readouterr().err


def test_serves_until_it_is_stopped(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gradio = pytest.importorskip("gradio", reason="the page needs Gradio, of the extra [serve]")
    seen: list[dict[str, Any]] = []

    def block_thread(demo: Any) -> None:
        with urllib.request.urlopen(f"{demo.local_url}config", timeout=30) as answer:
            seen.append(json.loads(answer.read()))
        # Another one finds the port taken.
        assert main(arguments) == 2
        demo.close()

    monkeypatch.setattr(gradio.Blocks, "block_thread", block_thread)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    arguments = ["serve", "--model", str(checkpoint), "--port", port]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"Serving {checkpoint} at http://127.0.0.1:{port}/; stop with Ctrl+C.\n")
    assert f"can't listen at 127.0.0.1, port {port}" in printed.err
    shown = json.dumps(seen)
    assert "It says **much**" in shown and "license: apache-2.0" not in shown


def test_visitors_start_with_the_relations_of_the_files(
    checkpoint: Path, corpus_files: tuple[Path, Path], tmp_path: Path
) -> None:
    rows, info = corpus_files
    pipe = load(ServeArguments(str(checkpoint), relations=str(info)))
    assert (
        pipe.relations == list(RELATIONS) and pipe.prototypes is not None and not len(pipe.prototypes.support_labels)
    )
    supports = tmp_path / "supports.jsonl"
    lines = [line for line in rows.read_text().splitlines() if json.loads(line)["relation"] in ("capital", "mother")]
    supports.write_text("\n".join(lines[:4] + lines[-4:]))
    pipe = load(ServeArguments(str(checkpoint), supports=str(supports)))
    assert pipe.relations == ["capital", "mother"] and pipe.prototypes is not None
    assert len(pipe.prototypes.support_labels) == 8


def test_a_checkpoint_without_a_card_has_none(checkpoint: Path, tmp_path: Path) -> None:
    assert model_card(str(checkpoint)) == CARD
    assert model_card(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: cc-by-nc-4.0\n---\n\n# Mine\n", "cc-by-nc-4.0"),
        ("# No metadata\n", None),
        ("---\nlicense: [\n---\n", None),
        (None, None),
        ("the Hub's", "apache-2.0"),
    ],
)
def test_a_space_has_its_checkpoint_s_licence(
    card: str | None, licence: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tkre_hf.serve.space._gradio_version", lambda: "6.0.0")
    is_folder = card != "the Hub's"
    if is_folder and card is not None:
        (tmp_path / "README.md").write_text(card)
    front = _front_matter(str(tmp_path) if is_folder else "ada/m", is_folder)
    assert yaml.safe_load(front.strip().strip("-")).get("license") == licence


def test_a_space_has_all_that_it_needs(
    checkpoint: Path, corpus_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gradio = pytest.importorskip("gradio", reason="a Space names Gradio's version")
    (checkpoint / "trainer_state.json").write_text("{}")
    space = tmp_path / "space"
    options = ["--relations", str(corpus_files[1]), "--export-space", str(space)]
    assert main(["serve", "--model", str(checkpoint), *options]) == 0
    assert f"hf upload YOUR_NAME/YOUR_SPACE {space} --repo-type space" in capsys.readouterr().out

    front, _, text = (space / "README.md").read_text().removeprefix("---\n").partition("---\n")
    settings = yaml.safe_load(front)
    assert settings["license"] == "apache-2.0" and settings["sdk"] == "gradio" and settings["app_file"] == "app.py"
    assert settings["sdk_version"] == gradio.__version__ and "models" not in settings and text.strip()
    names = {Requirement(line).name for line in (space / "requirements.txt").read_text().splitlines()}
    assert {"torch", "transformers", "gradio", "matplotlib", "networkx"} <= names
    assert not {"pytest", "peft", "optuna"} & names
    assert not (space / "model" / "trainer_state.json").exists()
    for file in space.rglob("*"):
        if file.suffix in (".py", ".md", ".txt") and file.parent == space:
            assert str(tmp_path) not in file.read_text() and str(checkpoint.parent) not in file.read_text()

    # As the Hub runs it, but for the server: with the folder's own package, from the folder.
    code = (
        "import gradio, runpy, tkre_hf\n"
        "gradio.Blocks.launch = lambda demo, **settings: print(tkre_hf.__file__, sorted(settings), demo.config)\n"
        "runpy.run_path('app.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=space, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(space / "tkre_hf")) and "app_kwargs" in done.stdout
    assert all(label in done.stdout for label in RELATIONS) and "It says **much**" in done.stdout

    assert main(["serve", "--model", str(checkpoint), *options]) == 2
    assert "exists and isn't empty" in capsys.readouterr().err


def test_a_space_has_its_tagger_and_both_files_whatever_their_names(
    checkpoint: Path, corpus_files: tuple[Path, Path], ner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio", reason="a Space names Gradio's version")
    for name, file in zip(("supports", "relations"), corpus_files, strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.jsonl").write_bytes(file.read_bytes())
    options = [
        "--relations",
        str(tmp_path / "relations/data.jsonl"),
        "--supports",
        str(tmp_path / "supports/data.jsonl"),
    ]
    space = tmp_path / "space"
    assert main(["serve", "--model", str(checkpoint), "--ner", str(ner), *options, "--export-space", str(space)]) == 0
    assert str(tmp_path) not in (space / "app.py").read_text()
    monkeypatch.chdir(space)
    (given,) = re.findall(r"^args = (ServeArguments\(.*\))$", (space / "app.py").read_text(), re.M)
    pipe = load(eval(given, {"ServeArguments": ServeArguments}))
    assert set(pipe.relations) == set(RELATIONS) and pipe.prototypes is not None
    assert len(pipe.prototypes.support_labels) and pipe.ner is not None


def test_a_tagger_that_is_nowhere_makes_no_space(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio", reason="a Space names Gradio's version")
    argv = ["serve", "--model", str(checkpoint), "--ner", str(tmp_path / "none"), "--export-space"]
    assert main([*argv, str(tmp_path / "space")]) == 2
    assert f"{tmp_path / 'none'} is no folder" in capsys.readouterr().err and not (tmp_path / "space").exists()


def test_a_space_of_a_hub_id_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio", reason="a Space names Gradio's version")
    space = tmp_path / "space"
    assert main(["serve", "--model", "me/tkre-bert", "--ner", "me/ner", "--export-space", str(space)]) == 0
    assert 'ServeArguments(model="me/tkre-bert", ner="me/ner")' in (space / "app.py").read_text()
    assert yaml.safe_load((space / "README.md").read_text().split("---")[1])["models"] == ["me/tkre-bert"]
    assert not (space / "model").exists()
