"""``tkre train``: each stage alone, or the whole chain from K labelled rows to a tested classifier."""

from __future__ import annotations

from collections.abc import Sequence

from tkre_hf.parsing import Main, run_action

_DESCRIPTION = """Trains a stage, or the whole chain from a few labelled rows to a classifier.

  stage1  masked span language modeling: any encoder -> a TKRE checkpoint
  stage2  span-level contrastive learning: stage 1's checkpoint, or any encoder -> a TKRE checkpoint
  kshot   K labelled rows of each relation -> knowledge, both stages, a fine-tuned classifier and its test

tkre train stage1 --sources sample:train --max_steps 200 --output_dir outputs/stage1

'tkre train ACTION --help' lists the settings of an action; --config FILE.yaml gives them from a file
(recipes/configs has some).
Several GPUs or machines: accelerate launch recipes/stage1_mslm.py, stage2_scl.py, finetune_kshot.py.
"""


def _stage1(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.arguments import log_to_console, parse_arguments
    from tkre_hf.training import MSLMStageArguments, MSLMTrainingArguments, train_mslm

    description = f"""Stage 1, masked span language modeling (MSLM), on labelled sentences; writes a TKRE checkpoint.
It needs sentences (--sources) and where to write (--output_dir); the encoder is --backbone, or that of --checkpoint.

{prog} --sources sample:train --max_steps 200 --output_dir outputs/stage1
"""
    args, training_args = parse_arguments((MSLMStageArguments, MSLMTrainingArguments), argv, description, prog)
    log_to_console(training_args)
    print(f"the model is in {train_mslm(args, training_args)}")
    return 0


def _stage2(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.arguments import log_to_console, parse_arguments
    from tkre_hf.training import SCLStageArguments, SCLTrainingArguments, train_scl

    description = f"""Stage 2, span-level contrastive learning (SCL), from stage 1's checkpoint; writes a few-shot
model. It needs labelled sentences (--sources), what to start from (--checkpoint, or --backbone) and where to write
(--output_dir).

{prog} --checkpoint outputs/stage1 --sources sample:train --max_steps 200 --output_dir outputs/stage2
"""
    args, training_args = parse_arguments((SCLStageArguments, SCLTrainingArguments), argv, description, prog)
    log_to_console(training_args)
    print(f"the model is in {train_scl(args, training_args)}")
    return 0


def _kshot(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.arguments import parse_arguments
    from tkre_hf.kshot import KShotArguments, report_chain

    description = f"""From K labelled rows of each relation to a classifier, by way of knowledge and both stages.
It needs the labelled rows (--train); --test measures the classifier. Knowledge (stage0), stage1 and stage2 are left
out where they have no settings of their own, such as --stage2.max_steps 100.

{prog} --train train.jsonl --k 8 --test test.jsonl --stage2.max_steps 100 --output_dir outputs/kshot
"""
    (args,) = parse_arguments((KShotArguments,), argv, description, prog)
    report_chain(args)
    return 0


ACTIONS: dict[str, Main] = {"stage1": _stage1, "stage2": _stage2, "kshot": _kshot}


def main(argv: Sequence[str], prog: str = "tkre train") -> int:
    """Does one of the actions.

    Raises:
        TkreError: The action is unknown, or a setting or the data are wrong.
    """
    return run_action(ACTIONS, argv, prog, _DESCRIPTION)
