"""Trains SetFit on what standard input says and writes what it predicts: the other half of kshot_vs_setfit.py.

Runs in an environment of its own, which has SetFit and not tkre_hf. The job is one JSON object: ``backbone``,
``train`` and ``test`` (``text`` and ``label`` columns), ``settings`` of ``setfit.TrainingArguments``, ``most_steps``
(where the settings come to more, they are cut to so many; -1: all), ``threads`` and ``output``, the file that the
answer goes to.
"""

from __future__ import annotations

import json
import math
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from setfit.sampler import ContrastiveDataset


def all_steps(train: dict[str, list[str]], arguments: TrainingArguments) -> int:
    """How many steps of contrastive training the settings come to."""
    pairs = ContrastiveDataset(
        train["text"], train["label"], False, arguments.num_iterations, arguments.sampling_strategy
    )
    return math.ceil(len(pairs) / arguments.embedding_batch_size) * int(arguments.embedding_num_epochs)


def main() -> None:
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    model = SetFitModel.from_pretrained(job["backbone"])
    arguments = TrainingArguments(
        output_dir=job["folder"], report_to="none", save_strategy="no", show_progress_bar=False, **job["settings"]
    )
    steps = planned = all_steps(job["train"], arguments)
    # Not set where it is more: SetFit would go through its pairs again until there are as many.
    if 0 < job["most_steps"] < planned:
        steps = arguments.max_steps = job["most_steps"]
    trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(job["train"]))
    start = time.perf_counter()
    trainer.train()
    minutes = (time.perf_counter() - start) / 60
    predicted = [str(label) for label in model.predict(job["test"]["text"])]
    packages = ("setfit", "sentence-transformers", "transformers", "torch")
    answer = {"predicted": predicted, "minutes": minutes, "versions": {name: version(name) for name in packages}}
    answer |= {"steps": steps, "all_steps": planned}
    Path(job["output"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
