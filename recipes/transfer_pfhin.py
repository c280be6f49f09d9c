"""PF-HIN without ids, pre-trained on codex_m and fine-tuned on other networks with few labels, beside from scratch.

python recipes/transfer_pfhin.py --data_dir DIR/hin

Every edge that codex_s tests is taken out of codex_m first. What is pre-trained already is not trained again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.utils import logging

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.hin_transfer import TransferArguments, check, measure


def main(argv: Sequence[str] | None = None) -> None:
    (args,) = parse_arguments(TransferArguments, argv, __doc__)
    configs = Path(__file__).parent / "configs"
    for name in ("recipe", "finetuning"):
        if getattr(args, name) == TransferArguments.__dataclass_fields__[name].default:
            setattr(args, name, str(configs / Path(getattr(args, name)).name))
    check(args)
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    measure(args)


if __name__ == "__main__":
    run(main)
