"""Stage 0: a language model writes explanations (EDKG) and samples (SCDG); one training set for stages 1 and 2.

python recipes/stage0_generate.py --config recipes/configs/stage0_semeval.yaml --base_url http://127.0.0.1:8080

The file gives defaults and the command line overrides them; --help lists all settings. A run that was interrupted goes
on where it was. API tokens come from the variable TKRE_API_KEY or `hf auth login`.

Exit codes: 0 when every quota is filled; 1 when something is short or a budget is used up; 2 when a setting or a file
is wrong, or nobody answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from tkre_hf.arguments import parse_arguments, run
from tkre_hf.console import quiet_libraries
from tkre_hf.knowledge.cli import generate_training_set
from tkre_hf.knowledge.settings import Stage0Arguments


def main(argv: Sequence[str] | None = None) -> int:
    (args,) = parse_arguments(Stage0Arguments, argv, __doc__)
    with quiet_libraries():
        summary, code = generate_training_set(args)
    print(summary)
    return code


if __name__ == "__main__":
    run(main)
