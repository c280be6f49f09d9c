"""Transfer of PF-HIN without node embeddings: pre-trained on one network, fine-tuned on another with few labels."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tkre_hf.arguments import parse_arguments
from tkre_hf.data.held_out import write_links
from tkre_hf.data.hin import HINTables, Links, read_hin, read_links, write_hin
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.page import write_page
from tkre_hf.evaluation.report import Row, command, machine, mean_ci95, table, versions, write_rows
from tkre_hf.hin_reproduction import draw_split
from tkre_hf.hin_systems import BENCHMARKS
from tkre_hf.hin_tasks import FinetuneArguments, PFHINFinetuningArguments, finetune, split_of
from tkre_hf.hin_training import NetworkArguments, PFHINStageArguments, load_model, load_network, pretrain, save_graph
from tkre_hf.pfhin.adaptation import adapt
from tkre_hf.pfhin.modeling_pfhin import PFHINForPreTraining
from tkre_hf.pfhin.training_args import PFHINTrainingArguments
from tkre_hf.training import settings_errors

IntArray = NDArray[np.int64]

SOURCE = "codex_m"
TARGETS = ("codex_s", "openflights")
SYSTEMS = {"pre-trained": "PF-HIN, no ids, pre-trained on codex_m", "scratch": "PF-HIN, no ids, from scratch"}


@dataclass
class TransferArguments:
    """What is transferred, and how few labels there are."""

    data_dir: str = field(metadata={"help": "Folder with the networks' folders."})
    targets: list[str] = field(default_factory=lambda: list(TARGETS), metadata={"help": f"Of: {', '.join(TARGETS)}."})
    per_class: list[int] = field(
        default_factory=lambda: [5, 20, 40], metadata={"help": "Labelled nodes of each class to train on."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "Seeds."})
    work_dir: str = field(default="outputs/pfhin_transfer", metadata={"help": "Where checkpoints go."})
    output: str = field(default="docs/results/pfhin_transfer.json", metadata={"help": "Where the rows go."})
    max_steps: int | None = field(default=None, metadata={"help": "Steps of pre-training; the recipe's by default."})
    recipe: str = field(
        default="recipes/configs/pretrain_pfhin_codex.yaml", metadata={"help": "YAML file of PF-HIN's settings."}
    )
    finetuning: str = field(
        default="recipes/configs/finetune_pfhin_codex.yaml", metadata={"help": "YAML file of fine-tuning's settings."}
    )


def check(args: TransferArguments) -> None:
    """Refuses what isn't known.

    Raises:
        TkreError: A target isn't, or a number of labels lies outside of 1 to 40.
    """
    unknown = [name for name in args.targets if name not in TARGETS]
    if unknown:
        raise TkreError(f"unknown targets {', '.join(unknown)}: choose of {', '.join(TARGETS)}")
    if not all(1 <= count <= 40 for count in args.per_class):
        raise TkreError(f"per_class must lie from 1 to 40, found {', '.join(map(str, args.per_class))}")


def same_edges(of: HINTables, links: list[Path], known: HINTables) -> list[tuple[int, int, int]]:
    """Where another network's true links stand in a network, by what its nodes are named: head, tail, edge type.

    CodEx names nodes ``Q42`` or ``Q42:name``: what stands before the colon is the item.

    Args:
        of: The network that the links are of.
        links: Files of links.
        known: The network that they are looked for in.
    """
    number = {name.partition(":")[0]: i for i, name in enumerate(known.names)}
    kind_of = {name: i for i, name in enumerate(known.edge_types)}
    found = []
    for path in links:
        given = read_links(path, of)
        for i in np.flatnonzero(given.label == 1):
            head, tail = (number.get(of.names[end[i]].partition(":")[0]) for end in (given.src, given.dst))
            kind = kind_of.get(of.edge_types[given.edge_type[i]])
            if head is not None and tail is not None and kind is not None:
                found.append((head, tail, kind))
    return found


def write_held_out(args: TransferArguments) -> Path:
    """Writes what the source must not have of the edges that codex_s tests, in the source's own node ids."""
    data, path = Path(args.data_dir), Path(args.work_dir) / "held_out.csv"
    source, small = read_hin(data / SOURCE), read_hin(data / "codex_s")
    links = [data / "codex_s" / f"links_{part}.csv" for part in ("valid", "test")]
    rows = same_edges(small, links, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    heads, tails, kinds = np.array(rows, np.int64).reshape(-1, 3).T
    write_links(source, Links(heads, tails, kinds, np.ones_like(heads)), path)
    return path


def fewer(parts: dict[str, IntArray], labels: IntArray, per_class: int, seed: int) -> dict[str, IntArray]:
    """The same split with at most some training nodes of each class."""
    rng = np.random.default_rng(seed)
    train = parts["train"]
    kept = [rng.permutation(train[labels[train] == label])[:per_class] for label in np.unique(labels[train])]
    return {**parts, "train": np.sort(np.concatenate(kept))}


def pretrained(args: TransferArguments, seed: int) -> tuple[Path, float]:
    """Pre-trains without ids on the source, unless that is done; gives the folder and CPU minutes."""
    folder = Path(args.work_dir) / "source" / f"seed{seed}"
    results = folder / "train_results.json"
    if not results.exists():
        words = ["--config", args.recipe, "--network", str(Path(args.data_dir) / SOURCE), "--output_dir", str(folder)]
        words += ["--seed", str(seed), "--resume_from_checkpoint", "auto", "--ids", "false", "--init", "random"]
        words += ["--hold_out_links", str(write_held_out(args))]
        words += ["--drop_edge_types", *BENCHMARKS[SOURCE].drop]
        words += ["--max_steps", str(args.max_steps)] if args.max_steps else []
        pretrain(*parse_arguments((PFHINStageArguments, PFHINTrainingArguments), words))
    return folder, float(json.loads(results.read_text())["train_cpu_minutes"])


def scores(args: TransferArguments, source: Path, target: str, seed: int) -> dict[tuple[str, int], dict[str, float]]:
    """F1 on a target for each system and number of labels, fine-tuned on the same nodes."""
    benchmark = BENCHMARKS[target]
    network = NetworkArguments(str(Path(args.data_dir) / benchmark.network), list(benchmark.drop))
    tables, graph = load_network(network)
    if not benchmark.scheme:
        draw_split(tables, seed)
    parts = split_of(tables, benchmark.scheme or "few40")
    with settings_errors():
        adapted = adapt(load_model(source), graph)
    found = {}
    for kind, system in SYSTEMS.items():
        work = Path(args.work_dir) / target / f"seed{seed}" / kind
        model = adapted if kind == "pre-trained" else PFHINForPreTraining(adapted.config)
        model.save_pretrained(work / "model")
        save_graph(work / "model", graph, str(model.config.walk.get("rank", "centrality")))
        for count in args.per_class:
            tables.splits = {"few": fewer(parts, tables.labels, count, seed)}
            write_hin(tables, work / "network")
            words = ["--config", args.finetuning, "--model", str(work / "model"), "--network", str(work / "network")]
            words += ["--scheme", "few", "--output_dir", str(work / f"few{count}"), "--seed", str(seed)]
            words += ["--disable_tqdm", "true"]
            shutil.rmtree(work / f"few{count}", ignore_errors=True)
            found[system, count] = finetune(*parse_arguments((FinetuneArguments, PFHINFinetuningArguments), words))
    return found


def measure(args: TransferArguments) -> list[Row]:
    """Measures all, and writes the rows and the page."""
    sources = {seed: pretrained(args, seed) for seed in args.seeds}
    rows = []
    for target in args.targets:
        start = time.process_time()
        found = {seed: scores(args, sources[seed][0], target, seed) for seed in args.seeds}
        spent = (time.process_time() - start) / 60 / len(args.seeds) / len(SYSTEMS) / len(args.per_class)
        for system, count in next(iter(found.values())):
            # Tuning's minutes, and those of pre-training where there was any.
            before = statistics.fmean(minutes for _, minutes in sources.values())
            minutes = spent + (before if system == SYSTEMS["pre-trained"] else 0.0)
            for metric in ("macro_f1", "micro_f1"):
                values = [each[system, count][metric] for each in found.values()]
                value, interval = mean_ci95(values, math.nan)
                rows.append(
                    Row(
                        benchmark=target,
                        system=system,
                        setting=f"few{count} {metric}",
                        metric=metric,
                        value=round(value, 3),
                        ci95=None if math.isnan(interval) else round(interval, 3),
                        sd=round(statistics.stdev(values), 3) if len(values) > 1 else None,
                        seeds=list(args.seeds),
                        minutes=round(minutes, 2),
                        command=command(),
                        versions=versions(),
                        machine=machine(),
                        source=f"{SOURCE} without what codex_s tests" if "codex_m" in system else target,
                    )
                )
        write_rows(args.output, rows)
        write_page(args.output, "PF-HIN: transfer without ids")
        print(table(rows), flush=True)
    return rows
