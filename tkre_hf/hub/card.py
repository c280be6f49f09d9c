"""``tkre card``: writes or refreshes the card of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tkre_hf.errors import TkreError
from tkre_hf.hub.marks import CARD, card_text, is_edited
from tkre_hf.hub.model_card import told_by, write_card


@dataclass
class CardArguments:
    """Whose card is written, and what it says beside what the folder tells."""

    folder: str = field(metadata={"help": "Folder of the model.", "metavar": "DIR"})
    results: str | None = field(
        default=None,
        metadata={
            "help": "File of result rows, as tkre evaluate --output writes it; results.json in the folder by default."
        },
    )
    system: str | None = field(default=None, metadata={"help": "Which of that file's systems the model is."})
    name: str | None = field(
        default=None, metadata={"help": "What loads the model: its Hub id; the folder by default."}
    )
    license: str | None = field(default=None, metadata={"help": "The model's licence, as the Hub spells it."})
    tags: list[str] = field(default_factory=list, metadata={"help": "Tags beside the project's own."})


def refresh_card(folder: Path, results: str | None = None, system: str | None = None, **given: Any) -> Path:
    """Writes a folder's card anew: what the one that is there was told holds on, where this one isn't told otherwise.

    Args:
        folder: Holds the model.
        results: As for :func:`~tkre_hf.hub.model_card.write_card`, like the others.
        system: Which of the file's systems is the model.
        **given: Further facts; an empty one isn't told.

    Raises:
        TkreError: There is no model, or a file beside it is wrong.
    """
    there = card_text(folder)
    told = told_by(there) if there is not None and not is_edited(there) else {}
    return write_card(folder, results, system, **{**told, **{name: value for name, value in given.items() if value}})


def main(argv: Sequence[str], prog: str = "tkre card") -> int:
    """``tkre card DIR``.

    Raises:
        TkreError: There is no model, or a file beside it is wrong.
    """
    from tkre_hf.arguments import parse_arguments

    description = (
        "Writes README.md beside a model, from what its training left there; one that a person edited stays.\n\n"
        f"{prog} my_model --results rows.json --license apache-2.0"
    )
    (args,) = parse_arguments(CardArguments, argv, description, prog, ("folder",))
    if not Path(args.folder).is_dir():
        raise TkreError(f"there is no folder {args.folder}")
    given = {"name": args.name, "licence": args.license, "tags": args.tags}
    path = refresh_card(Path(args.folder), args.results, args.system, **given)
    beside = "" if path.name == CARD else f"; {CARD} is a person's, and stays"
    print(f"the card is {path}{beside}")
    return 0
