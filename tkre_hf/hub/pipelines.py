"""The relation extraction pipeline, with the project's own card beside whatever it saves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tkre_hf.hub.card import refresh_card
from tkre_hf.hub.facts import RESULTS, weight_files
from tkre_hf.hub.marks import CARD, read_text
from tkre_hf.hub.model_card import told_by
from tkre_hf.hub_files import optional_file
from tkre_hf.tkre.pipeline import RelationExtractionPipeline
from tkre_hf.training_data import TRAINING_DATA

__all__ = ["RelationExtractionPipeline", "write_pipeline_card"]


def write_pipeline_card(pipe: RelationExtractionPipeline, folder: Path, is_copy: bool) -> None:
    """Writes the card of a folder that a pipeline was saved to, or whose relations it changed.

    A copy of a checkpoint was trained and measured as that was, and has its licence.

    Args:
        pipe: The pipeline.
        folder: Where it saved; without a model in it, as ``tkre export`` leaves one, there is no card.
        is_copy: Whether it saved the model too, and not its relations alone.

    Raises:
        TkreError: A file beside the checkpoint is wrong.
    """
    if not (folder / "config.json").is_file() or not weight_files(folder):
        return
    source = pipe.checkpoint
    told = _bring(pipe, source, folder) if is_copy and source and Path(source) != folder.resolve() else {}
    refresh_card(folder, **told)


def _bring(pipe: RelationExtractionPipeline, source: str, folder: Path) -> dict[str, Any]:
    """Copies what stands beside a checkpoint, and gives what its card was told."""
    settings = {"revision": getattr(pipe.model.config, "_commit_hash", None)}
    found = {name: optional_file(source, name, settings) for name in (CARD, TRAINING_DATA, *RESULTS)}
    card = found.pop(CARD)
    # A folder that holds a copy already may have figures of its own; what another checkpoint in it was trained and
    # measured on, this one wasn't.
    if _content(found[TRAINING_DATA]) != _content(folder / TRAINING_DATA):
        for name in found:
            (folder / name).unlink(missing_ok=True)
    for name, path in found.items():
        if path is not None and not (folder / name).exists():
            shutil.copyfile(path, folder / name)
    return told_by(read_text(Path(card))) if card else {}


def _content(file: str | Path | None) -> bytes | None:
    return Path(file).read_bytes() if file is not None and Path(file).is_file() else None


RelationExtractionPipeline.card_writer = staticmethod(write_pipeline_card)
