"""A recipe's settings: dataclasses filled from a YAML file, which the command line overrides."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_args, get_origin, get_type_hints

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import string_to_bool

from tkre_hf.errors import TkreError
from tkre_hf.parsing import ArgumentsError, CommandParser

# --stage1.max_steps, or --stage1.max_steps=100
_NESTED_OPTION = re.compile(r"--(?P<outer>\w+)\.(?P<inner>\w+)(?:=(?P<value>.*))?", re.S)
# Such a word is a value, not an option.
_NEGATIVE_NUMBER = re.compile(r"-\d+|-\d*\.\d+")


def parse_arguments(
    types: type | Sequence[type],
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    positionals: Sequence[str] = (),
) -> tuple[Any, ...]:
    """Fills dataclasses from ``--config file.yaml`` and the command line, which overrides it.

    The file is read as the command line that says the same, so a value means the same in both, and what is refused in
    one is refused in the other: ``1e-4`` is a number, a list's entries are one option's values, ``null`` is no value
    where there need not be one. For a switch that may stay unsaid ``auto`` says so. Of a setting that holds settings
    itself, the command line gives one as ``--stage1.max_steps 100``.

    Args:
        types: A dataclass or several; each field is a setting, its metadata's ``help`` says what it means.
        argv: The command line; the process's own by default.
        description: What ``--help`` says first.
        prog: The command of ``tkre`` that it is, as help shows it; the script's own name by default.
        positionals: Settings that may go without their names: the words that belong to no option are theirs, in this
            order, wherever they stand; all the others are the last one's, if it takes several.

    Returns:
        One instance of each of ``types``.

    Raises:
        ArgumentsError: A setting is unknown, in the file or on the command line, or has a wrong value.
    """
    types = [types] if isinstance(types, type) else list(types)
    parser = _Parser(types, description, prog, positionals)
    file = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    file.error = parser.error  # type: ignore[method-assign]
    file.add_argument("--config")
    given, rest = file.parse_known_args(argv)
    settings = _read_yaml(given.config) if given.config is not None else {}
    rest = parser.name_positionals(parser.take_nested(rest, settings))
    tokens = parser.read_settings(settings, given.config)
    # The command line comes last: of an option given twice, the later one counts.
    return parser.fill([*tokens, *rest])


def parse_settings(
    types: type | Sequence[type], settings: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """Fills dataclasses from a mapping, such as the part of a YAML file that is one stage's settings.

    Args:
        types: A dataclass or several.
        settings: A value of each setting given, as YAML has it.
        where: What the mapping is called in errors.
        defaults: Values of settings that ``settings`` lacks, where these are not the dataclasses' own.

    Returns:
        One instance of each of ``types``.

    Raises:
        ArgumentsError: A setting is unknown or has a wrong value.
    """
    types = [types] if isinstance(types, type) else list(types)
    parser = _Parser(types)
    tokens = parser.read_settings({**(defaults or {}), **settings}, where)
    try:
        return parser.fill(tokens)
    except ArgumentsError as error:
        raise ArgumentsError(f"{where}: {error}") from None


def run(main: Callable[[], int | None]) -> None:
    """Runs a program, which may return its exit code.

    What its user can mend ends in one sentence and exit code 2, not in a traceback.
    """
    try:
        code = main()
    except TkreError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        # A process that leaves while its group's threads run is aborted, its work done or not.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    if code:
        raise SystemExit(code)


def log_to_console(training_args: TrainingArguments) -> None:
    """Has the first process of each machine tell what it does, and the others only what goes wrong."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tkre_hf").setLevel(logging.INFO if training_args.should_log else logging.ERROR)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults, and leaves the lines of the description, which hold commands to type, as they are."""


class _Parser(CommandParser, HfArgumentParser):
    def __init__(
        self,
        types: list[Any],
        description: str | None = None,
        prog: str | None = None,
        positionals: Sequence[str] = (),
    ) -> None:
        super().__init__(types, prog=prog, description=description, allow_abbrev=False, formatter_class=_HelpFormatter)
        self.positionals = [self._option_string_actions[f"--{name}"] for name in positionals]
        self._is_command = prog is not None
        self.usage = self._usage()
        self._known = [action.dest for action in self._actions if action.dest != "help"]
        self.add_argument("--config", help="YAML file of settings; those given here override it.")
        if self._is_command and "--debug" not in self._option_string_actions:
            self.accept_debug()
        self._count = len(types)
        hints = [get_type_hints(type) for type in types]
        self._optional = {name for hint in hints for name, type in hint.items() if NoneType in get_args(type)}
        self._nested = {name for hint in hints for name, type in hint.items() if _is_mapping(type)}
        for action in self._actions:
            if action.required:
                action.default = argparse.SUPPRESS  # or help says that it is None
            if action.dest in self._nested:
                action.type, action.metavar = _mapping, f"JSON, or --{action.dest}.SETTING VALUE"
            if action.dest in self._optional and action.nargs != "+":
                if action.type is string_to_bool:
                    action.nargs, action.const = "?", True
                action.type = _or_nothing(cast(Callable[[str], Any], action.type))

    def error(self, message: str) -> Any:
        usage = f"; usage: {self.usage}" if self.positionals and "arguments are required" in message else ""
        raise ArgumentsError(f"{message}{usage}")

    def name_positionals(self, argv: Sequence[str]) -> list[str]:
        """Names the words that belong to no option: ``--private DIR REPO`` is ``--private --folder=DIR --repo=REPO``.

        Unlike argparse, which would take ``DIR`` for the value of the switch before it.
        """
        words = deque(argv)
        named: list[str] = []
        given: set[str] = set()
        free: list[str] = []
        while words:
            word = words.popleft()
            if word == "--" and self.positionals:  # all that follows is no option
                free += words
                break
            if not self._is_option(word):
                if not self.positionals:
                    raise ArgumentsError(self._unexpected(word, named))
                free.append(word)
                continue
            named.append(word)
            option, equals, _ = word.partition("=")
            action = self._option_string_actions.get(option)
            if action is None:
                if option[:2] not in self._option_string_actions:  # as in -ograph
                    raise ArgumentsError(self.unknown(word))
                continue
            given.add(action.dest)
            most = 0 if equals or action.nargs == 0 else len(words) if action.nargs == "+" else 1
            values: list[str] = []
            while len(values) < most and words and not self._is_option(words[0]) and _takes(action, words[0]):
                values.append(words.popleft())
            if word == "--debug" and self._is_command and not values:
                named.pop()  # the switch; a Trainer's setting of this name has values
            named += values
        for action in self.positionals:
            if free and action.dest not in given:
                several = action.nargs == "+"
                named += [f"--{action.dest}", *free] if several else [f"--{action.dest}={free[0]}"]
                free = [] if several else free[1:]
        if free:
            raise ArgumentsError(f"unexpected argument {free[0]!r}; usage: {self.usage}")
        return named

    def _is_option(self, word: str) -> bool:
        """Whether argparse takes a word for an option."""
        if not word.startswith("-") or word == "-":
            return False
        if word.partition("=")[0] in self._option_string_actions:
            return True
        return " " not in word and _NEGATIVE_NUMBER.fullmatch(word) is None

    def _usage(self) -> str:
        words = [self.prog]
        for action in self.positionals:
            name = f"{action.metavar or action.dest.upper()}{' ...' if action.nargs == '+' else ''}"
            words.append(f"[{name}]" if action.default else name)
        for action in self._actions:
            if action.required and action not in self.positionals:
                words.append(f"{action.option_strings[0]} {action.metavar or action.dest.upper()}")
        return " ".join([*words, "[options]"])

    def _unexpected(self, word: str, before: Sequence[str]) -> str:
        action = self._option_string_actions.get(before[-1]) if before else None
        if action is not None and action.nargs == "?":
            return f"unexpected argument {word!r}: {before[-1]} is a switch, and takes true or false if anything"
        return f"unexpected argument {word!r}: every setting is given as --name value"

    def unknown(self, option: str) -> str:
        """Says that there is no such option, and which one may be meant."""
        name = option.partition("=")[0]
        close = get_close_matches(name.replace("-", "_"), [f"__{known}" for known in self._known], n=1)
        hint = f"did you mean --{close[0][2:]}?" if close else "--help lists them all"
        return f"unknown setting {name}; {hint}"

    def fill(self, argv: Sequence[str]) -> tuple[Any, ...]:
        """The dataclasses that a command line stands for."""
        try:
            *values, unknown = self.parse_args_into_dataclasses(
                list(argv), return_remaining_strings=True, look_for_args_file=False
            )
        except ArgumentsError:
            raise
        except ValueError as error:  # a dataclass's own check
            raise ArgumentsError(str(error)) from error
        if unknown:
            raise ArgumentsError(self.unknown(unknown[0]))
        return tuple(values[: self._count])

    def take_nested(self, argv: Sequence[str], settings: dict[str, Any]) -> list[str]:
        """Enters what the command line says as ``--stage1.max_steps 100`` into a file's settings; gives the rest."""
        rest: list[str] = []
        values: list[str] | None = None
        for word in argv:
            match = _NESTED_OPTION.fullmatch(word)
            if match and match["outer"] in self._nested:
                outer = settings.get(match["outer"]) or {}
                if not isinstance(outer, dict):
                    raise ArgumentsError(f"the key {match['outer']!r} holds no settings, so {word} has no place")
                inner = settings[match["outer"]] = dict(outer)
                values = inner[match["inner"]] = [match["value"]] if match["value"] is not None else []
            elif values is not None and not word.startswith("--"):
                values.append(word)
            else:
                values = None
                rest.append(word)
        for name in self._nested & settings.keys():
            if isinstance(settings[name], dict):
                # A single word is a value, and also a list of one.
                single = {key: value[0] for key, value in settings[name].items() if _is_single(value)}
                settings[name] = {**settings[name], **single}
        return rest

    def read_settings(self, settings: Mapping[str, Any], where: str) -> list[str]:
        """The command line that says what a mapping says; ``where`` is what errors call it."""
        tokens = []
        required = [action for action in self._actions if action.required]
        for action in required:
            action.required = False  # the command line may still give it
        for key, value in settings.items():
            if key not in self._known:
                close = get_close_matches(str(key), self._known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else "; --help lists them all"
                raise ArgumentsError(f"{where}: unknown key {key!r}{hint}")
            try:
                words = self._words(key, value)
                self.parse_known_args(words)
            except ArgumentsError as error:
                raise ArgumentsError(f"{where}: {error}") from None
            tokens += words
        for action in required:
            action.required = True
        return tokens

    def _words(self, key: str, value: Any) -> list[str]:
        several = self._option_string_actions[f"--{key}"].nargs == "+"
        if value is None and (several or key not in self._optional):
            raise ArgumentsError(f"the key {key!r} has no value")
        if value == [] and several:
            self.set_defaults(**{key: []})
            return []
        if value == []:
            if self._option_string_actions[f"--{key}"].nargs == "?":
                return [f"--{key}"]  # a switch
            raise ArgumentsError(f"the key {key!r} has no value")
        if isinstance(value, list):
            if not several:
                raise ArgumentsError(f"the key {key!r} takes one value, not a list")
            return [f"--{key}", *map(_word, value)]
        return [f"--{key}", _word(value)] if several else [f"--{key}={_word(value)}"]


def _takes(action: argparse.Action, word: str) -> bool:
    """Whether a word is an option's value: what follows a switch may be the next setting's."""
    if action.nargs != "?":
        return True
    try:
        cast(Callable[[str], Any], action.type)(word)
    except (argparse.ArgumentTypeError, ValueError):
        return False
    return True


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else "null" if value is None else str(value)


def _is_mapping(hint: Any) -> bool:
    return any(get_origin(part) is dict for part in (hint, *get_args(hint)))


def _is_single(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1


def _mapping(word: str) -> dict[str, Any]:
    value = json.loads(word)
    if not isinstance(value, dict):
        raise ValueError(f"expected settings, found {word}")
    return value


def _or_nothing(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    nothing = ("null", "auto") if convert is string_to_bool else ("null",)

    @wraps(convert)  # argparse names the type in its errors
    def converted(word: str) -> Any:
        return None if word in nothing else convert(word)

    return converted


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which one value would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"{key!r} is no key", problem_mark=key_node.start_mark)
            if key in mapping:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        settings = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ArgumentsError(f"can't read the config {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ArgumentsError(f"{path}: not UTF-8: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ArgumentsError(f"{path}{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ArgumentsError(f"{path}: not YAML: {error}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ArgumentsError(f"{path}: expected settings, one 'key: value' in each line")
    return settings
