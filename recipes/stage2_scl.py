"""Stage 2: span-level contrastive learning. Goes on from stage 1's checkpoint, or starts from any encoder.

accelerate launch recipes/stage2_scl.py --config recipes/configs/stage2_fewrel.yaml

The file gives defaults and the command line overrides them; --help lists all settings. A new relation that an LLM
wrote samples of (stage0_generate.py) joins the training with --add_sources samples.jsonl --add_share 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence

from tkre_hf.arguments import log_to_console, parse_arguments, run
from tkre_hf.training import SCLStageArguments, SCLTrainingArguments, train_scl


def main(argv: Sequence[str] | None = None) -> None:
    args, training_args = parse_arguments((SCLStageArguments, SCLTrainingArguments), argv, __doc__)
    log_to_console(training_args)
    folder = train_scl(args, training_args)
    if training_args.should_log:
        print(f"the model is in {folder}; recipes/evaluate_episodes.py --model {folder} measures it")


if __name__ == "__main__":
    run(main)
