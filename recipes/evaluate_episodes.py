"""Few-shot accuracy of checkpoints over N-way K-shot episodes: ``tkre evaluate``, with settings from a file.

accelerate launch recipes/evaluate_episodes.py --config recipes/configs/evaluate_fewrel.yaml

The file gives defaults and the command line overrides them; --help lists all settings. One process is enough: every
sentence is encoded once, however many episodes there are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.evaluation.few_shot import FewShotArguments
from tkre_hf.evaluation.few_shot import run as evaluate


def main(argv: Sequence[str] | None = None) -> None:
    (args,) = parse_arguments(FewShotArguments, argv, __doc__)
    # Under a launcher with several processes the first one does the work.
    if os.environ.get("RANK", "0") == "0":
        evaluate(args)


if __name__ == "__main__":
    run(main)
