"""Sentences per second of a training step of either stage, ours beside a straightforward implementation.

python benchmarks/training_step.py
python benchmarks/training_step.py --data_dir DIR    # FewRel's training relations, not the bundled corpus

Ours is the Trainer as the recipes run it: bfloat16 where the processor has it, sentences of like length together,
padding to the longest, logits at the masked positions alone, one matrix of similarities. Straightforward is the same
model and the same losses as a plain script has them; see ``straightforward.py``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from straightforward import PlainMSLM, PlainSCL
from transformers import PrinterCallback, TrainerCallback

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.console import quiet_libraries
from tkre_hf.evaluation.page import save_rows
from tkre_hf.evaluation.report import Row, command, machine, table, versions
from tkre_hf.evaluation.timing import compare
from tkre_hf.tkre.modeling_tkre import TKREForMaskedSpanLM, TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords, LengthBatchSampler
from tkre_hf.tkre.trainer import MSLMTrainer, SCLTrainer
from tkre_hf.training import MSLMTrainingArguments, SCLTrainingArguments, build
from tkre_hf.training_data import SCLStageArguments, load_training_records, relation_texts

STAGES = ("stage 1", "stage 2")


@dataclass
class BenchmarkArguments:
    """What is timed."""

    data_dir: str | None = field(
        default=None, metadata={"help": "Folder of FewRel's files; without it the bundled corpus is trained on."}
    )
    backbone: str = field(default="minilm", metadata={"help": "The embedded encoder, a folder or a Hub id."})
    repetitions: int = field(default=5, metadata={"help": "How often both are timed, in turn."})
    steps: int = field(default=12, metadata={"help": "Steps of ours in each repetition."})
    plain_steps: int = field(default=1, metadata={"help": "Steps of the straightforward one, whose steps are alike."})
    warmup_steps: int = field(default=4, metadata={"help": "Steps before the clock starts, of ours."})
    sentences: int = field(default=64, metadata={"help": "Sentences in a batch of stage 1."})
    relations: int = field(default=16, metadata={"help": "Relations in a batch of stage 2."})
    per_relation: int = field(default=3, metadata={"help": "Sentences of each of them."})
    max_length: int = field(default=128, metadata={"help": "Longest sequence, and what is padded to."})
    stages: list[str] = field(default_factory=lambda: list(STAGES), metadata={"help": "Which stages."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


def synchronize() -> None:
    """Waits for what the accelerator was given to do."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


class _Clock(TrainerCallback):
    """When each step ended; the next one's batch is made after that, so fetching it counts."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        synchronize()
        self.ends.append(time.perf_counter())


class _WholeBatches(MSLMTrainer):
    """Stage 1 without the epoch's last sentences, which would be a smaller batch."""

    def batch_sampler(self) -> LengthBatchSampler:
        sampler = super().batch_sampler()
        sampler.lengths = sampler.lengths[: len(sampler.lengths) // sampler.batch_size * sampler.batch_size]
        return sampler


class TrainingBenchmark:
    """Both implementations of both stages, on the same records and from the same weights."""

    def __init__(self, args: BenchmarkArguments) -> None:
        self.args = args
        self.source = "sample:train" if args.data_dir is None else "fewrel:wiki"
        self.stage = SCLStageArguments(
            sources=[self.source], data_dir=args.data_dir, backbone=args.backbone, max_length=args.max_length
        )
        self.records = load_training_records(self.stage).records
        self.labels = sorted(set(self.records["relation"]))
        texts = relation_texts(self.stage, self.labels).values()
        self.names, self.descriptions = [info.name for info in texts], [info.description for info in texts]
        self._encoded: EncodedRecords | None = None

    def training_args(self, stage: str, folder: str, seed: int = 0) -> MSLMTrainingArguments | SCLTrainingArguments:
        """The recipes' settings, with this benchmark's number of steps."""
        args = self.args
        common: dict[str, Any] = {
            "output_dir": folder,
            "max_steps": args.warmup_steps + args.steps,
            "seed": seed,
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        }
        if stage == "stage 1":
            return MSLMTrainingArguments(per_device_train_batch_size=args.sentences, **common)
        return SCLTrainingArguments(
            relations_per_batch=args.relations, sentences_per_relation=args.per_relation, **common
        )

    def trainer(self, training_args: MSLMTrainingArguments | SCLTrainingArguments) -> MSLMTrainer | SCLTrainer:
        """Our trainer of the stage that the settings are of."""
        if isinstance(training_args, MSLMTrainingArguments):
            processor, model = build(TKREForMaskedSpanLM, self.stage, training_args, self.records)
            return _WholeBatches(model, training_args, self.encoded(processor), processor)
        processor, scl_model = build(TKREForPreTraining, self.stage, training_args, self.records)
        anchors = processor.encode_anchors(self.names, self.descriptions)
        return SCLTrainer(scl_model, training_args, self.encoded(processor), anchors, processor)

    def encoded(self, processor: TKREProcessor) -> EncodedRecords:
        """The sentences, encoded the first time, for all processors here are alike."""
        if self._encoded is None:
            self._encoded = EncodedRecords(self.records, processor, self.labels)
        return self._encoded

    def ours(self, stage: str, repetition: int) -> float:
        """Sentences per second of our trainer's steps, past the warm-up."""
        args = self.args
        with tempfile.TemporaryDirectory() as folder:
            seconds = self.seconds(self.trainer(self.training_args(stage, folder, repetition)))
        return args.steps * self.sentences(stage) / seconds

    def sentences(self, stage: str) -> int:
        """Sentences in a batch."""
        return self.args.sentences if stage == "stage 1" else self.args.relations * self.args.per_relation

    def seconds(self, trainer: MSLMTrainer | SCLTrainer, *callbacks: TrainerCallback) -> float:
        """How long a trainer's steps take, past the warm-up."""
        clock = _Clock()
        for callback in (*callbacks, clock):
            trainer.add_callback(callback)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return clock.ends[-1] - clock.ends[self.args.warmup_steps - 1]

    def plain(self, stage: str) -> Callable[[int], float]:
        """Sentences per second of the straightforward implementation's steps, past the first."""
        args = self.args
        with tempfile.TemporaryDirectory() as folder:
            settings = self.training_args(stage, folder)
        records = list(self.records)
        trainer: PlainMSLM | PlainSCL
        if stage == "stage 1":
            processor, model = build(TKREForMaskedSpanLM, self.stage, settings, self.records, sparse_prediction=False)
            trainer = PlainMSLM(model, processor, records, args.sentences)
        else:
            processor, scl_model = build(TKREForPreTraining, self.stage, settings, self.records)
            texts = dict(zip(self.labels, zip(self.names, self.descriptions, strict=True), strict=True))
            trainer = PlainSCL(scl_model, processor, records, texts, args.relations, args.per_relation)
        trainer.step()

        def rate(_: int) -> float:
            start = time.perf_counter()
            sentences = sum(trainer.step() for _ in range(args.plain_steps))
            return sentences / (time.perf_counter() - start)

        return rate

    def rows(self) -> list[Row]:
        """Times each stage."""
        rows = []
        for stage in self.args.stages:
            comparison = compare(partial(self.ours, stage), self.plain(stage), self.args.repetitions)
            row = Row(
                benchmark="training_step",
                system="",
                setting=f"{stage}, {self.source}",
                metric="sentences/s",
                value=0.0,
                command=command(),
                versions=versions(),
                machine=f"{machine()}, {torch.get_num_threads()} threads",
                source=self.source,
            )
            rows += comparison.rows(row)
        return rows


def main() -> None:
    (args,) = parse_arguments((BenchmarkArguments,), description=__doc__)
    with quiet_libraries():
        rows = TrainingBenchmark(args).rows()
    print(table(rows))
    save_rows(args.output, rows)


if __name__ == "__main__":
    run(main)
