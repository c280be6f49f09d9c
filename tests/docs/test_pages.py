"""README, the how-to pages and the notebooks do what they say: every block runs, in order, as a newcomer would run it.

Each page has a folder of its own with a clone of the repository and what the page takes for granted
(``possessions.py``). Commands are run as they are printed, on smaller things (``small.py``). A block that can't run
offline on one machine says so in a comment before it (``blocks.py``).
"""

from __future__ import annotations

import csv
import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tkre_hf.doctor import extra_checks

from ..hub.server import TOKEN, Hub, RunningHub
from ..knowledge.servers import Server, ThreadedServer
from .blocks import Block, read_blocks
from .possessions import ROOT, clone, copy_into, furnish, write_data, write_semeval
from .terminal import Interpreter, Terminal

README = ROOT / "README.md"
PAGES = [
    README,
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")),
]
# The pages' own language model is a server at this address, and the page of `tkre serve` at that; the tests' are at
# free ports.
SERVER, SERVED = "http://127.0.0.1:8080", "http://127.0.0.1:7860"
# Who is asked for a token has it ready. Whom the pages call these publishes there.
LOGIN, USER, ORGANIZATION = "hf auth login", "me", "YOUR_NAME"
WITHOUT = "without tkre_hf"


def read_data(language: str, text: str) -> object:
    """What is shown and not run is at least what it says it is."""
    if language == "json":
        return [json.loads(line) for line in text.splitlines()]
    return yaml.safe_load(text) if language == "yaml" else list(csv.reader(text.splitlines(), strict=True))


RUN = ("bash", "python")
READ = ("csv", "json", "yaml")
SHOWN = ("bibtex", "text")


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """The pages' addresses, and the tests' own in their places."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ThreadedServer(Server()) as server:
        yield {SERVER: server.url, SERVED: f"http://127.0.0.1:{port}"}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """The pages' Hub."""
    with RunningHub(Hub(TOKEN, USER, [ORGANIZATION])) as running:
        yield running


@pytest.fixture(scope="module")
def terminal(
    tmp_path_factory: pytest.TempPathFactory, real_text_backbone: Path, addresses: dict[str, str], hub: Hub
) -> Iterator[Terminal]:
    """Where all pages' commands are typed."""
    folder = tmp_path_factory.mktemp("terminal")
    write_data(folder / "data")
    port = int(addresses[SERVED].rpartition(":")[2])
    with Terminal(folder / "terminal", real_text_backbone, folder / "data", port, hub) as terminal:
        yield terminal


@pytest.fixture(scope="module")
def possessions(tmp_path_factory: pytest.TempPathFactory, real_text_backbone: Path) -> Path:
    """What the how-to pages' reader has."""
    folder = tmp_path_factory.mktemp("possessions")
    furnish(folder, real_text_backbone)
    return folder


def replaced(text: str, addresses: Mapping[str, str]) -> str:
    """A text with the tests' own addresses."""
    for address, own in addresses.items():
        text = text.replace(address, own)
    return text


def missing_extras(block: Block) -> list[str]:
    """The extras that a block installs and this environment lacks, so that nobody can go on with its page here."""
    return [check.name for check in extra_checks() if not check.ok and f"'tkre-hf{check.name}'" in block.text]


def run_block(
    block: Block, page: Path, terminal: Terminal, interpreter: Interpreter, addresses: Mapping[str, str]
) -> str:
    """Runs a block, which has to succeed; gives what it printed."""
    text, environment, calls = replaced(block.text, addresses), {"HF_HUB_OFFLINE": "1"}, len(terminal.hub.calls)
    if block.mark == "hub":
        text, environment = text.replace(LOGIN, f"{LOGIN} --token {TOKEN}"), terminal.hub.environment()
    if block.language != "python":
        # The hub's client would forbid the server too.
        online = {"HF_HUB_OFFLINE": "0"} if SERVER in page.read_text(encoding="utf-8") else {}
        code, printed, errors = terminal.bash(text, interpreter.folder, environment | online)
    elif block.what == WITHOUT:
        with terminal.python(interpreter.folder, "stranger") as stranger:
            code, printed, errors = stranger.run(text, environment)
    else:
        code, printed, errors = interpreter.run(text, environment)
    assert code == 0, f"{block.place} ended with {code}:\n{text}\n{printed}\n{errors}"
    if block.mark == "hub":
        assert len(terminal.hub.calls) > calls, f"{block.place} asks nothing of the Hub"
        assert TOKEN not in printed + errors, block.place
    return printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(
    page: Path, terminal: Terminal, possessions: Path, addresses: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "tkre_hf"
    clone(folder, terminal.bin)
    if page == README:
        write_semeval(folder / "data" / "semeval2010")
    else:
        copy_into(possessions, folder)
    printed, ran = "", 0
    with terminal.python(folder) as interpreter, ExitStack() as served:
        for block in read_blocks(page):
            assert block.language in RUN + READ + SHOWN, f"{block.place}: what is {block.language!r}?"
            if block.mark == "file":
                (folder / block.what).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.what).write_text(replaced(block.text, addresses), encoding="utf-8")
            elif block.mark == "output":
                assert printed == block.text, block.place
            elif block.language in READ:
                assert read_data(block.language, block.text), block.place
            elif missing := missing_extras(block):
                pytest.skip(f"{block.place} needs the extra {', '.join(missing)}")
            elif block.mark == "serves":
                served.close()
                served.enter_context(terminal.serving(block.text, folder, addresses[block.what]))
                ran += 1
            elif block.language in RUN and block.mark != "not run":
                printed = run_block(block, page, terminal, interpreter, addresses)
                ran += 1
    assert ran, f"{page.name} has nothing to run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_mark_says_what_it_has_to(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = read_blocks(page)
    # A mark that is misspelt, or stands before something else, would be lost.
    marks = re.findall("<!-- (not run|file|output|serves|hub)", text)
    assert marks == [block.mark for block in blocks if block.mark]
    assert page.suffix == ".ipynb" or len(re.findall("^ *```", text, re.M)) == 2 * len(blocks)
    for block in blocks:
        assert bool(block.what) == (block.mark in ("file", "not run", "serves")) or block.mark == "hub", block.place
        assert block.mark != "hub" or (block.language in RUN and block.what in ("", WITHOUT)), block.place


@pytest.mark.parametrize("path", [page for page in PAGES if page.suffix == ".ipynb"], ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    assert cells[0]["cell_type"] == "markdown" and "".join(cells[0]["source"]).startswith("# ")
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_who_talks_to_the_hub(terminal: Terminal, tmp_path: Path, addresses: dict[str, str]) -> None:
    page = tmp_path / "page.md"
    whoami = "```python\nfrom huggingface_hub import whoami\n\nprint(whoami()['name'])\n```\n"
    page.write_text(
        f"<!-- hub -->\n```bash\n{LOGIN}\nhf auth whoami\n```\n\n<!-- hub -->\n{whoami}\n{whoami}"
        f"<!-- hub: {WITHOUT} -->\n{whoami}\n<!-- hub: {WITHOUT} -->\n```python\nimport tkre_hf\n```\n"
        "<!-- hub -->\n```python\nimport tkre_hf\n```\n"
    )
    shell, mine, offline, theirs, missing, silent = read_blocks(page)
    with terminal.python(tmp_path) as interpreter:
        for block in (shell, mine, theirs):
            assert USER in run_block(block, page, terminal, interpreter, addresses)
        for block, message in ((offline, "offline"), (missing, "ModuleNotFoundError"), (silent, "asks nothing")):
            with pytest.raises(AssertionError, match=message):
                run_block(block, page, terminal, interpreter, addresses)


def test_what_fails_is_told(terminal: Terminal, tmp_path: Path, addresses: dict[str, str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\ntkre evaluate --model no/such\n```\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n"
        "```bash\npip install 'tkre-hf[nothing]'\n```\n\n```bash\nfalse | true\n```\n"
    )
    shell, first, second, extra, pipe = read_blocks(page)
    with terminal.python(tmp_path) as interpreter:
        assert run_block(first, page, terminal, interpreter, addresses) == ""
        for block, message in ((shell, "no/such"), (second, "AssertionError"), (extra, "nothing"), (pipe, "with 1")):
            with pytest.raises(AssertionError, match=message):
                run_block(block, page, terminal, interpreter, addresses)
        # It ends where it should serve.
        with (
            pytest.raises(AssertionError, match="nothing answers"),
            terminal.serving(shell.text, tmp_path, addresses[SERVED]),
        ):
            pass
