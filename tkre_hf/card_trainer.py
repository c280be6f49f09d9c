"""What the families' trainers share where a model leaves the machine: a card that says what it is, and no pickle."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from transformers import Trainer, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy

logger = logging.getLogger(__name__)

# Writes the card of a trainer's output folder; the mapping is what the caller of ``create_model_card`` asked for.
CardWriter = Callable[[Trainer, dict[str, Any]], None]
# Publishes a trainer's output folder, as the arguments of ``push_to_hub`` by their names say; gives the address.
Publisher = Callable[[Trainer, dict[str, Any]], Any]


class CardTrainer(Trainer):
    """A Trainer that publishes the project's own card.

    A family knows nothing of cards: who wires the parts together sets :attr:`card_writer` and :attr:`publisher`
    (``tkre_hf.hub.trainers``, which the public names of the trainers come from). Without them card and upload are
    transformers' own.

    Raises:
        ValueError: With ``push_to_hub``, ``hub_strategy`` isn't ``end``.
    """

    card_writer: ClassVar[CardWriter | None] = None
    publisher: ClassVar[Publisher | None] = None

    def __init__(self, *, args: TrainingArguments, **kwargs: Any) -> None:
        if args.push_to_hub and args.hub_strategy != HubStrategy.END:
            raise ValueError(
                f"hub_strategy is {HubStrategy(args.hub_strategy).value}: set it to end, for on the way the Trainer "
                "publishes its own settings, a pickle with the token in it"
            )
        if args.n_gpu > 1:
            # The Trainer would cut each batch into parts (DataParallel), which belong together in all our losses.
            logger.warning("training on one of %d GPUs: start it with accelerate launch to use them all", args.n_gpu)
            args._n_gpu = 1
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

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Saves the model and publishes it with its card, as ``tkre push`` does: what stays at home there does here.

        Args:
            commit_message: The commit's message.
            blocking: Wait until all is sent.
            token: Of the Hub; that of the settings by default.
            revision: Branch to commit to; that of the settings by default.
            private: Make the repository private; as the settings say by default.
            **kwargs: As of :meth:`create_model_card`.

        Returns:
            The commit's address, or its future where it isn't waited for; ``None`` but in the first process.
        """
        publisher = type(self).publisher
        if publisher is None:
            more = {} if private is None else {"private": private}  # transformers 4 has no such argument
            return super().push_to_hub(commit_message, blocking, token, revision, **more, **kwargs)
        token = token if token is not None else self.args.hub_token
        if hasattr(self.callback_handler, "on_push_begin"):  # since transformers 5
            self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        tags = kwargs.pop("tags", None) or []
        tags = [*([tags] if isinstance(tags, str) else tags), *(getattr(self.model, "model_tags", None) or [])]
        self.create_model_card(tags=tags, **kwargs)
        asked = {"message": commit_message, "blocking": blocking, "token": token}
        return publisher(self, {**asked, "revision": revision, "private": private})

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict=state_dict)
        folder = Path(output_dir if output_dir is not None else str(self.args.output_dir))
        if not folder.name.startswith(f"{PREFIX_CHECKPOINT_DIR}-"):
            # A pickle has no place in a folder that is published; the checkpoints keep theirs to be gone on from.
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
