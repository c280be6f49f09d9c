"""The command line, ``tkre``: each command lives in its own module and is imported when it is called.

Exit codes: 0 done; 1 the work failed; 2 the command or its input is wrong; 130 interrupted; 141 nobody reads the
output.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from tkre_hf.errors import TkreError

# Command: what it does, and the module whose `main(argv, prog)` does it.
COMMANDS = {
    "demo": ("train both stages on the bundled corpus, evaluate, and write ./tkre-bert", "tkre_hf.demo"),
    "generate": ("have an LLM write explanations and samples for your relations", "tkre_hf.knowledge.cli"),
    "train": ("train stage 1 or 2, or a classifier from K labelled rows of each relation", "tkre_hf.training_cli"),
    "relations": ("teach a checkpoint relations by labelled sentences or descriptions", "tkre_hf.relations_cli"),
    "predict": ("extract relations from sentences, JSON lines in and out", "tkre_hf.prediction_cli"),
    "graph": ("make a typed network of sentences, for tkre hin", "tkre_hf.graph_cli"),
    "serve": ("try a checkpoint in the browser, or write a Space for the Hub", "tkre_hf.serve.cli"),
    "evaluate": ("measure a checkpoint's few-shot accuracy", "tkre_hf.evaluation.cli"),
    "card": ("write or refresh the card of a trained model", "tkre_hf.hub.card"),
    "push": ("publish a trained model or generated knowledge on the Hub", "tkre_hf.hub.publish"),
    "doctor": ("tell what is installed, what the machine can do, and whether the Hub answers", "tkre_hf.doctor"),
    "export": ("write a checkpoint as ONNX", "tkre_hf.export_cli"),
    "hin": ("pre-train on a typed network, embed its nodes, find similar ones and new links", "tkre_hf.hin_cli"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    if debug:
        argv.remove("--debug")
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name.ljust(width)}  {text}" for name, (text, _) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="tkre",
        usage="tkre COMMAND [options]",
        description="Few-shot relation extraction: from a few labelled sentences to a checkpoint.",
        epilog=f"commands:\n{listing}\n\n'tkre COMMAND --help' lists a command's options; --debug shows a traceback.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("command", nargs="?", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    args = parser.parse_args(argv[:1])
    if args.version:
        from importlib.metadata import version

        print(f"tkre {version('tkre-hf')}")
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    try:
        command = import_module(COMMANDS[args.command][1])
        code = int(command.main(argv[1:], f"tkre {args.command}"))
        sys.stdout.flush()
        return code
    except TkreError as error:
        if debug:
            raise
        print(f"tkre {args.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        if not _unread():
            raise
        return 141
    except KeyboardInterrupt:
        print(f"\ntkre {args.command}: interrupted", file=sys.stderr)
        return 130


def _unread() -> bool:
    """Whether the reader of the standard output went away, as ``head`` does; the rest of it is dropped then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:
            # Or Python itself complains of it at the end.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
