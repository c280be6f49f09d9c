"""Trains SetFit on what standard input says and writes what it predicts: the other half of kshot_vs_setfit.py.

Runs in an environment of its own, which has SetFit and not tkre_hf. The job is one JSON object: ``backbone``,
``train`` and ``test`` (``text`` and ``label`` columns), ``settings`` of ``setfit.TrainingArguments``, ``most_steps``
(where the settings come to more, they are cut to so many; -1: all), ``save_steps`` (a checkpoint in ``folder`` every
so many, which the same job goes on from when it is started again; 0: none), ``threads`` and ``output``, the file that
the answer goes to.
"""

from __future__ import annotations

import json
import math
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

# Beside the checkpoints: how long the training up to each took, by its step.
MINUTES = "minutes.json"


def write(file: Path, content: Any) -> None:
    """Writes JSON, whole or not at all."""
    unfinished = file.with_name(file.name + ".part")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    unfinished.replace(file)


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written whole: the Trainer's state is the last of its files."""
    found = [state.parent for state in folder.glob("checkpoint-*/trainer_state.json")]
    return max(found, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint is of."""
    return int(checkpoint.name.rpartition("-")[2])


class Stopwatch(TrainerCallback):
    """How long training took, what led to the checkpoint that it goes on from included.

    Args:
        folder: Of the checkpoints.
        step: Of the checkpoint; 0 where training starts anew.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.file = folder / MINUTES
        self.known = json.loads(self.file.read_text(encoding="utf-8")) if step else {"0": 0.0}
        self.before, self.start = self.known[str(step)], time.perf_counter()

    @property
    def minutes(self) -> float:
        return float(self.before + (time.perf_counter() - self.start) / 60)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if control.should_save:
            # Before the checkpoint itself: one that was written whole has its minutes.
            self.known[str(state.global_step)] = self.minutes
            write(self.file, self.known)


def all_steps(train: dict[str, list[str]], arguments: Any) -> int:
    """How many steps of contrastive training the settings come to."""
    from setfit.sampler import ContrastiveDataset

    pairs = ContrastiveDataset(
        train["text"], train["label"], False, arguments.num_iterations, arguments.sampling_strategy
    )
    return math.ceil(len(pairs) / arguments.embedding_batch_size) * int(arguments.embedding_num_epochs)


def main() -> None:
    from setfit import SetFitModel, Trainer, TrainingArguments

    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    model = SetFitModel.from_pretrained(job["backbone"])
    saving = {"save_strategy": "steps", "save_steps": job["save_steps"], "save_total_limit": 1}
    arguments = TrainingArguments(
        output_dir=job["folder"],
        report_to="none",
        show_progress_bar=False,
        **(saving if job["save_steps"] else {"save_strategy": "no"}),
        **job["settings"],
    )
    steps = planned = all_steps(job["train"], arguments)
    # Not set where it is more: SetFit would go through its pairs again until there are as many.
    if 0 < job["most_steps"] < planned:
        steps = arguments.max_steps = job["most_steps"]
    trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(job["train"]))
    checkpoint = last_checkpoint(Path(job["folder"])) if job["save_steps"] else None
    watch = Stopwatch(Path(job["folder"]), step_of(checkpoint) if checkpoint else 0)
    trainer.add_callback(watch)
    if checkpoint:
        # SetFit's own train has no such option, and hands it to nobody.
        inner = trainer.st_trainer
        inner.train = partial(inner.train, resume_from_checkpoint=str(checkpoint))
    trainer.train()
    minutes = watch.minutes
    predicted = [str(label) for label in model.predict(job["test"]["text"])]
    packages = ("setfit", "sentence-transformers", "transformers", "torch")
    answer = {"predicted": predicted, "minutes": minutes, "versions": {name: version(name) for name in packages}}
    answer |= {"steps": steps, "all_steps": planned}
    write(Path(job["output"]), answer)


if __name__ == "__main__":
    main()
