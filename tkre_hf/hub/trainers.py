"""The families' trainers, with the project's own card and publishing in their ``push_to_hub``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import Trainer

from tkre_hf.card_trainer import CardTrainer
from tkre_hf.hub.model_card import write_card
from tkre_hf.hub.publish import publish, push_arguments
from tkre_hf.pfhin.trainer import PFHINTrainer
from tkre_hf.places import without_folders
from tkre_hf.stage_settings import stage_settings
from tkre_hf.tkre.trainer import MSLMTrainer, RelationTrainer, SCLTrainer

__all__ = ["MSLMTrainer", "PFHINTrainer", "RelationTrainer", "SCLTrainer", "publish_trainer", "write_trainer_card"]


def write_trainer_card(trainer: Trainer, wishes: dict[str, Any]) -> None:
    """Writes the card of a trainer's output folder, from what a stage left there or else from the trainer itself.

    Args:
        trainer: Any of the project's.
        wishes: What the caller of ``create_model_card`` asked for.

    Raises:
        TkreError: A file beside the checkpoint is wrong.
    """
    args = trainer.args
    folder = Path(str(args.output_dir))
    model: Any = trainer.model
    model = getattr(model, "get_base_model", lambda: model)()
    stage = {
        "stage": type(model).__name__,
        "backbone": without_folders(wishes["finetuned_from"] or ""),
        "base_model": wishes["finetuned_from"],
        "sources": _words(wishes["dataset"]),
        "add_sources": [],
        "seed": args.seed,
        "settings": {**stage_settings(None, args), "processes": args.world_size},
        "sentences" if model.config.model_type == "tkre" else "nodes": len(trainer.train_dataset),  # type: ignore[arg-type]
    }
    write_card(
        folder,
        name=getattr(trainer, "hub_model_id", None) or wishes["model_name"],
        licence=wishes["license"],
        tags=[*_words(wishes["tags"]), *_words(wishes["tasks"])],
        language=wishes["language"],
        datasets=_words(wishes["dataset_tags"]),
        otherwise=[stage],
    )


def publish_trainer(trainer: Trainer, asked: dict[str, Any]) -> Any:
    """Publishes a trainer's output folder.

    Args:
        trainer: Any of the project's.
        asked: Arguments of its ``push_to_hub``: ``message``, ``blocking``, ``token``, ``revision``, ``private``.

    Raises:
        TkreError: As :func:`~tkre_hf.hub.publish.publish`; the model is saved all the same.
    """
    asked = dict(asked)
    api, blocking = HfApi(token=asked.pop("token")), asked.pop("blocking")
    args = push_arguments(trainer.args, Path(str(trainer.args.output_dir)), repo=trainer.hub_model_id, **asked)
    return publish(args, api) if blocking else api.run_as_future(publish, args, api)


def _words(value: str | Sequence[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


CardTrainer.card_writer = staticmethod(write_trainer_card)
CardTrainer.publisher = staticmethod(publish_trainer)
