"""The command line, called in-process: every command's help, and how what goes wrong is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest

from tkre_hf import cli
from tkre_hf.cli import COMMANDS, main
from tkre_hf.errors import InvalidRowError, TkreError

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
    assert main(["fake"]) == 130
    assert capsys.readouterr().err == "\ntkre fake: interrupted\n"


def test_a_bug_is_not_hidden(fake_command: FakeCommand) -> None:
    def command(argv: list[str], prog: str) -> int:
        raise ZeroDivisionError

    fake_command(command)
    with pytest.raises(ZeroDivisionError):
        main(["fake"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        installed = version("tkre-hf")
    except PackageNotFoundError:
        pytest.skip("tkre-hf runs from its sources, without metadata")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tkre {installed}\n"


@pytest.mark.parametrize("argv", [["--help"], ["demo", "--help"]])
def test_help_comes_without_torch(argv: list[str]) -> None:
    code = (
        "import sys\nfrom tkre_hf.cli import main\n"
        f"try: main({argv})\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    root = Path(cli.__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, stdout=subprocess.DEVNULL)
