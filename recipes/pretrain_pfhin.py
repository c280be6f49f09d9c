"""Pre-trains PF-HIN on a typed network: masked node modeling and adjacent node prediction.

accelerate launch recipes/pretrain_pfhin.py --config recipes/configs/pretrain_pfhin_codex.yaml --network DIR

The file gives defaults and the command line overrides them; --help lists all settings. The graph is written beside
the checkpoint once and memory-mapped by every process.
"""

from __future__ import annotations

from collections.abc import Sequence

from tkre_hf.arguments import log_to_console, parse_arguments, run
from tkre_hf.hin_training import PFHINStageArguments, pretrain
from tkre_hf.pfhin.training_args import PFHINTrainingArguments


def main(argv: Sequence[str] | None = None) -> None:
    args, training_args = parse_arguments((PFHINStageArguments, PFHINTrainingArguments), argv, __doc__)
    log_to_console(training_args)
    folder = pretrain(args, training_args)
    if training_args.should_log:
        print(f"the model and its graph are in {folder}; tkre hin embed --model {folder} embeds the nodes")


if __name__ == "__main__":
    run(main)
