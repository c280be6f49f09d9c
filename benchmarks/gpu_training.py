"""What a GPU makes of both stages: sentences per second, the share of its peak, memory, and what a batch costs.

python benchmarks/gpu_training.py --data_dir DIR --output docs/results/gpu.json

DIR holds FewRel's files; without it the bundled corpus is trained on. Trained are the embedded encoder and BERT's two
shapes, whose weights are random, for the rate doesn't depend on them. Operations are counted, padding's among them,
and set against the bfloat16 matrix product that the same run measures. Without a GPU it is skipped.
"""

from __future__ import annotations

import gc
import itertools
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from training_step import STAGES, TrainingBenchmark, synchronize
from training_step import BenchmarkArguments as StepArguments
from transformers import AutoTokenizer, BertConfig, BertModel, TrainerCallback

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.console import quiet_libraries
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.page import save_rows
from tkre_hf.evaluation.report import Row, command, machine, table, versions
from tkre_hf.tkre.trainer import MSLMTrainer, SCLTrainer
from tkre_hf.training import resolve_backbone
from tkre_hf.training_data import MINILM

# Hidden size, layers, heads; BERT's own.
SHAPES = {"BERT-base": (768, 12, 12), "BERT-large": (1024, 24, 16)}

# The matrix product whose rate counts as the peak: its sides, and how often it is done.
PEAK_SIZE, PEAK_REPETITIONS = 8192, 20


@dataclass
class BenchmarkArguments:
    """What is timed."""

    data_dir: str | None = field(
        default=None, metadata={"help": "Folder of FewRel's files; without it the bundled corpus is trained on."}
    )
    encoders: list[str] = field(
        default_factory=lambda: [MINILM, *SHAPES],
        metadata={"help": f"What is trained: the embedded encoder, a folder, a Hub id, or {' or '.join(SHAPES)}."},
    )
    per_relation: list[int] = field(
        default_factory=lambda: [3, 12, 48],
        metadata={"help": "Sentences of each of 16 relations in stage 2's batches; stage 1's have a third more."},
    )
    steps: int = field(default=20, metadata={"help": "Steps that are timed."})
    warmup_steps: int = field(default=10, metadata={"help": "Steps before the clock starts."})
    use_cpu: bool = field(default=False, metadata={"help": "Train on the processor, to try it out."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


class _Operations(TrainerCallback):
    """Floating-point operations up to the end of each step."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self.counter, self.ends = counter, [0]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(self.counter.get_total_flops())


def peak_rate(device: torch.device, size: int) -> float:
    """Operations per second of a bfloat16 matrix product of random numbers."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    synchronize()
    start = time.perf_counter()
    for _ in range(PEAK_REPETITIONS):
        left @ right
    synchronize()
    return 2 * size**3 * PEAK_REPETITIONS / (time.perf_counter() - start)


def make_backbone(shape: str, folder: Path) -> str:
    """Saves an encoder of one of BERT's shapes, with random weights and the embedded encoder's tokenizer."""
    hidden, layers, heads = SHAPES[shape]
    words = AutoTokenizer.from_pretrained(resolve_backbone(MINILM))
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
    )
    BertModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


class GpuBenchmark:
    """Both stages of one encoder.

    Args:
        args: What is timed.
        system: What the rows call the encoder.
        backbone: Its folder.
        peak: The device's operations per second.
        row: What the rows have in common.
    """

    def __init__(self, args: BenchmarkArguments, system: str, backbone: str, peak: float, row: Row) -> None:
        self.args, self.peak, self.row = args, peak, replace(row, system=system)
        self.benchmark = TrainingBenchmark(StepArguments(data_dir=args.data_dir, backbone=backbone))
        self.benchmark.args.steps, self.benchmark.args.warmup_steps = args.steps, args.warmup_steps

    def trainer(self, stage: str, folder: str) -> MSLMTrainer | SCLTrainer:
        """A trainer of the stage, which draws the same batches each time."""
        training_args = self.benchmark.training_args(stage, folder)
        return self.benchmark.trainer(replace(training_args, use_cpu=self.args.use_cpu))

    def operations(self, stage: str, folder: str) -> float:
        """Floating-point operations of the steps that are timed."""
        with FlopCounterMode(display=False) as counter:
            counted = _Operations(counter)
            self.benchmark.seconds(self.trainer(stage, folder), counted)
        return counted.ends[-1] - counted.ends[self.args.warmup_steps]

    def batch_seconds(self, trainer: MSLMTrainer | SCLTrainer) -> float:
        """How long it takes to make as many batches, on the processor, without training on them."""
        batches = iter(trainer.get_train_dataloader())
        next(batches)
        start = time.perf_counter()
        made = sum(1 for _ in itertools.islice(batches, self.args.steps))
        return (time.perf_counter() - start) / made * self.args.steps

    def rows(self) -> Iterable[Row]:
        """Times each stage at each size of batch."""
        settings = self.benchmark.args
        for stage, per_relation in itertools.product(STAGES, self.args.per_relation):
            settings.per_relation, settings.sentences = per_relation, settings.relations * per_relation * 4 // 3
            with tempfile.TemporaryDirectory() as folder:
                # Or the trainer before would still hold its model, whose memory would be counted.
                gc.collect()
                on_gpu = torch.cuda.is_available() and not self.args.use_cpu
                if on_gpu:
                    torch.cuda.reset_peak_memory_stats()
                trainer = self.trainer(stage, folder)
                batches = self.batch_seconds(trainer)
                seconds = self.benchmark.seconds(trainer)
                memory = torch.cuda.max_memory_allocated() if on_gpu else 0
                del trainer
                operations = self.operations(stage, folder)
            sentences = self.benchmark.sentences(stage)
            values = {
                ("gpu_training", "sentences/s"): self.args.steps * sentences / seconds,
                ("gpu_share_of_peak", "percent"): 100 * operations / seconds / self.peak,
                ("gpu_operations", "GFLOP"): operations / self.args.steps / 1e9,
                ("gpu_step", "milliseconds"): 1000 * seconds / self.args.steps,
                ("gpu_batch", "milliseconds"): 1000 * batches / self.args.steps,
                **({("gpu_memory", "GiB"): memory / 2**30} if memory else {}),
            }
            for (benchmark, metric), value in values.items():
                row = replace(self.row, benchmark=benchmark, metric=metric, value=float(f"{value:.4g}"))
                yield replace(row, setting=f"{stage}, {sentences} sentences", n=self.args.steps)


def main() -> None:
    (args,) = parse_arguments((BenchmarkArguments,), description=__doc__)
    if min(args.steps, args.warmup_steps) < 1:
        raise TkreError(f"steps is {args.steps} and warmup_steps {args.warmup_steps}: expected at least 1 of both")
    if not args.use_cpu and not torch.cuda.is_available():
        print("skipped: there is no GPU; to try it out, slowly, give --use_cpu")
        return
    device = torch.device("cpu" if args.use_cpu else "cuda")
    peak = peak_rate(device, PEAK_SIZE if device.type == "cuda" else 512)
    row = Row("", "", "", "", 0.0, command=command(), versions=versions(), machine=machine())
    product = replace(row, benchmark="gpu_peak", system="matrix product", setting="bfloat16", metric="TFLOP/s")
    rows = [replace(product, value=float(f"{peak / 1e12:.4g}"), n=PEAK_REPETITIONS)]
    row = replace(row, source="sample:train" if args.data_dir is None else "fewrel:wiki")
    with ExitStack() as stack:
        stack.enter_context(quiet_libraries())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in args.encoders:
            backbone = make_backbone(name, folder / name) if name in SHAPES else resolve_backbone(name)
            rows += GpuBenchmark(args, name, backbone, peak, row).rows()
            save_rows(args.output, rows, "GPU")
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        print(f"\n{benchmark}\n\n{table([row for row in rows if row.benchmark == benchmark])}")


if __name__ == "__main__":
    run(main)
