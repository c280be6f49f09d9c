"""K-shot fine-tuning beside SetFit, the peer a user would pick: same splits, same backbone, F1 and training minutes.

python benchmarks/kshot_vs_setfit.py --data_dir DIR --checkpoint outputs/stage2_fewrel

DIR holds semeval2010/kshot and semeval2010/test.txt. SetFit is installed, in its latest version, into an environment
of its own (.venv-setfit) and reads the sentences with markers around both entities. Both train one after the other in
the same run, on as many threads.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.console import quiet_libraries
from tkre_hf.data import load_records
from tkre_hf.digests import digest
from tkre_hf.evaluation.kshot import Predictions
from tkre_hf.evaluation.page import write_page
from tkre_hf.evaluation.report import Row, command, machine, table, versions, write_rows
from tkre_hf.kshot import KShotResult, run_chain
from tkre_hf.kshot_reproduction import SYSTEMS, ReproduceKShotArguments, chain_arguments
from tkre_hf.training import resolve_backbone

PEER = Path(__file__).with_name("setfit_peer.py")
ROOT = Path(__file__).parents[1]

# SetFit's documented defaults (every pair once, as many positive as negative ones), and the number of pairs that its
# first version drew by default, and a quarter of it.
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "20 iterations": {"num_iterations": 20},
    "5 iterations": {"num_iterations": 5},
}

# Ours that know of the relations what SetFit does or what they are called, and no language model's samples.
OURS = (
    "plain fine-tuning",
    "+ FewRel",
    "+ FewRel, stage 2 on the rows",
    "+ FewRel, stage 2 on the rows, mean of 3",
)


@dataclass
class BenchmarkArguments:
    """What is compared."""

    data_dir: str = field(
        default_factory=lambda: os.environ.get("TKRE_DATA_DIR", ""), metadata={"help": "Folder of the real data."}
    )
    checkpoint: str | None = field(
        default=None, metadata={"help": "Stage 2's checkpoint, for the rows that start from it; none: no such rows."}
    )
    backbone: str = field(default="minilm", metadata={"help": "The encoder that all start from."})
    k: list[int] = field(default_factory=lambda: [8, 16, 32], metadata={"help": "Rows of each relation."})
    seeds: list[int] = field(default_factory=lambda: [1], metadata={"help": "Of the splits."})
    settings: list[str] = field(
        default_factory=lambda: list(SETTINGS), metadata={"help": f"Of SetFit: {', '.join(SETTINGS)}."}
    )
    peer: bool = field(default=True, metadata={"help": "Train SetFit; no: ours alone."})
    max_steps: int = field(
        default=-1,
        metadata={"help": "Cut settings of SetFit with more steps to so many; -1: none, which takes hours."},
    )
    save_steps: int = field(
        default=0,
        metadata={"help": "Save SetFit's state every so many steps, to go on when started again; 0: it isn't saved."},
    )
    bf16: bool = field(default=False, metadata={"help": "Train SetFit in bfloat16, as ours where a processor has it."})
    threads: int = field(default=1, metadata={"help": "Threads of each."})
    setfit_python: str | None = field(default=None, metadata={"help": "A Python that has SetFit; made if not given."})
    work_dir: str = field(default="outputs/kshot_vs_setfit", metadata={"help": "Where checkpoints go."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


def marked_text(record: Mapping[str, Any]) -> str:
    """A sentence with markers around head and tail, for a model that reads text alone."""
    tokens = list(record["tokens"])
    for name, marks in (("head", ("[E1]", "[/E1]")), ("tail", ("[E2]", "[/E2]"))):
        span = record[name]
        tokens[span["start"]] = f"{marks[0]} {tokens[span['start']]}"
        tokens[span["end"] - 1] = f"{tokens[span['end'] - 1]} {marks[1]}"
    return " ".join(tokens)


def setfit_python(args: BenchmarkArguments) -> str:
    """A Python that has SetFit, made if need be."""
    if args.setfit_python is not None:
        return args.setfit_python
    python = ROOT / ".venv-setfit" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        wanted = [f"torch=={torch.__version__.partition('+')[0]}", "setfit"]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *wanted], check=True)
    return str(python)


def run_setfit(
    args: BenchmarkArguments,
    python: str,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> tuple[Predictions, dict[str, Any]]:
    """Trains SetFit; gives what it predicts, and of the peer's answer the minutes, steps and versions.

    Where it saves checkpoints they are in the work folder until it is done, and its answer from then on: in a folder
    of its own for all that it was asked.
    """
    with tempfile.TemporaryDirectory() as temporary:
        columns = [
            {"text": [marked_text(row) for row in rows], "label": [row["relation"] for row in rows]}
            for rows in (train, test)
        ]
        job: dict[str, Any] = {"backbone": resolve_backbone(args.backbone), "train": columns[0], "test": columns[1]}
        job |= {"settings": dict(settings), "most_steps": args.max_steps, "bf16": args.bf16}
        folder = Path(args.work_dir) / f"setfit-{digest(job)[:12]}" if args.save_steps else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        output = folder / "answer.json"
        job |= {"threads": args.threads, "save_steps": args.save_steps, "folder": str(folder), "output": str(output)}
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
        if args.bf16:
            # SetFit's own setting is of float16.
            environment["ACCELERATE_MIXED_PRECISION"] = "bf16"
        if not output.exists():
            subprocess.run([python, str(PEER)], input=json.dumps(job), text=True, check=True, env=environment)
        answer = json.loads(output.read_text(encoding="utf-8"))
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    ids, gold = (tuple(row[name] for row in test) for name in ("id", "relation"))
    return Predictions(ids, gold, tuple(answer["predicted"]), "Other"), answer


def run_ours(args: BenchmarkArguments, name: str, k: int, split: int) -> KShotResult:
    """Trains one of ours as docs/results/kshot.md has it."""
    reproduction = ReproduceKShotArguments(
        args.data_dir, args.checkpoint or "", work_dir=args.work_dir, recipes=str(ROOT / "recipes")
    )
    return run_chain(replace(chain_arguments(SYSTEMS[name], k, split, reproduction), backbone=args.backbone))


def main() -> None:
    (args,) = parse_arguments(BenchmarkArguments, description=__doc__)
    semeval = Path(args.data_dir) / "semeval2010"
    if not args.data_dir or not semeval.is_dir():
        print("skipped: reads real data; give its folder with --data_dir, or in the variable TKRE_DATA_DIR")
        return
    torch.set_num_threads(args.threads)
    python = setfit_python(args) if args.peer else ""
    test = semeval / "test.txt"
    test_rows = list(load_records(str(test)))
    for k in args.k:
        rows: list[Row] = []
        for seed in args.seeds:
            split = semeval / "kshot" / f"{k}-{seed}" / "train.txt"
            common = Row("kshot_vs_setfit", "", f"k{k} split {seed}", "micro_f1", 0.0, n=len(test_rows), seeds=[seed])
            common = replace(common, command=command(), machine=f"{machine()}, {args.threads} threads")
            for name in OURS if args.checkpoint else OURS[:1]:
                with quiet_libraries():
                    result = run_ours(args, name, k, seed)
                assert result.predictions is not None
                f1 = round(result.predictions.scores()["micro_f1"], 2)
                ours = replace(common, system=f"tkre_hf, {name}", value=f1, minutes=round(result.minutes, 2))
                rows.append(replace(ours, knowledge=SYSTEMS[name].knowledge, versions=versions()))
                record(rows[-1], args.output)
            for name in args.settings if args.peer else ():
                train_rows = list(load_records(str(split)))
                predictions, answer = run_setfit(args, python, train_rows, test_rows, {"seed": seed, **SETTINGS[name]})
                f1, minutes = round(predictions.scores()["micro_f1"], 2), round(answer["minutes"], 2)
                steps, whole = answer["steps"], answer["all_steps"]
                cut = f", cut to {steps:,} steps of {whole:,}" if steps < whole else ""
                system = f"SetFit, {name}{', bfloat16' if args.bf16 else ''}{cut}"
                peer = replace(common, system=system, value=f1, minutes=minutes)
                rows.append(replace(peer, versions=answer["versions"]))
                record(rows[-1], args.output)
        print(table(rows), flush=True)


def record(row: Row, output: str | None) -> None:
    """Prints a system's F1 and minutes, and adds both to the file: the next one may take hours."""
    print(f"{row.setting}: {row.system}: {row.value} in {row.minutes:.1f} minutes", flush=True)
    if output:
        minutes = replace(row, metric="minutes", benchmark="kshot_vs_setfit_minutes", value=row.minutes or 0.0)
        write_rows(output, [row, minutes])
        write_page(output)


if __name__ == "__main__":
    run(main)
