"""Walk steps per second, ours beside a straightforward implementation.

python benchmarks/walks.py
python benchmarks/walks.py --network DIR/hin/codex_m

Ours steps all walkers of a batch at once through alias tables. Straightforward walks one walker after the other and
draws each step with numpy's ``choice``; a few of its walks are timed, and stand for the rest. Both walk the same graph
with the same settings. Sequences per second are with everything: walks, quotas, order.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.data.hin import read_hin
from tkre_hf.evaluation.page import save_rows
from tkre_hf.evaluation.report import Row, command, machine, table, versions
from tkre_hf.evaluation.timing import compare
from tkre_hf.pfhin.centrality import ranks
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.synthetic import power_law_graph
from tkre_hf.pfhin.walks import Walker, WalkSettings


@dataclass
class BenchmarkArguments:
    """What is timed."""

    network: str | None = field(default=None, metadata={"help": "Folder of a network; a made-up one by default."})
    num_edges: int = field(default=200_000, metadata={"help": "Edges of the made-up network."})
    batch_size: int = field(default=1024, metadata={"help": "Nodes that set out at once."})
    batches: int = field(default=20, metadata={"help": "Batches of ours in each repetition."})
    plain_walks: int = field(default=20, metadata={"help": "Walks of the straightforward one."})
    repetitions: int = field(default=3, metadata={"help": "How often both are timed, in turn."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


class WalksBenchmark:
    """Both implementations on one graph."""

    def __init__(self, args: BenchmarkArguments) -> None:
        self.args = args
        if args.network is not None:
            self.graph = HeteroGraph.from_tables(read_hin(args.network))
        else:
            self.graph = power_law_graph(args.num_edges)
        self.rank, _ = ranks(self.graph, "degree")
        self.walker = Walker(self.graph, self.rank, WalkSettings())

    def starts(self, number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(self.graph.num_nodes, size=self.args.batch_size)

    def ours(self, repetition: int = 0) -> float:
        """Steps per second."""
        batches = [self.starts(i) for i in range(self.args.batches)]
        start = time.perf_counter()
        for batch in batches:
            self.walker.walk(batch, repetition)
        how = self.walker.settings
        steps = len(batches) * self.args.batch_size * how.num_walks * how.walk_length
        return steps / (time.perf_counter() - start)

    def plain(self, repetition: int = 0) -> float:
        """Steps per second of a few walks."""
        rng, starts = np.random.default_rng(repetition), self.starts(repetition)
        begin = time.perf_counter()
        for i in range(self.args.plain_walks):
            self.plain_walk(int(starts[i % len(starts)]), rng)
        return self.args.plain_walks * self.walker.settings.walk_length / (time.perf_counter() - begin)

    def plain_walk(self, start: int, rng: np.random.Generator) -> list[int]:
        """One walk, step by step."""
        how, at, nodes = self.walker.settings, start, [start]
        for _ in range(how.walk_length):
            neighbors = self.graph.neighbors(at)
            if rng.random() < how.restart or not len(neighbors):
                at = start
            else:
                weights = self.rank[neighbors] ** how.tau
                at = int(rng.choice(neighbors, p=weights / weights.sum()))
            nodes.append(at)
        return nodes

    def sequences(self) -> float:
        """Whole sequences per second of ours."""
        batches = [self.starts(i) for i in range(self.args.batches)]
        start = time.perf_counter()
        for batch in batches:
            self.walker.sequences(batch)
        return len(batches) * self.args.batch_size / (time.perf_counter() - start)

    def rows(self) -> list[Row]:
        """Times both."""
        self.ours(), self.plain()
        row = Row(
            benchmark="walks",
            system="",
            setting=f"{self.graph.num_nodes:,} nodes, {self.graph.num_edges:,} edges",
            metric="steps/s",
            value=0.0,
            command=command(),
            versions=versions(),
            machine=f"{machine()}, 1 thread",
        )
        return compare(self.ours, self.plain, self.args.repetitions).rows(row)


def main() -> None:
    (args,) = parse_arguments((BenchmarkArguments,), description=__doc__)
    benchmark = WalksBenchmark(args)
    rows = benchmark.rows()
    print(table(rows))
    print(f"\n{benchmark.sequences():,.0f} sequences/s")
    save_rows(args.output, rows)


if __name__ == "__main__":
    run(main)
