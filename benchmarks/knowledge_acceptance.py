"""What of the recorded knowledge for SemEval-2010 Task 8 (8-shot, seeds 1 to 3) is accepted, and what it is merged to.

python benchmarks/knowledge_acceptance.py --data_dir DIR

DIR holds semeval2010/kshot, semeval2010/test.txt and semeval2010/knowledge; without it the folder that TKRE_DATA_DIR
names is read.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.console import quiet_libraries
from tkre_hf.evaluation.page import write_page
from tkre_hf.evaluation.report import Row, command, machine, versions, write_rows
from tkre_hf.knowledge.cli import generate_training_set
from tkre_hf.knowledge.merge import count_sources, read_rows
from tkre_hf.knowledge.settings import Stage0Arguments

RELATIONS = Path(__file__).parents[1] / "recipes" / "configs" / "semeval_relations.yaml"


@dataclass
class BenchmarkArguments:
    """What is read."""

    data_dir: str = field(
        default_factory=lambda: os.environ.get("TKRE_DATA_DIR", ""), metadata={"help": "Folder of the real data."}
    )
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3], metadata={"help": "Of the 8-shot splits."})
    add_k: int = field(default=8, metadata={"help": "The most samples added to a relation."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


def counts(semeval: Path, seed: int, add_k: int) -> Counter[str]:
    """Generates from the recorded answers, with the test set excluded, and counts."""
    split = f"8-{seed}"
    with tempfile.TemporaryDirectory() as directory:
        args = Stage0Arguments(
            train=str(semeval / "kshot" / split / "train.txt"),
            relations=str(RELATIONS),
            exclude=[str(semeval / "test.txt")],
            output=directory,
            backend="recorded",
            recorded=str(semeval / "knowledge" / split),
            model="large language model",
            per_relation=12,
            per_request=12,
            max_tries=1,
            add_k=add_k,
        )
        generate_training_set(args)
        found: Counter[str] = Counter()
        for kind in ("explanations", "samples"):
            report = json.loads((Path(directory) / kind / "report.json").read_text(encoding="utf-8"))
            found.update({f"{kind}: {reason}": count for reason, count in report["by_reason"].items()})
        merged = count_sources(read_rows(Path(directory) / "train.jsonl"))
        found.update({f"merged: {name}": count for name, count in merged.items()})
        found["merged: rows"] = sum(count for name, count in merged.items() if name != "gold with cues")
    return found


def main() -> None:
    (args,) = parse_arguments(BenchmarkArguments, description=__doc__)
    semeval = Path(args.data_dir) / "semeval2010"
    if not args.data_dir or not semeval.is_dir():
        print("skipped: reads real data; give its folder with --data_dir, or in the variable TKRE_DATA_DIR")
        return
    with quiet_libraries():
        found = {seed: counts(semeval, seed, args.add_k) for seed in args.seeds}
    names = list(dict.fromkeys(name for each in found.values() for name in each))
    rows = []
    for name in names:
        print(f"{name}: " + ", ".join(f"8-{seed} {found[seed][name]}" for seed in args.seeds))
        for seed in args.seeds:
            row = Row("knowledge_semeval2010", name, f"8-{seed}", "rows", found[seed][name], knowledge="synthetic")
            rows.append(replace(row, seeds=[seed], command=command(), versions=versions(), machine=machine()))
    if args.output:
        write_rows(args.output, rows)
        write_page(args.output)


if __name__ == "__main__":
    run(main)
