"""Settings from YAML and command line: the one overrides the other, and what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tkre_hf.arguments import parse_arguments, parse_settings, run
from tkre_hf.errors import TkreError
from tkre_hf.parsing import ArgumentsError
from tkre_hf.tkre.training_args import MSLMTrainingArguments


@dataclass
class Settings:
    """Stands for a recipe's."""

    learning_rate: float = field(default=1e-3, metadata={"help": "A number."})
    steps: int = field(default=10, metadata={"help": "A whole number."})
    name: str | None = field(default=None, metadata={"help": "A word or none."})
    sources: list[str] = field(default_factory=list, metadata={"help": "Words."})
    shares: list[float] = field(default_factory=list, metadata={"help": "Numbers."})
    flag: bool = field(default=False, metadata={"help": "A switch."})
    bf16: bool | None = field(default=None, metadata={"help": "A switch that may stay unsaid."})
    kind: Literal["linear", "cosine"] = field(default="linear", metadata={"help": "A choice."})

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("steps must not be negative")


@dataclass
class More:
    """A second dataclass, with a setting that must be given."""

    model: str = field(metadata={"help": "Must be given."})


Parse = Callable[..., Settings]


@pytest.fixture
def parse(tmp_path: Path) -> Parse:
    """Parses a config's text and a command line."""

    def parse(text: str | None, *argv: str) -> Settings:
        path = tmp_path / "config.yaml"
        path.write_text(text or "")
        (settings,) = parse_arguments(Settings, ["--config", str(path), *argv] if text is not None else argv)
        return settings

    return parse


def test_defaults(parse: Parse) -> None:
    assert parse(None) == Settings() == parse("")


def test_values_have_their_types(parse: Parse) -> None:
    text = """
        learning_rate: 1e-4  # a string to YAML 1.1
        steps: 5
        name: a b
        sources: [fewrel:wiki, "sample:train"]
        shares: [1, 0.5]
        flag: true
        bf16: auto
        kind: cosine
    """
    expected = Settings(1e-4, 5, "a b", ["fewrel:wiki", "sample:train"], [1.0, 0.5], True, None, "cosine")
    assert parse(text) == expected


def test_the_command_line_overrides_the_file(parse: Parse) -> None:
    text = "steps: 5\nname: x\nsources: [a, b]\nbf16: false\nflag: true\nlearning_rate: 1"
    argv = ["--steps", "7", "--name", "null", "--sources", "c", "--bf16", "--flag", "false"]
    assert parse(text, *argv) == Settings(1.0, 7, None, ["c"], [], False, True)


@pytest.mark.parametrize(("word", "value"), [("auto", None), ("null", None), ("true", True), ("False", False)])
def test_a_switch_that_may_stay_unsaid(parse: Parse, word: str, value: bool | None) -> None:
    assert parse(f"bf16: {word}").bf16 is value
    assert parse(None, "--bf16", word).bf16 is value


def test_null_and_empty_values(parse: Parse) -> None:
    settings = parse("name: null\nsources: []\nshares: 2", "--steps=-0")
    assert (settings.name, settings.sources, settings.shares, settings.steps) == (None, [], [2.0], 0)


def test_a_required_setting_may_come_from_either(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("steps: 3")
    settings, more = parse_arguments((Settings, More), ["--config", str(path), "--model", "m"])
    assert (settings.steps, more.model) == (3, "m")
    path.write_text("model: n")
    assert parse_arguments((Settings, More), ["--config", str(path)])[1] == More("n")
    with pytest.raises(ArgumentsError, match="required: --model"):
        parse_arguments((Settings, More), [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", r"config\.yaml: unknown key 'learning_rat'; did you mean 'learning_rate'\?"),
        ("zzz: 1", r"config\.yaml: unknown key 'zzz'; --help lists them all"),
        ("config: x", r"unknown key 'config'"),
        ("steps: many", r"config\.yaml: argument --steps: invalid int value: 'many'"),
        ("learning_rate: fast", r"config\.yaml: .*--learning[_-]rate.*: invalid float value: 'fast'"),
        ("kind: square", r"config\.yaml: argument --kind: invalid choice: 'square'"),
        ("steps: [1, 2]", r"config\.yaml: the key 'steps' takes one value"),
        ("steps:", r"config\.yaml: the key 'steps' has no value"),
        ("shares: [1, x]", r"config\.yaml: argument --shares: invalid float value: 'x'"),
        ("steps: 1\nsteps: 2", r"config\.yaml, line 2: the key 'steps' is given twice"),
        ("steps: [1", r"config\.yaml, line 1: "),
        ("- steps", r"config\.yaml: expected settings"),
        ("1: 2", r"config\.yaml, line 1: 1 is no key"),
        ("steps: -1", r"steps must not be negative"),
    ],
)
def test_a_wrong_file_is_named(parse: Parse, text: str, message: str) -> None:
    with pytest.raises(ArgumentsError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning_rat", "1"], r"unknown setting --learning_rat; did you mean --learning_rate\?"),
        (["--learning-rat=1"], r"unknown setting --learning-rat; did you mean --learning_rate\?"),
        (["--learn", "1"], "unknown setting --learn"),  # no guessing from a beginning
        (["steps"], "unexpected argument 'steps'"),
        (["--flag", "maybe"], "unexpected argument 'maybe': --flag is a switch, and takes true or false if anything"),
        (["--flag=maybe"], "argument --flag: Truthy value expected"),
        (["--debug"], "unknown setting --debug"),  # of a command, not of a recipe
        (["--steps", "x"], "argument --steps: invalid int value"),
        (["--config"], "argument --config: expected one argument"),
        (["--config", "absent.yaml"], "can't read the config absent.yaml: No such file"),
    ],
)
def test_a_wrong_command_line_is_named(parse: Parse, argv: list[str], message: str) -> None:
    with pytest.raises(ArgumentsError, match=message):
        parse(None, *argv)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"name: \xff")
    with pytest.raises(ArgumentsError, match="config.yaml: not UTF-8"):
        parse_arguments(Settings, ["--config", str(path)])


def test_run_ends_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise TkreError("it rains")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: it rains\n"
    run(lambda: None)


def test_run_hides_no_defect() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: print(1 / 0))


@dataclass
class Chain:
    """Settings that hold settings."""

    name: str = "chain"
    first: dict[str, Any] | None = None
    second: dict[str, Any] = field(default_factory=dict)


def test_settings_within_settings_from_file_and_command_line(tmp_path: Path) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text("first: {steps: 5, rate: 1e-4}\nsecond:\n  names: [a, b]\n")
    (chain,) = parse_arguments(Chain, ["--config", str(file)])
    assert chain.first == {"steps": 5, "rate": "1e-4"} and chain.second == {"names": ["a", "b"]}
    words = ["--first.steps", "7", "--second.names", "c", "d", "--name", "other", "--second.rate=-1"]
    (chain,) = parse_arguments(Chain, ["--config", str(file), *words])
    assert chain == Chain("other", {"steps": "7", "rate": "1e-4"}, {"names": ["c", "d"], "rate": "-1"})
    (chain,) = parse_arguments(Chain, ["--first.steps", "7"])
    assert chain.first == {"steps": "7"}
    (chain,) = parse_arguments(Chain, ["--config", str(file), "--first", "null"])
    assert chain.first is None


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("first: 5", ["--first.steps", "7"], "the key 'first' holds no settings, so --first.steps has no place"),
        ("first: 5", [], "first"),
        ("", ["--first", "[1]"], "first"),
        ("", ["--name.steps", "7"], "unknown setting --name.steps"),
    ],
)
def test_settings_that_hold_none(text: str, words: list[str], message: str, tmp_path: Path) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text(text)
    with pytest.raises(ArgumentsError, match=message):
        parse_arguments(Chain, ["--config", str(file), *words])


def test_a_switch_within_settings_needs_no_value() -> None:
    (chain,) = parse_arguments(Chain, ["--first.flag", "--second.steps"])
    (settings,) = parse_settings(Settings, chain.first, "first")
    assert settings.flag is True
    with pytest.raises(ArgumentsError, match="second: the key 'steps' has no value"):
        parse_settings(Settings, chain.second, "second")


def test_a_mapping_is_parsed_as_a_file_is() -> None:
    (chain,) = parse_settings(Chain, {"name": "x"}, "stage1", {"first": {"a": 1}})
    assert chain == Chain("x", {"a": 1})
    with pytest.raises(ArgumentsError, match="stage1: unknown key 'nam'; did you mean 'name'"):
        parse_settings(Chain, {"nam": "x"}, "stage1")


@dataclass
class Places:
    """Settings of which two may go without their names."""

    folder: str = field(metadata={"help": "Where from.", "metavar": "DIR"})
    repo: str = field(default="here", metadata={"help": "Where to."})
    private: bool = field(default=False, metadata={"help": "A switch."})
    tags: list[str] = field(default_factory=list, metadata={"help": "Words."})
    output: str = field(default="out", metadata={"help": "A word.", "aliases": ["-o"]})


def places(*argv: str) -> Places:
    (found,) = parse_arguments(Places, argv, prog="tkre move", positionals=("folder", "repo"))
    return found


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("a b --private", Places("a", "b", True)),
        ("--private a b", Places("a", "b", True)),
        ("a --private b", Places("a", "b", True)),
        ("--private true a b", Places("a", "b", True)),
        ("--private=no a", Places("a")),
        ("--no-such", None),
        ("-o c a", Places("a", output="c")),
        ("-oc a", Places("a", output="c")),
        ("a --repo b", Places("a", "b")),
        ("--folder a b", Places("a", "b")),
        ("--private --folder a", Places("a", private=True)),
        ("a --tags b c --private", Places("a", private=True, tags=["b", "c"])),
        ("- -7 --debug", Places("-", "-7")),
        ("--debug a", Places("a")),
    ],
)
def test_words_without_a_name_stand_anywhere(argv: str, expected: Places | None) -> None:
    if expected is None:
        with pytest.raises(ArgumentsError, match="unknown setting --no-such"):
            places("a", argv, "b")
    else:
        assert places(*argv.split()) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", r"required: --folder; usage: tkre move DIR \[REPO\] \[options\]"),
        ("--tags a b", "required: --folder; usage: tkre move DIR"),
        ("a b c", r"unexpected argument 'c'; usage: tkre move DIR \[REPO\] \[options\]"),
        ("a --folder b --repo c", "unexpected argument 'a'"),
        ("a --output --debug b", "argument --output.*: expected one argument"),
    ],
)
def test_words_without_a_name_that_have_no_place(argv: str, message: str) -> None:
    with pytest.raises(ArgumentsError, match=message):
        places(*argv.split())


def test_what_follows_two_dashes_is_no_option() -> None:
    assert places("--", "a", "-b") == places("a", "--repo=-b") and places("a", "--", "b") == places("a", "b")


def test_the_last_setting_takes_all_other_words(tmp_path: Path) -> None:
    config = tmp_path / "chosen.yaml"
    config.write_text("sources: [x]\nsteps: 3")
    for argv in (["--flag", "a", "--name", "n", "b"], ["a", "b", "--flag", "--name=n"]):
        (found,) = parse_arguments(Settings, [*argv, "--config", str(config)], prog="tkre x", positionals=("sources",))
        assert found == Settings(sources=["a", "b"], flag=True, name="n", steps=3)


def test_debug_is_the_commands_switch_and_a_trainers_setting() -> None:
    def debug(*words: str) -> list[Any]:
        (found,) = parse_arguments(MSLMTrainingArguments, ["--output_dir", "x", *words], prog="tkre train stage1")
        return [str(entry.value) for entry in found.debug]

    assert debug("--debug") == [] == debug("--debug", "--seed", "1")
    assert debug("--debug", "underflow_overflow") == ["underflow_overflow"]
    assert debug("--debug=underflow_overflow") == ["underflow_overflow"]


def test_usage_is_the_commands_or_the_scripts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["recipes/teach.py"])
    for prog, usage in ((None, "usage: teach.py --model MODEL [options]"), ("tkre a b", "usage: tkre a b --model")):
        with pytest.raises(SystemExit):
            parse_arguments((Settings, More), ["--help"], prog=prog)
        out = capsys.readouterr().out
        assert out.startswith(usage) and ("--debug" in out) == (prog is not None)
        assert "Must be given.\n" in out and "(default: 10)" in out
