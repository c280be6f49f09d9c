"""A page's fenced blocks and a notebook's cells, with what a comment before a block says of it.

``<!-- file: train.jsonl -->`` gives a block that is a file's content its name, ``<!-- output -->`` says that a block
is what the one before it prints, ``<!-- serves: http://127.0.0.1:7860 -->`` that it doesn't end by itself but answers
at an address, ``<!-- hub -->`` that it talks to the Hub, ``<!-- hub: without tkre_hf -->`` also that it is somebody's
who hasn't installed tkre_hf, and ``<!-- not run: needs two machines -->`` why a block isn't run.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

_MARK = r"(?:^ *<!-- (?P<mark>file|output|serves|hub|not run)(?:: (?P<what>[^\n]+?))? -->\n\s*)?"
_BLOCK = re.compile(rf"{_MARK}^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """One block.

    Args:
        place: Page and line, or notebook and cell.
        language: As the fence has it.
        text: What stands in it.
        mark: What it is, where a comment says so: ``file``, ``output``, ``serves``, ``hub`` or ``not run``.
        what: The file's name, the address, who talks to the Hub, or why it isn't run.
    """

    place: str
    language: str
    text: str
    mark: str = ""
    what: str = ""


def read_blocks(path: Path) -> list[Block]:
    """The blocks of a page (``.md``), or the code cells of a notebook (``.ipynb``), in order."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [(i, "".join(cell["source"])) for i, cell in enumerate(cells) if cell["cell_type"] == "code"]
        return [Block(f"{path.name}, cell {i}", "python", text) for i, text in code]
    page = path.read_text(encoding="utf-8")
    return [
        Block(
            place=f"{path.name}, line {page.count(chr(10), 0, match.start('text'))}",
            language=match["language"].strip(),
            text=textwrap.dedent(match["text"]),
            mark=match["mark"] or "",
            what=match["what"] or "",
        )
        for match in _BLOCK.finditer(page)
    ]
