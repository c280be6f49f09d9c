"""How PF-HIN's work grows with the graph: seconds and peak memory at each size, on made-up typed power-law graphs.

python benchmarks/pfhin_scale.py --edges 10000 100000 1000000 --output docs/results/pfhin_scale.json

Each size is measured in a process of its own, so that its peak memory is its own: the graph is made and saved, mapped
again from its files, ranked, walked, and trained on for a few steps. Where an output is given the plot is drawn beside
it (needs matplotlib).

python benchmarks/pfhin_scale.py --edges 1000000 --pivots 32 64 256 --output docs/results/pfhin_scale.json

says from how many sampled nodes centralities have to be estimated.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.page import write_page
from tkre_hf.evaluation.report import Row, command, machine, table, versions, write_rows
from tkre_hf.pfhin.centrality import PIVOTS, ranks
from tkre_hf.pfhin.embedding import Neighborhoods
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.inputs import config_for
from tkre_hf.pfhin.modeling_pfhin import PFHINForPreTraining
from tkre_hf.pfhin.synthetic import power_law_graph
from tkre_hf.pfhin.trainer import PFHINTrainer
from tkre_hf.pfhin.training_args import PFHINTrainingArguments
from tkre_hf.pfhin.walks import WalkSettings

TITLE = "PF-HIN: how work grows with the graph"

# What is timed, and what of it grows with the graph: a batch of walks or a step of training is one batch at any size.
TIMES = ("load", "centralities", "walker", "walks", "training step")


@dataclass
class BenchmarkArguments:
    """What is timed."""

    edges: list[int] = field(default_factory=lambda: [10_000, 100_000, 1_000_000], metadata={"help": "Sizes."})
    batch_size: int = field(default=64, metadata={"help": "Pairs of a training step, and nodes of a batch of walks."})
    steps: int = field(default=5, metadata={"help": "Training steps, and batches of walks; their median is told."})
    hidden_size: int = field(default=128, metadata={"help": "Width of the transformer."})
    rank: str = field(default="centrality", metadata={"help": "What ranks nodes: centrality or degree."})
    pivots: list[int] = field(
        default_factory=list,
        metadata={
            "help": f"Instead of the times: how well ranks from so many sampled nodes agree with those from {PIVOTS} "
            "others, at each size."
        },
    )
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


def measure(edges: int, args: BenchmarkArguments) -> dict[str, float]:
    """Seconds of each part, and this process's peak memory in MiB."""
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    # What is imported on the way is no part of it.
    ranks(power_law_graph(100), args.rank)
    with tempfile.TemporaryDirectory() as folder:
        power_law_graph(edges).save(folder)
        start = time.perf_counter()
        graph = HeteroGraph.load(folder)
        # Mapped is not yet read.
        found["nodes"] = float(graph.num_nodes)
        int(graph.indices.max()), int(graph.edge_type.max()), int(graph.degree.max())
        found["load"] = time.perf_counter() - start
        start = time.perf_counter()
        ranked = ranks(graph, args.rank)
        found["centralities"] = time.perf_counter() - start
        config = config_for(graph, walk=WalkSettings(max_length=32), rank=args.rank, hidden_size=args.hidden_size)
        model = PFHINForPreTraining(config)
        start = time.perf_counter()
        walker = Neighborhoods(model, graph, ranked=ranked).walker
        found["walker"] = time.perf_counter() - start
        rng = np.random.default_rng(0)
        spent = []
        for epoch in range(args.steps):
            nodes = rng.integers(graph.num_nodes, size=args.batch_size)
            start = time.perf_counter()
            walker.sequences(nodes, epoch)
            spent.append(time.perf_counter() - start)
        found["walks"] = statistics.median(spent)
        settings = PFHINTrainingArguments(
            output_dir=folder, per_device_train_batch_size=args.batch_size, save_strategy="no", use_cpu=True
        )
        trainer = PFHINTrainer(model, settings, graph, ranked=ranked)
        trainer.create_optimizer()
        optimizer = trainer.optimizer
        assert optimizer is not None
        batches, spent = iter(trainer.get_train_dataloader()), []
        # The first step makes the optimizer's state and the sampler's tables.
        for _ in range(args.steps + 1):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bool(settings.bf16)):
                loss = model(**next(batches)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            spent.append(time.perf_counter() - start)
        found["training step"] = statistics.median(spent[1:])
        # The map's files go with their folder.
        del graph, walker, trainer, batches
    # In KiB, but on macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    found["peak memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return found


def rows_of(edges: int, found: dict[str, float], args: BenchmarkArguments) -> list[Row]:
    """A size's figures as rows."""
    units = dict.fromkeys(TIMES, "ms") | {"peak memory": "MiB"}
    return [
        Row(
            benchmark="pfhin_scale",
            system=f"{edges:,} edges, {int(found['nodes']):,} nodes",
            setting=f"{name}, {unit}",
            metric=unit,
            value=round(found[name] * (1000 if unit == "ms" else 1), 2),
            n=args.steps if name in ("walks", "training step") else 1,
            command=command(),
            versions=versions(),
            machine=f"{machine()}, 1 thread",
        )
        for name, unit in units.items()
    ]


def agreement(edges: int, args: BenchmarkArguments) -> list[Row]:
    """Spearman's correlation, in percent, of ranks from few sampled nodes with those from many."""
    graph = power_law_graph(edges)
    many, _ = ranks(graph, pivots=PIVOTS, seed=1)
    rows = []
    for pivots in args.pivots:
        few, _ = ranks(graph, pivots=pivots)
        row = Row(
            benchmark="pfhin_pivots",
            system=f"{edges:,} edges, {graph.num_nodes:,} nodes",
            setting=f"{pivots} nodes, %",
            metric="spearman",
            value=round(100 * float(spearmanr(few, many).statistic), 2),
            n=graph.num_nodes,
            command=command(),
            versions=versions(),
            machine=machine(),
        )
        rows.append(row)
    return rows


def draw(path: Path, sizes: list[int], figures: list[dict[str, float]]) -> None:
    """The plot: seconds and MiB against edges, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in TIMES:
        left.plot(sizes, [each[name] for each in figures], marker="o", label=name)
    right.plot(sizes, [each["peak memory"] for each in figures], marker="o", color="black")
    # What grows in proportion to the edges runs along this.
    start = figures[0]["centralities"]
    left.plot(sizes, [start * size / sizes[0] for size in sizes], "k:", label="proportional to edges")
    for axes, label in ((left, "seconds"), (right, "peak memory, MiB")):
        axes.set(xscale="log", yscale="log", xlabel="edges", ylabel=label)
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    (args,) = parse_arguments((BenchmarkArguments,), description=__doc__)
    if args.output is not None and not args.pivots and find_spec("matplotlib") is None:
        raise TkreError("the plot needs matplotlib: pip install 'tkre-hf[demo]', or leave out --output")
    figures, rows = [], []
    if args.pivots:
        for edges in args.edges:
            rows += agreement(edges, args)
        print(table(rows), flush=True)
        if args.output is not None:
            write_rows(args.output, rows)
            write_page(args.output, TITLE)
        return
    for edges in args.edges:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures.append(pool.apply(measure, (edges, args)))
        rows += rows_of(edges, figures[-1], args)
        print(table(rows[-len(TIMES) - 1 :]), flush=True)
    if args.output is not None:
        write_rows(args.output, rows)
        page = write_page(args.output, TITLE)
        plot = Path(args.output).with_suffix(".png")
        draw(plot, args.edges, figures)
        print(f"\nWritten to {args.output}, {page} and {plot}")


if __name__ == "__main__":
    run(main)
