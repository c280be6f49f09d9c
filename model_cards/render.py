"""The cards of the checkpoints that the recipes and the demo make, with the figures of docs/results/*.json.

python model_cards/render.py

A checkpoint's own card is written beside it when it is trained; these are for those who want to read one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tkre_hf.arguments import parse_arguments
from tkre_hf.evaluation.report import read_rows
from tkre_hf.hin_training import PFHINStageArguments
from tkre_hf.hub.facts import CardFacts, choose_rows
from tkre_hf.hub.model_card import render
from tkre_hf.pfhin.training_args import PFHINTrainingArguments
from tkre_hf.stage_settings import base_model, stage_settings
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.training_args import MSLMTrainingArguments, SCLTrainingArguments
from tkre_hf.training_data import MSLMStageArguments, SCLStageArguments

ROOT = Path(__file__).parents[1]
RECIPES, RESULTS = ROOT / "recipes" / "configs", ROOT / "docs" / "results"

# The stages' model classes.
MSLM, SCL, PFHIN = "TKREForMaskedSpanLM", "TKREForPreTraining", "PFHINForPreTraining"
# Settings that are the machine's.
_OF_THE_MACHINE = frozenset(("precision", "processes"))


def cards() -> dict[str, CardFacts]:
    """What each card says, by its file's name."""
    rows, others = choose_rows(read_rows(RESULTS / "fewrel.json"), "stages 1 + 2", "docs/results/fewrel.json")
    network = ["--network", "codex_m", "--output_dir", "out"]
    pfhin = stage(PFHIN, (PFHINStageArguments, PFHINTrainingArguments), "pretrain_pfhin_codex", network)
    return {
        "tkre-bert-fewrel.md": CardFacts(
            "tkre-bert-fewrel",
            config(),
            [
                stage(MSLM, (MSLMStageArguments, MSLMTrainingArguments), "stage1_fewrel"),
                stage(SCL, (SCLStageArguments, SCLTrainingArguments), "stage2_fewrel"),
            ],
            rows=rows,
            others=others,
            licence="apache-2.0",
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
            licence="apache-2.0",
            results_note="What has been measured so far stands in docs/results/pfhin.md.",
        ),
    }


def config() -> dict[str, Any]:
    """What the two-stage checkpoints are, as their config.json has it."""
    settings = TKREConfig().to_dict()
    return {**settings, "architectures": [SCL], "backbone_config": {"model_type": "bert"}}


def stage(model_class: str, types: tuple[type, type], recipe: str, words: Sequence[str] = ()) -> dict[str, Any]:
    """How a recipe trains, as the summary beside its checkpoint tells it."""
    args, training_args = parse_arguments(types, ["--config", str(RECIPES / f"{recipe}.yaml"), *words])
    return told(model_class, args, training_args)


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
        "add_sources": [],
        "seed": training_args.seed,
        "settings": {name: value for name, value in settings.items() if name not in _OF_THE_MACHINE},
    }


def main(folder: Path = Path(__file__).parent) -> None:
    """Writes the cards."""
    for name, facts in cards().items():
        (folder / name).write_text(render(facts), encoding="utf-8")
        print(folder / name)


if __name__ == "__main__":
    main()
