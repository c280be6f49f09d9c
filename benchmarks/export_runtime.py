"""Sentences per second of a checkpoint in five runtimes, and what each costs in few-shot accuracy.

python benchmarks/export_runtime.py
python benchmarks/export_runtime.py --model tkre-bert --data fewrel:wiki --data_dir DIR

PyTorch as it is, compiled, and with 8-bit integers in the encoder's matrices; onnxruntime with the exported graph, and
with that in 8-bit integers. All encode the same batches, tokenized and padded beforehand, in turn, so that whatever
else the machine does slows all of them; ratios are to PyTorch as it is. From the vectors of each the same episodes are
answered, supports and queries encoded alike.
"""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.console import quiet_libraries
from tkre_hf.data import EpisodeDataset, load_records
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.episodes import evaluate_episodes
from tkre_hf.evaluation.few_shot import parse_setting
from tkre_hf.evaluation.page import save_rows
from tkre_hf.evaluation.report import Row, command, machine, table, versions
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.modeling_tkre import TKREForFewShotClassification
from tkre_hf.tkre.onnx_export import OnnxModel, export_onnx
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.training import resolve_backbone

Batch = dict[str, Tensor]
Encode = Callable[[Batch], Tensor]

EAGER = "torch"
RUNTIMES = (EAGER, "torch.compile", "torch int8", "onnxruntime", "onnxruntime int8")


@dataclass
class BenchmarkArguments:
    """What is timed."""

    model: str | None = field(
        default=None, metadata={"help": "A few-shot checkpoint; the embedded encoder as it is by default."}
    )
    data: str = field(default="sample:validation", metadata={"help": "Sentences, as for tkre evaluate."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with the publisher's files."})
    sentences: int = field(default=256, metadata={"help": "Sentences in each repetition."})
    batch_size: int = field(default=32, metadata={"help": "Sentences in a batch."})
    repetitions: int = field(default=5, metadata={"help": "How often each runtime is timed, in turn."})
    settings: list[str] = field(
        default_factory=lambda: ["5w1s", "5w5s"], metadata={"help": "Episodes that accuracy is measured on."}
    )
    num_episodes: int = field(default=2_000, metadata={"help": "Episodes of each setting."})
    runtimes: list[str] = field(
        default_factory=list, metadata={"help": f"Of: {', '.join(RUNTIMES)}; by default all that are installed."}
    )
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


class ExportBenchmark:
    """The runtimes, on the same batches."""

    def __init__(self, args: BenchmarkArguments, folder: Path) -> None:
        if unknown := set(args.runtimes) - set(RUNTIMES):
            raise TkreError(f"runtimes names {min(unknown)!r}: expected some of {', '.join(RUNTIMES)}")
        self.args, self.folder = args, folder
        installed = all(find_spec(package) for package in ("onnx", "onnxruntime", "onnxscript"))
        self.names = args.runtimes or [name for name in RUNTIMES if installed or name.startswith("torch")]
        split = "validation" if args.data.startswith("fewrel:") else None
        records = load_records(args.data, split=split, data_dir=args.data_dir).shuffle(seed=0)
        records = records.select(range(min(args.sentences, len(records))))
        self.labels = list(records["relation"])
        model = args.model or _untrained(folder / "encoder")
        pipe = load_pipeline(model, device="cpu")
        if not isinstance(pipe.model, TKREForFewShotClassification):
            raise TkreError(f"{model} is no few-shot model, whose accuracy in episodes could be measured")
        self.model, self.processor = pipe.model.eval(), pipe.processor
        encoded = self.processor.encode(records)
        # In order of length, as everything here encodes: little is padding.
        self.order = np.argsort([len(features["input_ids"]) for features in encoded], kind="stable")
        self.batches: list[Batch] = []
        for start in range(0, len(self.order), args.batch_size):
            rows = [encoded[i] for i in self.order[start : start + args.batch_size]]
            batch = self.processor.pad([features["input_ids"] for features in rows])
            spans = torch.tensor([features["entity_spans"] for features in rows])
            self.batches.append({**batch, "entity_spans": spans})

    def runtime(self, name: str) -> Encode:
        """What encodes a batch in one of the runtimes."""
        if name.startswith("onnxruntime"):
            folder = self.folder / name.replace(" ", "-")
            export_onnx(self.model, self.processor, folder, int8=name.endswith("int8"))
            session = OnnxModel(folder, threads=torch.get_num_threads())

            def encode(batch: Batch) -> Tensor:
                return torch.from_numpy(
                    session(**{key: value.numpy() for key, value in batch.items()})["relation_embeds"]
                )

            return encode
        model: Any = self.model.tkre
        if name == "torch.compile":
            model = torch.compile(model, dynamic=True)
        elif name == "torch int8":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
        return lambda batch: model(**batch).relation_embeds

    @torch.inference_mode()
    def vectors(self, encode: Encode) -> Tensor:
        """Relation representations of all sentences, in the records' order."""
        return torch.cat([encode(batch) for batch in self.batches])[torch.from_numpy(np.argsort(self.order))]

    def rows(self) -> list[Row]:
        """Times all runtimes in turn, and measures each one's accuracy."""
        runtimes = {name: self.runtime(name) for name in self.names}
        # The first pass warms up: it compiles, and it is what accuracy is measured on.
        vectors = {name: self.vectors(encode) for name, encode in runtimes.items()}
        rates: dict[str, list[float]] = {name: [] for name in runtimes}
        for _ in tqdm(range(self.args.repetitions), desc="Repetitions", disable=None, leave=False):
            for name, encode in runtimes.items():
                start = time.perf_counter()
                self.vectors(encode)
                rates[name].append(len(self.order) / (time.perf_counter() - start))
        base = Row(
            benchmark="export_runtime",
            system="",
            setting="",
            metric="",
            value=0.0,
            n=self.args.repetitions,
            command=command(),
            versions={**versions(), **_version("onnxruntime")},
            machine=f"{machine()}, {torch.get_num_threads()} threads",
        )
        rows = []
        speed = f"sentences/s, {self.args.data}, batches of {self.args.batch_size}"
        for name, values in rates.items():
            rows.append(replace(base, system=name, setting=speed, metric="sentences/s", value=_digits(median(values))))
            if EAGER in rates:
                ratio = median(value / eager for value, eager in zip(values, rates[EAGER], strict=True))
                rows.append(
                    replace(base, system=name, setting=f"ratio to {EAGER}", metric="ratio", value=_digits(ratio))
                )
            for setting in self.args.settings:
                n_way, k_shot = parse_setting(setting)
                episodes = EpisodeDataset(self.labels, n_way, k_shot, 1, num_episodes=self.args.num_episodes)
                report = evaluate_episodes(vectors[name], episodes)
                rows.append(
                    replace(
                        base,
                        system=name,
                        setting=f"{setting}, {self.args.data}",
                        metric="accuracy",
                        value=round(report.accuracy, 2),
                        ci95=report.ci95,
                        n=report.episodes,
                    )
                )
        return rows


def _untrained(folder: Path) -> str:
    """The embedded encoder with its markers, as a checkpoint."""
    backbone = resolve_backbone("minilm")
    processor = TKREProcessor.from_backbone(backbone)
    model = TKREForFewShotClassification.from_backbone(
        backbone, vocab_size=len(processor.tokenizer), new_tokens=processor.new_tokens
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def _version(package: str) -> dict[str, str]:
    try:
        return {package: metadata.version(package)}
    except metadata.PackageNotFoundError:
        return {}


def main() -> None:
    (args,) = parse_arguments((BenchmarkArguments,), description=__doc__)
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        rows = ExportBenchmark(args, Path(folder)).rows()
    print(table(rows))
    save_rows(args.output, rows)


if __name__ == "__main__":
    run(main)
