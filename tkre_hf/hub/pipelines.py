"""The relation extraction pipeline, with the project's own card beside whatever it saves."""

from __future__ import annotations

import shutil
from pathlib import Path

from tkre_hf.hub.card import refresh_card
from tkre_hf.hub.facts import RESULTS, weight_files
from tkre_hf.hub.marks import CARD, read_text
from tkre_hf.hub.model_card import told_by
from tkre_hf.tkre.loading import optional_file
from tkre_hf.tkre.pipeline import RelationExtractionPipeline
from tkre_hf.training_data import TRAINING_DATA

__all__ = ["RelationExtractionPipeline", "write_pipeline_card"]


def write_pipeline_card(pipe: RelationExtractionPipeline, folder: Path) -> None:
    """Writes the card of a folder that a pipeline was saved to, or whose relations it changed.

    A copy of a checkpoint was trained and measured as that was, and has its licence.

    Args:
        pipe: The pipeline.
        folder: Where it saved; without a model in it, as ``tkre export`` leaves one, there is no card.

    Raises:
        TkreError: A file beside the checkpoint is wrong.
    """
    if not (folder / "config.json").is_file() or not weight_files(folder):
        return
    source = pipe.model.name_or_path
    is_copy = bool(source) and not (Path(source).is_dir() and Path(source).resolve() == folder.resolve())
    told = {}
    if is_copy:
        settings = {"revision": getattr(pipe.model.config, "_commit_hash", None)}
        found = {name: optional_file(source, name, settings) for name in (CARD, TRAINING_DATA, *RESULTS)}
        if card := found.pop(CARD):
            told = told_by(read_text(Path(card)))
        for name, path in found.items():
            # What an earlier checkpoint in the folder was trained on, this one wasn't.
            (folder / name).unlink(missing_ok=True)
            if path is not None:
                shutil.copyfile(path, folder / name)
    refresh_card(folder, **told)


RelationExtractionPipeline.card_writer = staticmethod(write_pipeline_card)
