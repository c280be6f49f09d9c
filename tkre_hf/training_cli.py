"""``tkre train``: each stage alone, or the whole chain from K labelled rows to a tested classifier."""

from __future__ import annotations

from collections.abc import Sequence

from tkre_hf.errors import TkreError

USAGE = """usage: {prog} stage1|stage2|kshot [options]

  stage1  masked span language modeling: any encoder -> a TKRE checkpoint
  stage2  span-level contrastive learning: stage 1's checkpoint, or any encoder -> a TKRE checkpoint
  kshot   K labelled rows of each relation -> knowledge, both stages, a fine-tuned classifier and its test

'{prog} kshot --help' lists the options; --config FILE.yaml gives them from a file (recipes/configs has some).
Several GPUs or machines: accelerate launch recipes/stage1_mslm.py, stage2_scl.py, finetune_kshot.py."""


def main(argv: Sequence[str], prog: str = "tkre train") -> int:
    """Parses the command line and trains.

    Raises:
        TkreError: A setting or the data are wrong.
    """
    command, *rest = argv or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE.format(prog=prog))
        return 0
    if command not in ("stage1", "stage2", "kshot"):
        raise TkreError(f"there is no command {command!r}; expected stage1, stage2 or kshot")

    from tkre_hf.arguments import log_to_console, parse_arguments

    if command == "kshot":
        from tkre_hf.kshot import KShotArguments, report_chain

        (args,) = parse_arguments((KShotArguments,), rest, "From K labelled rows of each relation to a classifier.")
        report_chain(args)
        return 0

    from tkre_hf.training import (
        MSLMStageArguments,
        MSLMTrainingArguments,
        SCLStageArguments,
        SCLTrainingArguments,
        train_mslm,
        train_scl,
    )

    if command == "stage1":
        stage1, training1 = parse_arguments((MSLMStageArguments, MSLMTrainingArguments), rest, "Stage 1 (MSLM).")
        log_to_console(training1)
        folder = train_mslm(stage1, training1)
    else:
        stage2, training2 = parse_arguments((SCLStageArguments, SCLTrainingArguments), rest, "Stage 2 (SCL).")
        log_to_console(training2)
        folder = train_scl(stage2, training2)
    print(f"the model is in {folder}")
    return 0
