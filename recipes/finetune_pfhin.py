"""Fine-tunes a pre-trained PF-HIN for node classification or link prediction, and measures it.

accelerate launch recipes/finetune_pfhin.py --config recipes/configs/finetune_pfhin_codex.yaml \\
    --model outputs/pretrain_pfhin_codex --network DIR/hin/codex_m

The file gives defaults and the command line overrides them; --help lists all settings.
"""

from __future__ import annotations

from collections.abc import Sequence

from tkre_hf.arguments import log_to_console, parse_arguments, run
from tkre_hf.hin_tasks import FinetuneArguments, PFHINFinetuningArguments, finetune


def main(argv: Sequence[str] | None = None) -> None:
    args, training_args = parse_arguments((FinetuneArguments, PFHINFinetuningArguments), argv, __doc__)
    log_to_console(training_args)
    scores = finetune(args, training_args)
    if training_args.should_log:
        print(", ".join(f"{name} {value:.1f}" for name, value in scores.items()))


if __name__ == "__main__":
    run(main)
