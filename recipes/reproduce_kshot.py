"""Everything in docs/results/kshot.md: trains each system on each split, tests it, and writes the page.

python recipes/reproduce_kshot.py --data_dir DIR --checkpoint outputs/fewrel/all/stage1-stage2/seed0

What is there already is not trained again; so several processes may share the work, each with its own --systems or
--splits and --measure false, and one that measures at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.utils import logging

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.errors import TkreError
from tkre_hf.kshot_reproduction import (
    SYSTEMS,
    ReproduceKShotArguments,
    draw_samples_plot,
    measure,
    overlap_rows,
    published_rows,
    report,
)


def main(argv: Sequence[str] | None = None) -> None:
    (args,) = parse_arguments(ReproduceKShotArguments, argv, __doc__)
    args.recipes = args.recipes or str(Path(__file__).parent)
    unknown = set(args.systems) - set(SYSTEMS)
    if unknown:
        raise TkreError(f"unknown systems {', '.join(sorted(unknown))}: choose of {', '.join(SYSTEMS)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    for name in args.systems:
        rows = measure(name, args)
        if args.measure:
            report(rows, args)
    if args.measure:
        report([*published_rows(), *(overlap_rows(args) if "everything" in args.systems else [])], args)
        print(f"the plot is {draw_samples_plot(args)}")


if __name__ == "__main__":
    run(main)
