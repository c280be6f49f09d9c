"""``tkre completion``: a shell's script that completes commands, their options, and files.

shtab writes it from the commands' parsers. Making these takes torch, seconds that nobody waits for at the Tab key, so
all that can be completed stands in the script itself: it is written once, and again after an update.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from tkre_hf.cli import ALIASES, COMMANDS
from tkre_hf.parsing import CommandParser, Main, parser_of

SHELLS = ("bash", "zsh", "fish")
# Types whose values are no files; demo's number is one of them.
_NUMBERS = ("int", "float", "number")
_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "fish": "(__fish_complete_path (commandline -ct))"}


def main(argv: Sequence[str], prog: str) -> int:
    """Prints the script.

    Raises:
        TkreError: There is no such shell.
    """
    parser = CommandParser(
        prog=prog,
        description="Prints what has your shell complete tkre's commands, their options and files at the Tab key.\n"
        "It needs the shell's name. The script is complete in itself: write it again after an update.\n\n"
        f"{prog} bash > ~/.local/share/bash-completion/completions/tkre\n"
        f"{prog} zsh > ~/.zfunc/_tkre                (with fpath+=~/.zfunc before compinit in ~/.zshrc)\n"
        f"{prog} fish > ~/.config/fish/completions/tkre.fish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=SHELLS, help="which shell the script is for")
    parser.accept_debug()
    shell = parser.parse_args(argv).shell
    import shtab

    print(shtab.complete(command_tree(), shell))
    return 0


def command_tree() -> argparse.ArgumentParser:
    """One parser of the whole command line, as shtab reads it: nothing is parsed by it."""
    root = argparse.ArgumentParser(prog="tkre")
    root.add_argument("--version", action="store_true", help="Print the version.")
    root.add_argument("--debug", action="store_true", help="Show the traceback of what goes wrong.")
    commands = root.add_subparsers()
    for name, (text, module) in COMMANDS.items():
        command = import_module(module)
        actions: dict[str, Main] = getattr(command, "ACTIONS", {})
        target = commands.add_parser(name, help=text, description=text, add_help=False)
        if not actions:
            _copy(parser_of(command.main, f"tkre {name}"), target)
            continue
        target.add_argument("-h", "--help", action="store_true", help="List the actions.")
        parts = target.add_subparsers()
        for action, run in actions.items():
            _add_action(parts, action, parser_of(run, f"tkre {name} {action}"))
    for alias, (name, action) in ALIASES.items():
        run = import_module(COMMANDS[name][1]).ACTIONS[action]
        _add_action(commands, alias, parser_of(run, f"tkre {name} {action}"))
    return root


def _add_action(parts: Any, name: str, parser: argparse.ArgumentParser) -> None:
    text = (parser.description or "").partition("\n")[0]
    _copy(parser, parts.add_parser(name, help=text, description=text, add_help=False))


def _copy(source: argparse.ArgumentParser, target: argparse.ArgumentParser) -> None:
    """Enters a command's options, and what may stand without an option."""
    for action in source._actions:
        names = _spellings(action.option_strings)
        if names and (action.nargs == 0 or (action.nargs == "?" and action.const is True)):
            target.add_argument(*names, action="store_true", default=action.default, help=action.help)
        else:
            _add_valued(target, names or [action.dest], action)
    for action in getattr(source, "positionals", ()):
        _add_valued(target, [action.dest], action)


def _add_valued(target: argparse.ArgumentParser, names: Sequence[str], action: argparse.Action) -> None:
    added: Any = target.add_argument(
        *names, nargs=action.nargs, choices=action.choices, default=action.default, help=action.help
    )
    if action.choices is None and getattr(action.type, "__name__", "") not in _NUMBERS:
        # Behind an option with several values shtab's script for bash would complete nothing but these any more; bash
        # itself completes files where the script knows nothing.
        by_itself = ("bash",) if names[0].startswith("-") and action.nargs == "+" else ()
        added.complete = {shell: how for shell, how in _FILES.items() if shell not in by_itself}


def _spellings(names: Sequence[str]) -> list[str]:
    """Without ``--output-dir`` beside ``--output_dir``, which would double all that is listed."""
    return list({name.replace("_", "-"): name for name in reversed(names)}.values())[::-1]
