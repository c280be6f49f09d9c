"""What the families' trainers share where a model leaves the machine: a card that says what it is, and no pickle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from transformers import Trainer, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy

# Writes the card of a trainer's output folder; the mapping is what the caller of ``create_model_card`` asked for.
CardWriter = Callable[[Trainer, dict[str, Any]], None]


class CardTrainer(Trainer):
    """A Trainer that publishes the project's own card.

    A family knows nothing of cards: who wires the parts together sets :attr:`card_writer` (``tkre_hf.hub.trainers``,
    which the public names of the trainers come from). Without one the card is transformers' own.

    Raises:
        ValueError: With ``push_to_hub``, ``hub_strategy`` isn't ``end``.
    """

    card_writer: ClassVar[CardWriter | None] = None

    def __init__(self, *, args: TrainingArguments, **kwargs: Any) -> None:
        if args.push_to_hub and args.hub_strategy != HubStrategy.END:
            raise ValueError(
                f"hub_strategy is {HubStrategy(args.hub_strategy).value}: set it to end, for on the way the Trainer "
                "publishes its own settings, a pickle with the token in it"
            )
        super().__init__(args=args, **kwargs)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Writes ``README.md``, which ``push_to_hub`` publishes; a card that a person edited stays.

        Args:
            language: ISO 639-1, where the sources don't say it.
            license: Of the model, as the Hub spells it.
            tags: Beside the project's own.
            model_name: What the card calls the model.
            finetuned_from: Hub id of what training started from, where the run doesn't say it.
            tasks: Further tags.
            dataset_tags: Hub ids of data sets that were trained on.
            dataset: Names of data sets, where the run doesn't say it.
            dataset_args: Only in transformers' own card.
        """
        if not self.is_world_process_zero():
            return
        wishes: dict[str, Any] = {
            "language": language,
            "license": license,
            "tags": tags,
            "model_name": model_name,
            "finetuned_from": finetuned_from,
            "tasks": tasks,
            "dataset_tags": dataset_tags,
            "dataset": dataset,
        }
        writer = type(self).card_writer
        if writer is None:
            super().create_model_card(**wishes, dataset_args=dataset_args)
        else:
            writer(self, wishes)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict=state_dict)
        folder = Path(output_dir if output_dir is not None else str(self.args.output_dir))
        if not folder.name.startswith(f"{PREFIX_CHECKPOINT_DIR}-"):
            # A pickle has no place in a folder that is published; the checkpoints keep theirs to be gone on from.
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
