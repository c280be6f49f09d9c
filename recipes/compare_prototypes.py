"""Ways to put a prototype together from supports, description and samples, compared on relations held out for it.

python recipes/compare_prototypes.py --model outputs/fewrel/held_out/stage1-stage2/seed0 --data_dir DIR \\
    --output docs/results/prototypes.json

All ways read the same vectors and episodes, of relations that the checkpoint was not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tkre_hf.alternatives import CompareArguments, compare
from tkre_hf.arguments import parse_arguments, run
from tkre_hf.evaluation.page import save_rows
from tkre_hf.evaluation.report import table


def main(argv: Sequence[str] | None = None) -> None:
    (args,) = parse_arguments(CompareArguments, argv, __doc__)
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = compare(args)
    print(table(rows))
    save_rows(args.output, rows, "Prototypes")


if __name__ == "__main__":
    run(main)
