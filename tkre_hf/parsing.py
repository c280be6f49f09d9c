"""What all commands' parsers have in common. It imports neither torch nor transformers: ``tkre --help`` is instant."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from tkre_hf.errors import TkreError

# Does a command, or one of its actions, by its words and the name that help calls it by; gives the exit code.
Main = Callable[[Sequence[str], str], int]

# Parsers that were asked for themselves, not for their help.
_ASKED: ContextVar[list[argparse.ArgumentParser] | None] = ContextVar("asked", default=None)


class ArgumentsError(TkreError, ValueError):
    """A setting is unknown or has a wrong value."""


class CommandParser(argparse.ArgumentParser):
    """A command's parser, which tells what is wrong in one sentence."""

    def error(self, message: str) -> Any:
        raise ArgumentsError(message)

    def print_help(self, file: Any = None) -> None:
        """Shows the help, or gives the parser to :func:`parser_of`."""
        asked = _ASKED.get()
        if asked is None:
            super().print_help(file)
        else:
            asked.append(self)

    def accept_debug(self) -> None:
        """Lets ``--debug`` stand among the options; :func:`tkre_hf.cli.main` is who reads it."""
        self.add_argument("--debug", action="store_true", help="Show the traceback of what goes wrong.")


def parser_of(main: Main, prog: str) -> argparse.ArgumentParser:
    """The parser of a command or an action, which is there when its help is asked for, and nothing else is done then.

    Args:
        main: The command or action.
        prog: What its help calls it.
    """
    asked: list[argparse.ArgumentParser] = []
    token = _ASKED.set(asked)
    try:
        with suppress(SystemExit):
            main(["--help"], prog)
    finally:
        _ASKED.reset(token)
    return asked[0]


def run_action(actions: Mapping[str, Main], argv: Sequence[str], prog: str, description: str) -> int:
    """Does one of a command's actions, each of which has options of its own.

    Args:
        actions: Name of each, and what does it with the other words and the name of its own program.
        argv: The action's name and its options.
        prog: The command, as help shows it.
        description: What help says of the actions.

    Returns:
        The exit code.

    Raises:
        ArgumentsError: There is no such action.
    """
    name, *words = [*argv] or [""]
    if name == "--debug":
        return run_action(actions, words, prog, description)
    if name in ("", "-h", "--help"):
        print(f"usage: {prog} {{{','.join(actions)}}} [options]\n\n{description}", end="")
        return 0 if name else 2
    if name not in actions:
        raise ArgumentsError(f"unknown action {name!r}: choose of {', '.join(actions)}")
    return actions[name](words, f"{prog} {name}")
