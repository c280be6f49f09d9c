"""Everything in docs/results/pfhin.md: trains each system for each seed, measures it, and writes the page.

python recipes/reproduce_pfhin.py --data_dir DIR/hin

What is pre-trained already is not trained again, and an interrupted run goes on from its last checkpoint;
--benchmarks, --systems and --seeds take a part of the work. One thread, so that minutes are a single core's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.exceptions import ConvergenceWarning
from transformers.utils import logging

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.evaluation.page import write_page
from tkre_hf.evaluation.report import write_rows
from tkre_hf.hin_reproduction import ReproduceArguments, check, measure, published_rows


def main(argv: Sequence[str] | None = None) -> None:
    (args,) = parse_arguments(ReproduceArguments, argv, __doc__)
    if args.recipe is None:
        args.recipe = str(Path(__file__).parent / "configs" / "pretrain_pfhin_codex.yaml")
    check(args)
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for benchmark in args.benchmarks:
        for system in args.systems:
            measure(system, benchmark, args)
        if "links" in args.tasks:
            write_rows(args.output, published_rows(benchmark))
            write_page(args.output)


if __name__ == "__main__":
    run(main)
