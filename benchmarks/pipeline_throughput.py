"""Sentences per second of the pipeline, beside those of its encoder alone.

python benchmarks/pipeline_throughput.py
python benchmarks/pipeline_throughput.py --batch_size 64 --data fewrel:wiki --data_dir DIR

The pipeline is timed whole, from rows to results: it reads, marks, tokenizes, pads, encodes, compares with prototypes
and writes results. The encoder gets the very same batches, tokenized and padded beforehand, and does nothing but its
own pass. Both compute in the same numbers; the ratio is what is left of the encoder's speed.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.console import quiet_libraries
from tkre_hf.data import load_records
from tkre_hf.evaluation.page import save_rows
from tkre_hf.evaluation.report import Row, command, machine, table, versions
from tkre_hf.evaluation.timing import compare
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.modeling_tkre import TKREForFewShotClassification
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.training import resolve_backbone


@dataclass
class BenchmarkArguments:
    """What is timed."""

    data: str = field(default="sample:train", metadata={"help": "Sentences, as for tkre evaluate."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with the publisher's files."})
    backbone: str = field(default="minilm", metadata={"help": "The embedded encoder, a folder or a Hub id."})
    sentences: int = field(default=512, metadata={"help": "Sentences in each repetition."})
    relations: int = field(default=16, metadata={"help": "Relations known to the pipeline, one support each."})
    batch_size: int = field(default=32, metadata={"help": "Sentences in a batch."})
    repetitions: int = field(default=7, metadata={"help": "How often both are timed, in turn."})
    max_length: int = field(default=128, metadata={"help": "Longest sequence."})
    device: str = field(default="cpu", metadata={"help": "Where both run, such as cuda:0."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


class PipelineBenchmark:
    """The pipeline and its encoder, on the same sentences."""

    def __init__(self, args: BenchmarkArguments) -> None:
        self.args = args
        split = "validation" if args.data.startswith("fewrel:") else None
        records = load_records(args.data, split=split, data_dir=args.data_dir).shuffle(seed=0)
        # In order of length, as the pipeline takes a list, so that the encoder's batches are the pipeline's.
        chosen = records.select(range(min(args.sentences, len(records))))
        self.records: list[dict[str, Any]] = sorted(chosen, key=lambda record: len(" ".join(record["tokens"])))
        backbone = resolve_backbone(args.backbone)
        processor = TKREProcessor.from_backbone(backbone, max_length=args.max_length)
        model = TKREForFewShotClassification.from_backbone(
            backbone, vocab_size=len(processor.tokenizer), new_tokens=processor.new_tokens
        )
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            self.pipe = load_pipeline(folder, device=args.device)
        supports = {record["relation"]: record for record in records}
        self.pipe.fit(list(supports.values())[: args.relations])
        ids = [features["input_ids"] for features in processor.encode(self.records)]
        self.batches = [
            {name: value.to(self.pipe.device) for name, value in processor.pad(ids[i : i + args.batch_size]).items()}
            for i in range(0, len(ids), args.batch_size)
        ]

    def pipeline(self, _: int = 0) -> float:
        """Sentences per second, from rows to results."""
        start = time.perf_counter()
        results = self.pipe(self.records, batch_size=self.args.batch_size)
        assert len(results) == len(self.records)
        return len(self.records) / (time.perf_counter() - start)

    @torch.inference_mode()
    def encoder(self, _: int = 0) -> float:
        """Sentences per second of the encoder's pass alone."""
        start = time.perf_counter()
        for batch in self.batches:
            states = self.pipe.model.tkre.encoder(**batch).last_hidden_state
        states.sum().item()  # a GPU's work is done only once somebody asks for it
        return len(self.records) / (time.perf_counter() - start)

    def rows(self) -> list[Row]:
        """Times both."""
        for warm_up in (self.pipeline, self.encoder):
            warm_up()
        comparison = compare(self.pipeline, self.encoder, self.args.repetitions)
        row = Row(
            benchmark="pipeline_throughput",
            system="",
            setting=f"{self.args.data}, {len(self.records):,} sentences, batches of {self.args.batch_size}",
            metric="sentences/s",
            value=0.0,
            command=command(),
            versions=versions(),
            machine=f"{machine()}, {torch.get_num_threads()} threads",
        )
        return comparison.rows(row, plain="encoder alone")


def main() -> None:
    (args,) = parse_arguments((BenchmarkArguments,), description=__doc__)
    with quiet_libraries():
        rows = PipelineBenchmark(args).rows()
    print(table(rows))
    ratio = next(row for row in rows if row.system == "ratio, median").value
    print(f"\nThe pipeline runs at {100 * ratio:.1f}% of its encoder's speed.")
    save_rows(args.output, rows)


if __name__ == "__main__":
    run(main)
