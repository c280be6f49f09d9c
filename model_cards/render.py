"""The cards of the checkpoints that the recipes and the demo make, with the figures of docs/results/*.json.

python model_cards/render.py

A checkpoint's own card is written beside it when it is trained; these are for those who want to read one before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tkre_hf.arguments import parse_arguments, parse_settings
from tkre_hf.evaluation.report import Row, read_rows
from tkre_hf.hin_systems import COSTS
from tkre_hf.hin_training import PFHINStageArguments
from tkre_hf.hub.facts import CardFacts, choose_rows
from tkre_hf.hub.marks import marked, unmarked
from tkre_hf.hub.model_card import render
from tkre_hf.kshot_reproduction import SYSTEMS, ReproduceKShotArguments, chain_arguments
from tkre_hf.pfhin.training_args import PFHINTrainingArguments
from tkre_hf.stage_settings import base_model, stage_settings
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.training_args import MSLMTrainingArguments, RelationTrainingArguments, SCLTrainingArguments
from tkre_hf.training_data import MSLMStageArguments, RelationStageArguments, SCLStageArguments

ROOT = Path(__file__).parents[1]
RECIPES, RESULTS = ROOT / "recipes" / "configs", ROOT / "docs" / "results"

# The stages' model classes.
MSLM, SCL, PFHIN = "TKREForMaskedSpanLM", "TKREForPreTraining", "PFHINForPreTraining"
CLASSIFIER = "TKREForRelationClassification"
# Systems of docs/results whose checkpoints these are.
STAGES, SAMPLES, KSHOT = "stages 1 + 2", "64 samples of the new relations", "+ FewRel, SCDG and 400 more, mean of 3"
# What the rows with 64 samples were trained on beside FewRel: 16 of each relation from the data's folder, and the
# recipe's 48.
ADDED = ["val_wiki_synthetic.jsonl", "recipes/knowledge/val_wiki.jsonl"]
ADDED += ["val_pubmed_synthetic.jsonl", "recipes/knowledge/val_pubmed.jsonl"]
# What fine-tuning was given beside the labelled rows and the recipe's samples: 12 of each relation for the split.
RECORDED = "knowledge/8-1/synthetic.jsonl"
# Of the samples above those that the repository doesn't hold, and what there is to say of them.
_WRITTEN = "this project's own, written by a language model{}; not published"
UNPUBLISHED = {
    "val_wiki_synthetic.jsonl": f"16 samples of each relation, {_WRITTEN.format('')}",
    "val_pubmed_synthetic.jsonl": f"16 samples of each relation, {_WRITTEN.format('')}",
    "synthetic.jsonl": f"12 samples of each relation, {_WRITTEN.format(' that saw the labelled rows')}",
}
# Settings that are the machine's.
_OF_THE_MACHINE = frozenset(("precision", "processes"))


def cards() -> dict[str, CardFacts]:
    """What each card says, by its file's name."""
    rows, others = figures("fewrel", STAGES)
    rows_samples, others_samples = figures("fewrel", SAMPLES)
    rows_kshot, others_kshot = figures("kshot", KSHOT, ("semeval2010", "semeval2010_official"))
    # Links are asked of another checkpoint, which has all edge types.
    rows_network, others_network = figures("pfhin", "PF-HIN", ("codex_m",), "few40")
    first = stage(MSLM, (MSLMStageArguments, MSLMTrainingArguments), "stage1_fewrel")
    scl = (SCLStageArguments, SCLTrainingArguments)
    second = stage(SCL, scl, "stage2_fewrel")
    network = ["--network", "codex_m", "--output_dir", "out"]
    pfhin = stage(PFHIN, (PFHINStageArguments, PFHINTrainingArguments), "pretrain_pfhin_codex", network)
    return {
        "tkre-bert-fewrel.md": CardFacts(
            "tkre-bert-fewrel",
            config(),
            [first, second],
            rows=rows,
            others=others,
            licence="apache-2.0",
        ),
        "tkre-bert-fewrel-knowledge.md": CardFacts(
            "tkre-bert-fewrel-knowledge",
            {**config(), "anchor_weight": 4.0, "anchor_doubt": 2.0},
            [first, stage(SCL, scl, "stage2_fewrel_knowledge", ["--add_sources", *ADDED])],
            rows=rows_samples,
            others=others_samples,
            licence="apache-2.0",
            language="en",
        ),
        "tkre-bert-semeval-8-shot.md": CardFacts(
            "tkre-bert-semeval-8-shot",
            {**config(), "architectures": [CLASSIFIER]},
            [first, second, kshot_stage()],
            rows=rows_kshot,
            others=others_kshot,
            licence="apache-2.0",
            language="en",
        ),
        "tkre-bert-demo.md": CardFacts(
            "tkre-bert",
            config(),
            [demo_stage(MSLM, 80), demo_stage(SCL, 160)],
            licence="apache-2.0",
            results_note="`make demo` prints its figures, and enters them into the card that it writes.",
        ),
        "pfhin-codex-m.md": CardFacts(
            "pfhin-codex-m",
            {"model_type": "pfhin", "architectures": [PFHIN]},
            [{**pfhin, "sources": ["codex_m"]}],
            rows=rows_network,
            others=others_network,
            licence="apache-2.0",
        ),
    }


def figures(
    file: str, system: str, benchmarks: Collection[str] = (), setting: str = ""
) -> tuple[list[Row], list[Row]]:
    """A system's figures in docs/results, and those to lay beside them; of its own ablations there are none.

    Args:
        file: Name of the JSON file.
        system: Whose figures.
        benchmarks: Those that are this checkpoint's, where not all are.
        setting: What the settings begin with that are this checkpoint's.
    """
    name = f"docs/results/{file}.json"
    found = [row for row in read_rows(RESULTS / f"{file}.json") if row.metric not in COSTS]
    found = [row for row in found if row.setting.startswith(setting)]
    found = [row for row in found if not benchmarks or row.benchmark in benchmarks]
    rows, others = choose_rows(found, system, name)
    return rows, [row for row in others if row.published or not row.system.startswith(system)]


def config() -> dict[str, Any]:
    """What the two-stage checkpoints are, as their config.json has it."""
    settings = TKREConfig().to_dict()
    return {**settings, "architectures": [SCL], "backbone_config": {"model_type": "bert"}}


def stage(model_class: str, types: tuple[type, type], recipe: str, words: Sequence[str] = ()) -> dict[str, Any]:
    """How a recipe trains, as the summary beside its checkpoint tells it."""
    args, training_args = parse_arguments(types, ["--config", str(RECIPES / f"{recipe}.yaml"), *words])
    return told(model_class, args, training_args)


def kshot_stage() -> dict[str, Any]:
    """How the K-shot chain fine-tunes: on 8 rows of each relation, samples of a language model, and the recipe's.

    Several times, and averages the weights.
    """
    args = ReproduceKShotArguments("data", checkpoint="outputs/stage2_fewrel", recipes=str(RECIPES.parent))
    chain = chain_arguments(SYSTEMS[KSHOT], 8, 1, args)
    given = {
        "sources": ["semeval:8-shot"],
        "checkpoint": chain.checkpoint,
        "na_label": chain.na_label,
        "seed": chain.seed,
        "output_dir": "out",
        **chain.finetune,
        "add_sources": [RECORDED, *(f"recipes/knowledge/{name}" for name in SYSTEMS[KSHOT].more)],
    }
    stage_args, training_args = parse_settings(
        (RelationStageArguments, RelationTrainingArguments), given, "docs/results/kshot.json"
    )
    found = told(CLASSIFIER, stage_args, training_args)
    return {**found, "settings": {**found["settings"], "averaged": SYSTEMS[KSHOT].averaged}}


def demo_stage(model_class: str, max_steps: int) -> dict[str, Any]:
    """How the demo trains."""
    first = model_class == MSLM
    args: Any = (MSLMStageArguments if first else SCLStageArguments)(sources=["sample:train"])
    settings = MSLMTrainingArguments if first else SCLTrainingArguments
    return told(model_class, args, settings(output_dir="out", max_steps=max_steps, seed=0))


def told(model_class: str, args: Any, training_args: Any) -> dict[str, Any]:
    """A stage of a summary, without what depends on the machine."""
    settings = stage_settings(args, training_args)
    backbone = getattr(args, "backbone", "")
    return {
        "stage": model_class,
        "backbone": backbone,
        "base_model": base_model(backbone) if backbone else None,
        "sources": getattr(args, "sources", []),
        "add_sources": getattr(args, "add_sources", []),
        "seed": training_args.seed,
        "settings": {name: value for name, value in settings.items() if name not in _OF_THE_MACHINE},
    }


def card(facts: CardFacts) -> str:
    """A card that also tells what samples are that the repository doesn't hold."""
    text = unmarked(render(facts))
    for name, what in UNPUBLISHED.items():
        text = text.replace(f"- `{name}`: its licence is not known to this card.", f"- `{name}`: {what}.")
    return marked(text)


def main(folder: Path = Path(__file__).parent) -> None:
    """Writes the cards."""
    for name, facts in cards().items():
        (folder / name).write_text(card(facts), encoding="utf-8")
        print(folder / name)


if __name__ == "__main__":
    main()
