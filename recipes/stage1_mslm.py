"""Stage 1: masked span language modeling. Starts from any encoder, ends with a TKRE checkpoint.

accelerate launch recipes/stage1_mslm.py --config recipes/configs/stage1_fewrel.yaml

The file gives defaults and the command line overrides them; --help lists all settings.
"""

from __future__ import annotations

from collections.abc import Sequence

from tkre_hf.arguments import log_to_console, parse_arguments, run
from tkre_hf.training import MSLMStageArguments, MSLMTrainingArguments, train_mslm


def main(argv: Sequence[str] | None = None) -> None:
    args, training_args = parse_arguments((MSLMStageArguments, MSLMTrainingArguments), argv, __doc__)
    log_to_console(training_args)
    folder = train_mslm(args, training_args)
    if training_args.should_log:
        print(f"stage 1's checkpoint is in {folder}; stage 2 goes on from it with --checkpoint {folder}")


if __name__ == "__main__":
    run(main)
