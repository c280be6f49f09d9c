"""Everything in docs/results/fewrel.md: trains each system for each seed, measures it, and writes the page.

python recipes/reproduce_fewrel.py --data_dir DIR --knowledge_dir DIR/knowledge \\
    --relation_schema DIR/relation_schema.jsonl

What is there already is not trained again, and an interrupted run goes on from its last checkpoint; so several
processes may share the work, each with its own --systems or --seeds, and one --measure at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.utils import logging

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.errors import TkreError
from tkre_hf.reproduction import SYSTEMS, ReproduceArguments, measure, train


def main(argv: Sequence[str] | None = None) -> None:
    (args,) = parse_arguments(ReproduceArguments, argv, __doc__)
    args.recipes = args.recipes or str(Path(__file__).parent)
    unknown = set(args.systems) - set(SYSTEMS)
    if unknown:
        raise TkreError(f"unknown systems {', '.join(sorted(unknown))}: choose of {', '.join(SYSTEMS)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    for name in args.systems:
        system = SYSTEMS[name]
        if system.samples and not system.held_out and args.knowledge_dir is None:
            print(f"{name}: left out, it needs --knowledge_dir", file=sys.stderr)
            continue
        folders = [str(train(system, seed, args)) for seed in args.seeds[: system.seeds]]
        if args.measure:
            measure(name, system, folders, args)


if __name__ == "__main__":
    run(main)
