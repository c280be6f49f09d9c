"""``tkre evaluate``."""

from __future__ import annotations

from collections.abc import Sequence

from tkre_hf.arguments import parse_arguments
from tkre_hf.evaluation.few_shot import FewShotArguments, run

_DESCRIPTION = """Measures checkpoints over N-way K-shot episodes, on relations that they were not trained on.

tkre evaluate --model ./tkre-bert
tkre evaluate --model ./tkre-bert --data my.jsonl --relation_info relations.jsonl --settings 5w1s 5w0s
tkre evaluate --model ./tkre-bert --data fewrel:wiki --na_rates 0 0.5 --calibrate sample:validation
"""


def main(argv: Sequence[str], prog: str) -> int:
    """Parses the command line and measures.

    Raises:
        TkreError: A setting or the data are wrong.
    """
    (args,) = parse_arguments((FewShotArguments,), argv, _DESCRIPTION, prog)
    return run(args)
