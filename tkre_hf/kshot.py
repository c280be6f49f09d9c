"""From K labelled rows of each relation to a tested classifier: knowledge, stage 1, stage 2, fine-tuning, test.

Behind ``tkre train kshot`` and ``recipes/finetune_kshot.py``. Each step's folder is named by a digest of all that went
into it (settings, contents of files, the step before), so what is there already is used again, what was interrupted
goes on, and what is changed is made anew beside the old.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState

from tkre_hf.console import quiet_libraries
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.kshot import Predictions
from tkre_hf.kshot_chain import Chain
from tkre_hf.training_data import MINILM, TrainingSummary, training_summary


@dataclass
class KShotArguments:
    """The whole chain's settings; of a stage those that differ from the recipe's."""

    train: str = field(default="", metadata={"help": "The labelled rows: a file, or a published data set."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of a published data set's files."})
    k: int | None = field(
        default=None, metadata={"help": "Draw K rows of each relation from them; all are taken by default."}
    )
    kshot_seed: int = field(default=1, metadata={"help": "Which ones: another seed, other rows."})
    keep_whole_na: bool = field(
        default=False, metadata={"help": "Take all rows without a relation, where K is drawn of them too otherwise."}
    )
    allow_fewer: bool = field(
        default=False, metadata={"help": "Take all rows of a relation that has fewer than K; an error otherwise."}
    )
    test: str | None = field(default=None, metadata={"help": "Rows to test on: a file, or a published data set."})
    na_label: str | None = field(
        default=None, metadata={"help": "The label that says that there is no relation; none by default."}
    )
    relation_info: str | None = field(
        default=None, metadata={"help": "Names and descriptions of the relations: YAML, pid2name.json or JSON lines."}
    )
    backbone: str = field(default=MINILM, metadata={"help": "Encoder to start from."})
    checkpoint: str | None = field(
        default=None, metadata={"help": "TKRE checkpoint to start from, such as stage 2's on FewRel, instead."}
    )
    stage0: dict[str, Any] | None = field(
        default=None, metadata={"help": "Explanations and samples: settings of stage0_generate.py; null: none."}
    )
    stage1: dict[str, Any] | None = field(
        default=None, metadata={"help": "Stage 1 on the rows: settings of stage1_mslm.py; null leaves it out."}
    )
    stage2: dict[str, Any] | None = field(
        default=None, metadata={"help": "Stage 2 on the rows: settings of stage2_scl.py; null leaves it out."}
    )
    finetune: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Fine-tuning: its settings, such as learning_rate or adapter."}
    )
    averaged: int = field(
        default=1,
        metadata={"help": "Fine-tune so often, with one seed after the other, and average the weights."},
    )
    seed: int = field(default=0, metadata={"help": "Of all steps."})
    output_dir: str = field(default="outputs/kshot", metadata={"help": "Where the steps' folders go."})


@dataclass(frozen=True)
class KShotResult:
    """What a chain ends with.

    Args:
        classifier: Its folder.
        train_file: The rows trained on, explanations and samples among them.
        summary: What it was trained on, in this chain and before.
        minutes: Of this chain's training.
        predictions: Of the test rows, if there were any.
    """

    classifier: Path
    train_file: Path
    summary: TrainingSummary
    minutes: float
    predictions: Predictions | None


def run_chain(args: KShotArguments) -> KShotResult:
    """Makes what of the chain isn't there yet.

    Raises:
        TkreError: A setting or a row is wrong, nobody answers, or the Hub doesn't take what is to be published.
    """
    chain, result = _run(args)
    chain.publish()
    return result


def _run(args: KShotArguments) -> tuple[Chain, KShotResult]:
    """The chain but for what is published."""
    if not args.train:
        raise TkreError("no rows: say what to train on, such as --train data/semeval2010/kshot/8-1/train.txt")
    chain = Chain(args)
    chain.check()
    chain.rows()
    if args.stage0 is not None:
        chain.knowledge(args.stage0)
    if args.stage1 is not None:
        chain.stage1(args.stage1)
    if args.stage2 is not None:
        chain.stage2(args.stage2)
    classifier = chain.finetune(args.finetune)
    summary = training_summary(classifier)
    assert summary is not None
    before = training_summary(args.checkpoint) if args.checkpoint is not None else None
    minutes = summary.minutes - (before.minutes if before is not None else 0.0)
    predictions = chain.test(classifier) if args.test is not None else None
    return chain, KShotResult(classifier, Path(chain.train_file), summary, round(minutes, 2), predictions)


def report_chain(args: KShotArguments) -> KShotResult:
    """Runs a chain and prints what it ends with.

    Raises:
        TkreError: As :func:`run_chain`.
    """
    state = PartialState()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tkre_hf").setLevel(logging.INFO if state.is_local_main_process else logging.ERROR)
    with quiet_libraries():
        chain, result = _run(args)
    if state.is_main_process:
        print(f"the classifier is in {result.classifier}, after {result.minutes:g} minutes of training")
        if result.predictions is not None:
            print(f"\n{args.test}: {len(result.predictions.gold)} rows\n\n{result.predictions.to_markdown()}")
    with quiet_libraries():
        chain.publish()
    return result
