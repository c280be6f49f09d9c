"""The command line, called in-process: every command's help, and how what goes wrong is told."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import pytest
from transformers import HfArgumentParser

from tkre_hf import cli
from tkre_hf.arguments import parse_arguments
from tkre_hf.cli import ALIASES, COMMANDS, EXIT_CODES, main
from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.parsing import parser_of

ROOT = Path(cli.__file__).parent.parent

FakeCommand = Callable[[Callable[[list[str], str], int]], None]


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch) -> FakeCommand:
    """Makes ``tkre fake`` do something: ``fake_command(lambda argv, prog: 0)``."""

    def make(command: Callable[[list[str], str], int]) -> None:
        module = ModuleType("fake_command")
        module.main = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "fake_command", module)
        monkeypatch.setitem(cli.COMMANDS, "fake", ("do nothing", "fake_command"))

    return make


def exit_code(argv: list[str]) -> int:
    try:
        return main(argv)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out and text in out for name, (text, _) in COMMANDS.items())


def test_no_command_is_told_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([]) == 2
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: ") and len(out.splitlines()) > 5


def test_an_unknown_command_is_told_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["evalute"]) == 2
    err = capsys.readouterr().err
    assert "evalute" in err and all(name in err for name in COMMANDS)


@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate"],
        ["evaluate", "--model", "x", "--shots", "5"],
        ["evaluate", "--model", "no/such/folder"],
        ["evaluate", "--config", "nowhere.yaml"],
        ["generate", "poems"],
        ["push", "no/such/folder", "ada/m"],
        ["push", "--repo", "ada/m"],
        ["card", "no/such/folder"],
        ["generate", "samples", "--shouts", "5"],
    ],
)
def test_a_users_mistake_is_one_sentence(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tkre {argv[0]}: ")
    with pytest.raises(TkreError):
        main(["--debug", *argv])
    with pytest.raises(TkreError):
        main([*argv, "--debug"])


def test_a_wrong_row_is_named(fake_command: FakeCommand, capsys: pytest.CaptureFixture[str]) -> None:
    def command(argv: list[str], prog: str) -> int:
        raise InvalidRowError("my.jsonl", 3, "head", "the span is empty")

    fake_command(command)
    assert main(["fake"]) == 2
    assert capsys.readouterr().err == "tkre fake: my.jsonl, line 3, field 'head': the span is empty\n"


def test_a_command_gets_its_arguments_and_gives_its_code(fake_command: FakeCommand) -> None:
    calls = []

    def command(argv: list[str], prog: str) -> int:
        calls.append((argv, prog))
        return 1

    fake_command(command)
    assert main(["fake", "--a", "b"]) == 1
    assert calls == [(["--a", "b"], "tkre fake")]


def test_an_interrupt_ends_quietly(fake_command: FakeCommand, capsys: pytest.CaptureFixture[str]) -> None:
    def command(argv: list[str], prog: str) -> int:
        raise KeyboardInterrupt

    fake_command(command)
    for words in (["fake"], ["fake", "--debug"]):
        assert main(words) == 130
        assert capsys.readouterr().err == "\ntkre fake: interrupted\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (
            OSError(28, "No space left on device", "/data/out"),
            "OSError: [Errno 28] No space left on device: '/data/out'",
        ),
        (MemoryError(), "MemoryError"),
        (RuntimeError("first line\n  second line"), "RuntimeError: first line second line"),
        (RuntimeError(f"https://ada:secret@hub hf_{'x' * 30}"), "RuntimeError: https://hub hf_…"),
        (RuntimeError("x" * 501), f"RuntimeError: {'x' * 500} …"),
    ],
)
def test_a_bug_is_named_and_debug_shows_it(
    error: Exception, sentence: str, fake_command: FakeCommand, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(argv: list[str], prog: str) -> int:
        raise error

    fake_command(command)
    assert main(["fake"]) == 1
    assert capsys.readouterr().err == f"tkre fake: {sentence}; --debug shows the traceback\n"
    with pytest.raises(type(error)):
        main(["fake", "--debug"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full, a disk that is full")
def test_a_full_disk_is_told_once() -> None:
    code = (
        "import sys, types\nfrom tkre_hf import cli\n"
        "sys.modules['fake'] = types.SimpleNamespace(main=lambda argv, prog: print('x') or 0)\n"
        "cli.COMMANDS['fake'] = ('', 'fake')\nsys.exit(cli.main(['fake']))"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    expected = "tkre fake: OSError: [Errno 28] No space left on device; --debug shows the traceback\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_debug_is_never_an_options_value() -> None:
    with pytest.raises(TkreError, match="argument --message: expected one argument"):
        main(["push", "folder", "me/x", "--message", "--debug", "--private"])
    assert main(["push", "no/such/folder", "me/x", "--message=--debug"]) == 2


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("completion", "demo", "doctor")])
def test_usage_names_the_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(COMMANDS[command][1])
    for action in getattr(module, "ACTIONS", [""]):
        words = [command, action] if action else [command]
        assert exit_code([*words, "--help"]) == 0
        usage = capsys.readouterr().out.partition("\n")[0]
        assert usage.startswith(f"usage: tkre {' '.join(words)} ") and usage.endswith(" [options]")


@pytest.mark.parametrize(
    ("argv", "usage"),
    [
        (["push"], "tkre push DIR REPO [options]"),
        (["card"], "tkre card DIR [options]"),
        (["graph"], "tkre graph FILE ... [options]"),
        (["export"], "tkre export [MODEL] [options]"),
        (["relations", "add"], "tkre relations add --model MODEL --relation RELATION [options]"),
        (["index"], "tkre relations fit --model MODEL [options]"),
        (["add"], "tkre relations add --model MODEL --relation RELATION [options]"),
    ],
)
def test_usage_says_what_must_be_given(argv: list[str], usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([*argv, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: {usage}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_that_is_complete(command: str) -> None:
    module = import_module(COMMANDS[command][1])
    for action, run in getattr(module, "ACTIONS", {"": module.main}).items():
        prog = f"tkre {command} {action}".rstrip()
        parser = parser_of(run, prog)
        examples = [line for line in (parser.description or "").splitlines() if line.startswith(f"{prog} ")]
        assert examples, prog
        words = list(takewhile(lambda word: word != ">", shlex.split(examples[0])))[len(prog.split()) :]
        if isinstance(parser, HfArgumentParser):
            positionals = [action.dest for action in getattr(parser, "positionals")]  # noqa: B009
            parse_arguments(list(parser.dataclass_types), words, None, prog, positionals)
        else:
            parser.parse_args(words)


@pytest.mark.parametrize("command", ["generate", "train", "relations", "hin"])
def test_a_command_without_its_action_is_told_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    actions = import_module(COMMANDS[command][1]).ACTIONS
    for words, code in (([], 2), (["--help"], 0), (["--debug"], 2)):
        assert main([command, *words]) == code
        assert capsys.readouterr().out.startswith(f"usage: tkre {command} {{{','.join(actions)}}} [options]\n")
    assert main([command, "dance"]) == 2
    assert f"unknown action 'dance': choose of {', '.join(actions)}" in capsys.readouterr().err


def test_help_tells_the_exit_codes_and_the_short_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {code} +{re.escape(text)}$", out, re.M) for code, text in EXIT_CODES.items())
    assert all(re.search(rf"^  {name} +is short for {' '.join(whole)}$", out, re.M) for name, whole in ALIASES.items())
    assert "\n  --debug " in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        installed = version("tkre-hf")
    except PackageNotFoundError:
        pytest.skip("tkre-hf runs from its sources, without metadata")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tkre {installed}\n"


@pytest.mark.parametrize("argv", [["--help"], ["demo", "--help"], ["completion", "--help"], ["train"], ["--version"]])
def test_help_comes_without_torch(argv: list[str]) -> None:
    code = (
        "import sys\nfrom tkre_hf.cli import main\n"
        f"try: main({argv})\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
