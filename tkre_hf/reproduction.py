"""The systems of docs/results/fewrel.md: what each is trained on and measured on (``recipes/reproduce_fewrel.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tkre_hf.arguments import parse_arguments
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
from tkre_hf.training_data import TRAINING_DATA, load_training_records

# Kept out of training by the systems that settings are chosen on, and thresholds of none of the above: 12 of the 64,
# drawn at random once (with sentences of each in the data measured here, and samples in recipes/knowledge).
HELD_OUT = ["P156", "P140", "P31", "P750", "P740", "P991", "P264", "P276", "P1411", "P27", "P159", "P22"]


@dataclass(frozen=True)
class System:
    """One line of the ablation.

    Args:
        stage1: Whether stage 1 comes first.
        stage2: Whether there is a stage 2, and how its settings differ from the recipe's.
        descriptions: Whether names and descriptions are part of the prototypes.
        samples: How many synthetic samples of each evaluated relation are trained on, and part of the prototypes.
        held_out: Whether it is trained without ``HELD_OUT``, and measured on those.
        na_rates: Rates of none of the above that are measured as well, on the first validation set.
        seeds: How many seeds.
    """

    stage1: bool = True
    stage2: dict[str, Any] | None = field(default_factory=dict)
    descriptions: bool = True
    samples: int = 0
    held_out: bool = False
    na_rates: tuple[float, ...] = ()
    seeds: int = 1


SYSTEMS = {
    "backbone": System(stage1=False, stage2=None),
    "stage 1 only": System(stage2=None),
    "stage 2 only": System(stage1=False),
    "stages 1 + 2": System(seeds=3, na_rates=(0.0, 0.15, 0.3, 0.5)),
    "without descriptions": System(descriptions=False, seeds=3),
    "without synthetic relations": System(stage2={"sources": ["fewrel:wiki"], "shares": []}),
    "16 samples of the new relations": System(samples=16),
    "64 samples of the new relations": System(samples=64, seeds=3),
    "held out": System(held_out=True),
    "held out, 48 samples": System(held_out=True, samples=48),
}


@dataclass
class ReproduceArguments:
    """What to train and measure."""

    data_dir: str = field(metadata={"help": "Folder with FewRel's files."})
    knowledge_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with val_wiki_synthetic.jsonl and val_pubmed_synthetic.jsonl, for the rows with samples."
        },
    )
    relation_schema: str | None = field(
        default=None,
        metadata={"help": "relation_schema.jsonl: what the rows with samples know of val_pubmed's relations."},
    )
    systems: list[str] = field(default_factory=lambda: list(SYSTEMS), metadata={"help": f"Of: {', '.join(SYSTEMS)}."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "At most these seeds."})
    work_dir: str = field(default="outputs/fewrel", metadata={"help": "Where checkpoints go."})
    output: str = field(default="docs/results/fewrel.json", metadata={"help": "Where the rows go."})
    measure: bool = field(default=True, metadata={"help": "Measure what is trained; no: train alone."})
    num_episodes: int = field(default=10_000, metadata={"help": "Episodes of each setting."})
    threads: int | None = field(default=None, metadata={"help": "Threads of this process."})
    recipes: str | None = field(
        default=None, metadata={"help": "Folder with the recipes' configs and knowledge; the recipe's own by default."}
    )
    max_steps: int | None = field(default=None, metadata={"help": "Steps of each stage, to try the whole thing out."})


def train(system: System, seed: int, args: ReproduceArguments) -> Path:
    """Trains what a system needs that isn't there yet; gives its last checkpoint."""
    common = {
        "seed": seed,
        "resume_from_checkpoint": "auto",
        **({"max_steps": args.max_steps} if args.max_steps else {}),
    }
    work = Path(args.work_dir) / ("held_out" if system.held_out else "all")
    exclude = HELD_OUT if system.held_out else []
    folder = work / ("stage1" if system.stage1 else "backbone") / f"seed{seed}"
    stage, training = _recipe("stage1_fewrel", MSLMStageArguments, MSLMTrainingArguments, args, folder, common)
    stage = replace(stage, exclude_relations=exclude)
    if not _is_done(folder):
        if system.stage1:
            train_mslm(stage, training)
        else:
            processor, model = build(TKREForPreTraining, stage, training, load_training_records(stage).records)
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
    if system.stage2 is None:
        return folder
    words = [*system.stage2, *([f"samples{system.samples}"] if system.samples else [])]
    start, folder = folder, work / "-".join([folder.parent.name, "stage2", *words]) / f"seed{seed}"
    config = "stage2_fewrel_knowledge" if system.samples else "stage2_fewrel"
    stage2, training2 = _recipe(config, SCLStageArguments, SCLTrainingArguments, args, folder, common)
    stage2 = replace(stage2, checkpoint=str(start), exclude_relations=exclude, **system.stage2)
    if system.samples:
        stage2 = replace(
            stage2,
            add_sources=[file for part in _parts(system) for file in sample_files(system, part, args)],
            relation_info=[args.relation_schema] if args.relation_schema and not system.held_out else [],
        )
    if not _is_done(folder):
        train_scl(stage2, training2)
    return folder


def _parts(system: System) -> tuple[str, ...]:
    return ("held_out",) if system.held_out else ("wiki", "pubmed")


def sample_files(system: System, part: str, args: ReproduceArguments) -> list[str]:
    """Files of synthetic samples of a part's relations."""
    if system.held_out:
        return [str(_of_recipes(args, "knowledge", "train_wiki.jsonl"))]
    files = [Path(args.knowledge_dir or "", f"val_{part}_synthetic.jsonl")]
    if system.samples == 64:
        files.append(_of_recipes(args, "knowledge", f"val_{part}.jsonl"))
    return [str(file) for file in files]


def _of_recipes(args: ReproduceArguments, *parts: str) -> Path:
    return Path(args.recipes or "recipes", *parts)


def _is_done(folder: Path) -> bool:
    # What was trained on is written last; a backbone has nothing of the kind.
    return (folder / ("config.json" if folder.parent.name == "backbone" else TRAINING_DATA)).exists()


def _recipe(config: str, stage: type, training: type, args: ReproduceArguments, folder: Path, common: dict) -> Any:
    """A recipe's own settings, for this folder, these data and this seed."""
    file = _of_recipes(args, "configs", f"{config}.yaml")
    words = ["--config", str(file), "--data_dir", args.data_dir, "--output_dir", str(folder)]
    return parse_arguments(
        (stage, training), [*words, *[word for k, v in common.items() for word in (f"--{k}", str(v))]]
    )


def measure(name: str, system: System, folders: list[str], args: ReproduceArguments) -> None:
    """Measures a system on both validation sets, or on what it held out, and writes the rows."""
    for part in _parts(system):
        settings = ["5w1s", "5w5s", "10w1s", "10w5s"]
        rates = list(system.na_rates) if part == "wiki" else []
        rows, _ = evaluate_few_shot(
            FewShotArguments(
                model=folders,
                data="fewrel:pubmed" if part == "pubmed" else "fewrel:wiki",
                split="train" if system.held_out else None,
                relations=HELD_OUT if system.held_out else [],
                data_dir=args.data_dir,
                settings=settings + (["5w0s", "10w0s"] if system.descriptions else []),
                na_rates=rates,
                calibrate="fewrel:wiki" if rates else None,
                calibrate_model=str(train(SYSTEMS["held out"], args.seeds[0], args)) if rates else None,
                descriptions=system.descriptions,
                samples=sample_files(system, part, args) if system.samples else [],
                relation_info=args.relation_schema if system.samples and not system.held_out else None,
                num_episodes=args.num_episodes,
                benchmark="fewrel_held_out" if system.held_out else f"fewrel_val_{part}",
                system=name,
            )
        )
        rows = [replace(row, benchmark="fewrel_nota") if " na" in row.setting else row for row in rows]
        print(table(rows), flush=True)
        write_rows(args.output, rows)
        write_page(args.output, "FewRel")
