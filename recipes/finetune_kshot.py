"""From K labelled rows of each relation to a tested classifier: knowledge, stage 1, stage 2, fine-tuning, test.

accelerate launch recipes/finetune_kshot.py --config recipes/configs/kshot_semeval.yaml

One file has all steps' settings, and the command line overrides them: --stage2 null leaves stage 2 out,
--finetune.learning_rate 5e-5 changes one of a step's own. A step whose inputs have not changed is not done again.
"""

from __future__ import annotations

from collections.abc import Sequence

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.kshot import KShotArguments, report_chain


def main(argv: Sequence[str] | None = None) -> None:
    (args,) = parse_arguments(KShotArguments, argv, __doc__)
    report_chain(args)


if __name__ == "__main__":
    run(main)
