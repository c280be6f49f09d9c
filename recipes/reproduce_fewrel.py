"""Everything in docs/results/fewrel.md: trains each system for each seed, measures it, and writes the page.

python recipes/reproduce_fewrel.py --data_dir DIR --knowledge_dir DIR/knowledge

What is there already is not trained again, and an interrupted run goes on from its last checkpoint; so several
processes may share the work, each with its own --systems or --seeds, and one --measure at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.few_shot import FewShotArguments, evaluate_few_shot
from tkre_hf.evaluation.page import write_page
from tkre_hf.evaluation.report import table, write_rows
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.training import (
    MSLMStageArguments,
    MSLMTrainingArguments,
    SCLStageArguments,
    SCLTrainingArguments,
    build,
    train_mslm,
    train_scl,
)
from tkre_hf.training_data import load_training_records

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class System:
    """One line of the ablation.

    Args:
        stage1: Whether stage 1 comes first.
        stage2: Whether there is a stage 2, and how its settings differ from the recipe's.
        descriptions: Whether names and descriptions are part of the prototypes.
        knowledge: Whether synthetic samples of the evaluated relations are trained on, and part of the prototypes.
        seeds: How many seeds.
    """

    stage1: bool = True
    stage2: dict[str, Any] | None = field(default_factory=dict)
    descriptions: bool = True
    knowledge: bool = False
    seeds: int = 1


SYSTEMS = {
    "backbone": System(stage1=False, stage2=None),
    "stage 1 only": System(stage2=None),
    "stage 2 only": System(stage1=False),
    "stages 1 + 2": System(seeds=3),
    "without descriptions": System(descriptions=False, seeds=3),
    "without synthetic relations": System(stage2={"sources": ["fewrel:wiki"], "shares": []}),
    "knowledge of the new relations": System(knowledge=True, seeds=3),
}


@dataclass
class ReproduceArguments:
    """What to train and measure."""

    data_dir: str = field(metadata={"help": "Folder with FewRel's files."})
    knowledge_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with val_wiki_synthetic.jsonl and val_pubmed_synthetic.jsonl, for the knowledge rows."
        },
    )
    relation_schema: str | None = field(
        default=None,
        metadata={"help": "relation_schema.jsonl: what the knowledge rows know of val_pubmed's relations."},
    )
    systems: list[str] = field(default_factory=lambda: list(SYSTEMS), metadata={"help": f"Of: {', '.join(SYSTEMS)}."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "At most these seeds."})
    work_dir: str = field(default="outputs/fewrel", metadata={"help": "Where checkpoints go."})
    output: str = field(default="docs/results/fewrel.json", metadata={"help": "Where the rows go."})
    measure: bool = field(default=True, metadata={"help": "Measure what is trained; no: train alone."})
    num_episodes: int = field(default=10_000, metadata={"help": "Episodes of each setting."})
    threads: int | None = field(default=None, metadata={"help": "Threads of this process."})
    max_steps: int | None = field(default=None, metadata={"help": "Steps of each stage, to try the whole thing out."})


def main(argv: Sequence[str] | None = None) -> None:
    (args,) = parse_arguments(ReproduceArguments, argv, __doc__)
    unknown = set(args.systems) - set(SYSTEMS)
    if unknown:
        raise TkreError(f"unknown systems {', '.join(sorted(unknown))}: choose of {', '.join(SYSTEMS)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    for name in args.systems:
        system = SYSTEMS[name]
        if system.knowledge and args.knowledge_dir is None:
            print(f"{name}: left out, it needs --knowledge_dir", file=sys.stderr)
            continue
        folders = [str(train(system, seed, args)) for seed in args.seeds[: system.seeds]]
        if args.measure:
            measure(name, system, folders, args)


def train(system: System, seed: int, args: ReproduceArguments) -> Path:
    """Trains what a system needs that isn't there yet; gives its last checkpoint."""
    common = {
        "seed": seed,
        "resume_from_checkpoint": "auto",
        **({"max_steps": args.max_steps} if args.max_steps else {}),
    }
    work = Path(args.work_dir)
    folder = work / ("stage1" if system.stage1 else "backbone") / f"seed{seed}"
    stage, training = _recipe("stage1_fewrel", MSLMStageArguments, MSLMTrainingArguments, args, folder, common)
    if not (folder / "config.json").exists():
        if system.stage1:
            train_mslm(stage, training)
        else:
            processor, model = build(TKREForPreTraining, stage, training, load_training_records(stage).records)
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
    if system.stage2 is None:
        return folder
    name = "-".join(
        [
            "stage1" if system.stage1 else "backbone",
            *(["knowledge"] if system.knowledge else []),
            *(["fewrel"] if "sources" in system.stage2 else []),
            "stage2",
        ]
    )
    start, folder = folder, work / name / f"seed{seed}"
    config = "stage2_fewrel_knowledge" if system.knowledge else "stage2_fewrel"
    stage2, training2 = _recipe(config, SCLStageArguments, SCLTrainingArguments, args, folder, common)
    stage2 = replace(stage2, checkpoint=str(start), **system.stage2)
    if system.knowledge:
        files = [str(Path(args.knowledge_dir or "", Path(file).name)) for file in stage2.add_sources]
        stage2 = replace(
            stage2, add_sources=files, relation_info=[args.relation_schema] if args.relation_schema else []
        )
    if not (folder / "config.json").exists():
        train_scl(stage2, training2)
    return folder


def _recipe(config: str, stage: type, training: type, args: ReproduceArguments, folder: Path, common: dict) -> Any:
    """A recipe's own settings, for this folder, these data and this seed."""
    words = ["--config", str(CONFIGS / f"{config}.yaml"), "--data_dir", args.data_dir, "--output_dir", str(folder)]
    return parse_arguments(
        (stage, training), [*words, *[word for k, v in common.items() for word in (f"--{k}", str(v))]]
    )


def measure(name: str, system: System, folders: list[str], args: ReproduceArguments) -> None:
    """Measures a system on both validation sets, and writes the rows."""
    for part in ("wiki", "pubmed"):
        samples = Path(args.knowledge_dir or "", f"val_{part}_synthetic.jsonl") if system.knowledge else None
        settings = ["5w1s", "5w5s", "10w1s", "10w5s"]
        rows, _ = evaluate_few_shot(
            FewShotArguments(
                model=folders,
                data=f"fewrel:{part}",
                data_dir=args.data_dir,
                settings=settings + (["5w0s", "10w0s"] if system.descriptions else []),
                descriptions=system.descriptions,
                samples=str(samples) if samples else None,
                relation_info=args.relation_schema if system.knowledge else None,
                num_episodes=args.num_episodes,
                benchmark=f"fewrel_val_{part}",
                system=name,
            )
        )
        print(table(rows), flush=True)
        write_rows(args.output, rows)
        write_page(args.output, "FewRel")


if __name__ == "__main__":
    run(main)
