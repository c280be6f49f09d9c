"""README, the how-to pages and the notebooks do what they say: every block runs, in order, as a newcomer would run it.

Each page has a folder of its own with a clone of the repository and what the page takes for granted
(``possessions.py``). Commands are run as they are printed, on smaller things (``warm.py``). A block that can't run
offline on one machine says so in a comment before it (``blocks.py``).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ..knowledge.servers import Server, ThreadedServer
from .blocks import Block, read_blocks
from .possessions import ROOT, clone, copy_into, furnish, write_data
from .terminal import Interpreter, Terminal

README = ROOT / "README.md"
PAGES = [
    README,
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")),
]
# The pages' own language model is a server at this address; the tests' is at a free port.
SERVER = "http://127.0.0.1:8080"


def read_data(language: str, text: str) -> object:
    """What is shown and not run is at least what it says it is."""
    if language == "json":
        return [json.loads(line) for line in text.splitlines()]
    return yaml.safe_load(text) if language == "yaml" else list(csv.reader(text.splitlines(), strict=True))


RUN = ("bash", "python")
READ = ("csv", "json", "yaml")
SHOWN = ("bibtex", "text")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory, real_text_backbone: Path) -> Iterator[Terminal]:
    """Where all pages' commands are typed."""
    folder = tmp_path_factory.mktemp("terminal")
    write_data(folder / "data")
    with Terminal(folder / "terminal", real_text_backbone, folder / "data") as terminal:
        yield terminal


@pytest.fixture(scope="module")
def possessions(tmp_path_factory: pytest.TempPathFactory, real_text_backbone: Path) -> Path:
    """What the how-to pages' reader has."""
    folder = tmp_path_factory.mktemp("possessions")
    furnish(folder, real_text_backbone)
    return folder


@pytest.fixture(scope="module")
def llm() -> Iterator[str]:
    """Address of a language model."""
    with ThreadedServer(Server()) as server:
        yield server.url


def run_block(block: Block, page: Path, terminal: Terminal, interpreter: Interpreter, llm: str) -> str:
    """Runs a block, which has to succeed; gives what it printed."""
    text = block.text.replace(SERVER, llm)
    if block.language == "python":
        code, printed, errors = interpreter.run(text)
    else:
        # The hub's client would forbid the server too.
        environment = {"HF_HUB_OFFLINE": "0"} if SERVER in page.read_text(encoding="utf-8") else {}
        code, printed, errors = terminal.bash(text, interpreter.folder, environment)
    assert code == 0, f"{block.place} ended with {code}:\n{text}\n{printed}\n{errors}"
    return printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(page: Path, terminal: Terminal, possessions: Path, llm: str, tmp_path: Path) -> None:
    folder = tmp_path / "tkre_hf"
    clone(folder, terminal.bin)
    if page != README:
        copy_into(possessions, folder)
    printed, ran = "", 0
    with terminal.python(folder) as interpreter:
        for block in read_blocks(page):
            assert block.language in RUN + READ + SHOWN, f"{block.place}: what is {block.language!r}?"
            if block.mark == "file":
                (folder / block.what).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.what).write_text(block.text.replace(SERVER, llm), encoding="utf-8")
            elif block.mark == "output":
                assert printed == block.text, block.place
            elif block.language in READ:
                assert read_data(block.language, block.text), block.place
            elif block.language in RUN and block.mark != "not run":
                printed = run_block(block, page, terminal, interpreter, llm)
                ran += 1
    assert ran, f"{page.name} has nothing to run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_mark_says_what_it_has_to(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = read_blocks(page)
    # A mark that is misspelt, or stands before something else, would be lost.
    assert text.count("<!-- not run") + text.count("<!-- file") + text.count("<!-- output") == sum(
        bool(block.mark) for block in blocks
    )
    assert page.suffix == ".ipynb" or len(re.findall("^ *```", text, re.M)) == 2 * len(blocks)
    for block in blocks:
        assert bool(block.what) == (block.mark in ("file", "not run")), block.place


@pytest.mark.parametrize("path", [page for page in PAGES if page.suffix == ".ipynb"], ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    assert cells[0]["cell_type"] == "markdown" and "".join(cells[0]["source"]).startswith("# ")
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_what_fails_is_told(terminal: Terminal, tmp_path: Path, llm: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\ntkre evaluate --model no/such\n```\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n"
        "```bash\npip install 'tkre-hf[nothing]'\n```\n\n```bash\nfalse | true\n```\n"
    )
    shell, first, second, extra, pipe = read_blocks(page)
    with terminal.python(tmp_path) as interpreter:
        assert run_block(first, page, terminal, interpreter, llm) == ""
        for block, message in ((shell, "no/such"), (second, "AssertionError"), (extra, "nothing"), (pipe, "with 1")):
            with pytest.raises(AssertionError, match=message):
                run_block(block, page, terminal, interpreter, llm)
