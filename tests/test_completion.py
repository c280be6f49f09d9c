"""Shell completion: the script for bash, asked as bash asks it, and those for zsh and fish, read by their shells."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tkre_hf.cli import ALIASES, COMMANDS, main
from tkre_hf.completion import SHELLS

# Prints what is offered for the last of the words, as if it stood under the cursor.
_ASK = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
read -r _ _ _ _ _ function _ < <(complete -p tkre | sed "s/.*-F/_ _ _ _ _/")
"$function" && printf "%s\\n" "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each shell's script, and files to complete."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        with pytest.MonkeyPatch.context() as patch, (folder / shell).open("w") as script:
            patch.setattr("sys.stdout", script)
            assert main(["completion", shell]) == 0
    for name in ("rows.jsonl", "two words.jsonl"):
        (folder / name).touch()
    return folder


def offered(scripts: Path, *words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "--norc", "-c", _ASK, "bash", scripts / "bash", "tkre", *words],
        cwd=scripts,
        check=True,
        capture_output=True,
        text=True,
    )
    assert not done.stderr.replace("bash: compopt: not currently executing completion function", "").strip()
    return [word for word in done.stdout.splitlines() if word]


def test_bash_offers_commands_and_their_actions(scripts: Path) -> None:
    assert offered(scripts, "") == [*COMMANDS, *ALIASES]
    assert offered(scripts, "--debug", "pu") == ["push"]
    assert offered(scripts, "train", "") == ["stage1", "stage2", "kshot"]
    assert offered(scripts, "hin", "em") == ["embed"]
    assert offered(scripts, "completion", "") == [*SHELLS]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train stage2 --max_st", ["--max_steps"]),  # of transformers
        ("train stage2 --bf16 --max_st", ["--max_steps"]),  # behind a switch
        ("graph rows.jsonl -o graph --min", ["--min_score"]),
        ("graph --input rows.jsonl --min", ["--min_score"]),  # which might be one more file
        ("index --sup", ["--supports"]),
        ("demo --output", ["--output-dir"]),
        ("hin similar --output", []),  # another action's
        ("push --deb", ["--debug"]),
        ("push folder me/x --repo_type ", ["model", "dataset"]),
    ],
)
def test_bash_offers_options_and_what_they_choose_from(scripts: Path, words: str, expected: list[str]) -> None:
    assert offered(scripts, *words.split(" ")) == expected


@pytest.mark.parametrize(
    "words", ["predict --input", "push", "push --private", "graph -o out", "relations fit --model"]
)
def test_bash_offers_files(scripts: Path, words: str) -> None:
    assert offered(scripts, *words.split(), "r") == ["rows.jsonl"]
    assert offered(scripts, *words.split(), "tw") == ["two words.jsonl"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_reads_its_script(scripts: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} isn't installed")
    subprocess.run([program, "-n", scripts / shell], check=True, env={**os.environ, "HOME": str(scripts)})


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_has_every_command(scripts: Path, shell: str) -> None:
    text = (scripts / shell).read_text()
    assert all(name in text for name in (*COMMANDS, *ALIASES, "stage1", "stage2", "kshot", "max_steps", "repo_type"))


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'tcsh'" in line and all(shell in line for shell in SHELLS)
