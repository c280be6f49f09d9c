"""Writes a Space for the Hub: all that it needs is in the folder, and an upload starts it."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import yaml
from packaging.requirements import Requirement

import tkre_hf
from tkre_hf.errors import TkreError
from tkre_hf.hub.marks import card_text
from tkre_hf.hub.model_card import told_by
from tkre_hf.hub.sources import APACHE

if TYPE_CHECKING:
    from .cli import ServeArguments

_MODEL, _NER = "model", "ner"
# Of a checkpoint: what loads it and what describes it, not a training's other files.
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py", "README.md")
_TRAINING = ("*_results.json", "trainer_state.json", "training_data.json", "demo.json")
_ATTRIBUTES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
_PYTHON = "3.11"

_APP = Template('''"""A Space that extracts relations; written by `tkre serve --export-space`."""

from tkre_hf.serve.app import build, launch_settings
from tkre_hf.serve.cli import ServeArguments, load, model_card
from tkre_hf.serve.session import Extractor

args = ServeArguments($settings)
demo = build(Extractor(load(args)), model_card(args.model))

if __name__ == "__main__":
    demo.launch(**launch_settings())
''')

_README = """
Relation extraction with tkre_hf: type a sentence, choose two entities, and give the relations that you care about by a
few examples or by a description. Nothing is trained; every visitor has relations of their own.

`app.py` starts it, here or with `pip install -r requirements.txt && python app.py`.
"""


def export_space(args: ServeArguments) -> str:
    """Writes ``app.py``, ``requirements.txt``, ``README.md``, tkre_hf itself and, if it is a folder, the checkpoint.

    Args:
        args: As for serving; host, port, device and sharing are the Space's own business.

    Returns:
        What was done, and what to do next.

    Raises:
        TkreError: The folder holds something, or the checkpoint is neither a folder's nor named like one on the Hub.
    """
    folder = Path(str(args.export_space))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TkreError(f"{folder} exists and isn't empty: give another folder for the Space")
    source = Path(args.model)
    _check_model(args.model)
    settings = {}
    copies = [(name, Path(path)) for name, path in _files(args).items()]
    for name, path in copies:
        if not path.is_file():
            raise TkreError(f"{path}: there is no such file")
        settings[name] = name + "".join(path.suffixes)
    if args.ner is not None:
        _check_model(args.ner)
        settings["ner"] = _NER if Path(args.ner).is_dir() else args.ner
    requirements = _requirements()

    folder.mkdir(parents=True, exist_ok=True)
    for model, target in ((args.model, _MODEL), (args.ner, _NER)):
        if model is not None and Path(model).is_dir():
            _copy_checkpoint(Path(model), folder / target)
    for name, path in copies:
        shutil.copyfile(path, folder / settings[name])
    settings = {"model": _MODEL if source.is_dir() else args.model, **settings}
    package = Path(tkre_hf.__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    given = ", ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())
    (folder / "app.py").write_text(_APP.substitute(settings=given), encoding="utf-8")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    (folder / "README.md").write_text(_front_matter(args.model, source.is_dir()) + _README, encoding="utf-8")
    (folder / ".gitattributes").write_text(_ATTRIBUTES, encoding="utf-8")
    return f"A Space is in {folder}. To publish it:\n\n  hf upload YOUR_NAME/YOUR_SPACE {folder} --repo-type space\n"


def _check_model(name: str) -> None:
    """Refuses what is neither a checkpoint's folder nor named like one on the Hub."""
    source = Path(name)
    if source.is_dir() and not (source / "config.json").is_file():
        raise TkreError(f"{source} holds no checkpoint: there is no config.json in it")
    if not source.is_dir() and (name.count("/") > 1 or source.is_absolute() or name.startswith(".")):
        raise TkreError(f"{name} is no folder")


def _files(args: ServeArguments) -> dict[str, str]:
    named = {"relations": args.relations, "supports": args.supports}
    return {name: path for name, path in named.items() if path is not None}


def _copy_checkpoint(source: Path, target: Path) -> None:
    target.mkdir()
    left_out = {path for pattern in _TRAINING for path in source.glob(pattern)}
    for path in sorted({path for pattern in _FILES for path in source.glob(pattern)} - left_out):
        shutil.copyfile(path, target / path.name)


def _requirements() -> list[str]:
    """What the package and its page need."""
    try:
        declared = metadata.requires("tkre-hf") or []
    except metadata.PackageNotFoundError:
        raise TkreError("tkre-hf runs from its sources alone, so what it needs is unknown: install it first") from None
    found = []
    for line in declared:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": "serve"}):
            continue
        requirement.marker = None
        found.append(str(requirement))
    return sorted(found)


def _licence(source: Path) -> str | None:
    """Of what is in the Space: tkre_hf's own, or the checkpoint's where one is in it, if its card states one."""
    if not source.is_dir():
        return APACHE
    return told_by(card_text(source) or "").get("licence")


def _front_matter(model: str, is_folder: bool) -> str:
    licence = _licence(Path(model))
    settings = {
        "title": "Relation extraction",
        "emoji": "🔗",
        "colorFrom": "blue",
        "colorTo": "green",
        "sdk": "gradio",
        "sdk_version": _gradio_version(),
        "python_version": _PYTHON,
        "app_file": "app.py",
        "pinned": False,
        **({"license": licence} if licence else {}),
        "short_description": "Few-shot relation extraction, taught by examples",
    }
    if not is_folder:
        settings["models"] = [model]
    return f"---\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)}---\n"


def _gradio_version() -> str:
    try:
        return metadata.version("gradio")
    except metadata.PackageNotFoundError:
        raise TkreError("the Space's README names Gradio's version: pip install 'tkre-hf[serve]' first") from None
