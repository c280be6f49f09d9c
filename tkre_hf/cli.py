"""The command line, ``tkre``: each command lives in its own module and is imported when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from tkre_hf.errors import TkreError
from tkre_hf.places import without_secrets

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
    "completion": ("print what completes all this in bash, zsh or fish", "tkre_hf.completion"),
}
# Short for a command's action.
ALIASES = {"index": ("relations", "fit"), "add": ("relations", "add")}
# Characters of an error's own message: torch's tell of the allocator's settings as well.
_LONGEST = 500
# What a run ends with, for `tkre --help` and the documentation.
EXIT_CODES = {
    0: "done",
    1: "the work failed, or was done in part",
    2: "the command or its input is wrong; the message says what to mend",
    130: "interrupted",
    141: "nobody reads the output",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # A word of its own is never another option's value: argparse takes what begins with -- for an option.
    debug = "--debug" in words
    while words[:1] == ["--debug"]:
        del words[0]
    name, *rest = words or [""]
    if name in ("", "-h", "--help"):
        print(_help())
        return 0 if name else 2
    if name == "--version":
        from importlib.metadata import version

        print(f"tkre {version('tkre-hf')}")
        return 0
    if name in ALIASES:
        name, *action = ALIASES[name]
        rest = [*action, *rest]
    if name not in COMMANDS:
        print(f"tkre: {_unknown(name)}", file=sys.stderr)
        return 2
    try:
        code = int(import_module(COMMANDS[name][1]).main(rest, f"tkre {name}"))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"\ntkre {name}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        lost = _drop_output()
        if lost and isinstance(error, BrokenPipeError):
            return 141
        if debug:
            raise
        if isinstance(error, TkreError):
            print(f"tkre {name}: {error}", file=sys.stderr)
            return 2
        print(f"tkre {name}: {_sentence(error)}; --debug shows the traceback", file=sys.stderr)
        return 1


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name.ljust(width)}  {text}" for name, (text, _) in COMMANDS.items())
    aliases = "\n".join(f"  {name.ljust(width)}  is short for {' '.join(whole)}" for name, whole in ALIASES.items())
    codes = "\n".join(f"  {code:<{width}}  {meaning}" for code, meaning in EXIT_CODES.items())
    return f"""usage: tkre COMMAND [options]

Few-shot relation extraction: from a few labelled sentences to a checkpoint.

commands:
{commands}
{aliases}

options:
  {"-h, --help".ljust(width)}  show this, or after a command what it does, needs and takes
  {"--version".ljust(width)}  print the version
  {"--debug".ljust(width)}  show the traceback of what goes wrong

exit codes:
{codes}

'tkre COMMAND --help' lists a command's options."""


def _unknown(word: str) -> str:
    what = "option" if word.startswith("-") else "command"
    return f"unknown {what} {word!r}: choose of {', '.join([*COMMANDS, *ALIASES])}, or see tkre --help"


def _sentence(error: Exception) -> str:
    """What went wrong that nobody has thought of, in one line and without a secret."""
    text = without_secrets(" ".join(str(error).split()))
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} …"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _drop_output() -> bool:
    """Whether the standard output takes nothing any more, as when ``head`` went away; the rest is dropped then."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w") as nowhere:
            # Or Python itself complains of it at the end.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
