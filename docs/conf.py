"""The documentation site: ``make docs`` builds it, and a warning, such as of a broken link, is an error."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

import tkre_hf
from tkre_hf.cli import ALIASES, COMMANDS, EXIT_CODES
from tkre_hf.parsing import Main, parser_of

ROOT = Path(__file__).parents[1]

project = "tkre_hf"
author = "The tkre_hf authors"
copyright = author
version = release = tkre_hf.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"{project} {version}"
# The tests run the notebooks, which are kept without outputs.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
# Each attribute is told where its class tells it.
napoleon_use_ivar = True

# The packages of which every public name has its place in the reference; so has what a how-to page names.
PUBLIC = ("tkre_hf", "tkre_hf.data", "tkre_hf.knowledge")


# A reader's way through the how-to pages; others come after these.
HOW_TO = (
    "bring-your-data",
    "generate-knowledge",
    "pre-train",
    "few-shot",
    "k-shot",
    "several-gpus",
    "publish",
    "pf-hin",
    "text-to-graph",
    "web-demo",
    "export",
)


def how_to_pages() -> list[str]:
    """The pages that are there, in their order."""
    names = {page.stem for page in Path(__file__).parent.glob("how-to/*.md")}
    return [f"how-to/{name}" for name in [*filter(names.__contains__, HOW_TO), *sorted(names.difference(HOW_TO))]]


def command_line() -> dict[str, str]:
    """The command line as the commands themselves tell of it, for reference/command-line.md."""

    def told(prog: str, main: Main) -> str:
        parser = parser_of(main, prog)
        return f"### {prog}\n\n```text\n{parser.format_usage()}\n{(parser.description or '').strip()}\n```"

    commands = {name: import_module(module) for name, (_, module) in COMMANDS.items()}
    usages = [
        told(f"tkre {name}{f' {action}' if action else ''}", main)
        for name, command in commands.items()
        for action, main in getattr(command, "ACTIONS", {"": command.main}).items()
    ]
    lines = [f"| `tkre {name}` | {text} |" for name, (text, _) in COMMANDS.items()]
    lines += [f"| `tkre {name}` | is short for `tkre {' '.join(whole)}` |" for name, whole in ALIASES.items()]
    codes = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return {
        "% COMMANDS": "\n".join(["| command | what it does |", "| --- | --- |", *lines]),
        "% EXIT-CODES": "\n".join(["| code | meaning |", "| ---: | --- |", *codes]),
        "% USAGES": "\n\n".join(usages),
    }


def link_outside(text: str, folder: Path) -> str:
    """Makes links to pages that aren't the site's links to their files."""

    def link(match: re.Match[str]) -> str:
        inside = Path(folder, match[1]).resolve().is_relative_to(Path(__file__).parent)
        return match[0] if inside else f"](path:{match[1]})"

    return re.sub(r"\]\((?!\w+:|#)([^)]+)\)", link, text)


def read_source(app: Any, docname: str, source: list[str]) -> None:
    """Makes README the landing page, whose links start from another folder there; lists how-to pages and commands."""
    if docname == "index":
        readme = re.sub(r"\]\((?!\w+:|#)", "](../", (ROOT / "README.md").read_text(encoding="utf-8"))
        source[0] = source[0].replace("% README", readme).replace("% HOW-TO", "\n".join(how_to_pages()))
    if docname == "reference/command-line":
        for mark, text in command_line().items():
            source[0] = source[0].replace(mark, text)
    if Path(app.env.doc2path(docname)).suffix == ".md":
        source[0] = link_outside(source[0], Path(app.env.doc2path(docname)).parent)


def settings_of(obj: Any) -> list[dataclasses.Field[Any]]:
    """The settings that a dataclass of settings has over those it inherits."""
    if not (inspect.isclass(obj) and dataclasses.is_dataclass(obj)):
        return []
    own = inspect.get_annotations(obj)
    return [field for field in dataclasses.fields(obj) if field.name in own and "help" in field.metadata]


def with_settings(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Lists a class's own settings with what ``--help`` says of them."""
    for field in settings_of(obj):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = "required" if default is dataclasses.MISSING else f"``{default!r}``"
        text = field.metadata["help"].replace("%%", "%").replace("*", r"\*").replace("`", "")
        lines += ["", f"* **{field.name}** ({shown}): {text}"]


def short_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Spares a class of settings the hundred that it has from transformers."""
    return ("(...)" if settings_of(obj) else signature), returns


def names_on(page: str) -> set[str]:
    """What a page's text and code name with its module, as ``tkre_hf.data.load_records``; not what is private."""
    found = set(re.findall(r"\btkre_hf(?:\.(?!_)\w+)+", page))
    for module, one, several in re.findall(r"^ *from (tkre_hf[\w.]*) import (?:(\w[^(\n#]*)|\(([^)]*)\))", page, re.M):
        found |= {f"{module}.{name.split()[0]}" for name in (one or several).split(",") if name.strip()}
    return found


def named(name: str) -> Any:
    """The module, class or function that a dotted name leads to; of a class's member the class.

    Raises:
        AttributeError: There is no such thing.
    """
    place, *rest = name.split(".")
    found: Any = import_module(place)
    for part in rest:
        if inspect.isclass(found) or inspect.isroutine(found):
            break
        place = f"{place}.{part}"
        try:
            found = getattr(found, part) if hasattr(found, part) else import_module(place)
        except ModuleNotFoundError as error:
            if error.name != place:
                raise
            raise AttributeError(f"there is no {name}") from None
    return found


def missing(pages: dict[str, str], documented: Iterable[str]) -> Iterator[str]:
    """What the reference passes over: of the public names, and of the classes and functions that pages name.

    Args:
        pages: Each page's text by its name.
        documented: The full names of the reference's entries.
    """
    documented = set(documented)
    last = {name.rpartition(".")[2] for name in documented}
    for package in PUBLIC:
        for name in sorted(set(import_module(package).__all__) - last):
            yield f"{package}.{name} is public, and in no page of docs/reference"
    # A name may have its entry under another module, which exports it too.
    entries = {id(named(name)) for name in documented if name.startswith("tkre_hf.")}
    for page, text in pages.items():
        for name in sorted(names_on(text)):
            try:
                found = named(name)
            except AttributeError:
                yield f"{page} names {name}, which isn't there"
                continue
            if (inspect.isclass(found) or inspect.isroutine(found)) and id(found) not in entries:
                yield f"{page} names {name}, which is in no page of docs/reference"


def check_reference(app: Any, env: Any) -> None:
    """Warns of a name that the reference passes over."""
    from sphinx.util import logging

    pages = {name: Path(env.doc2path(name)).read_text(encoding="utf-8") for name in how_to_pages()}
    for reason in missing(pages, env.get_domain("py").objects):
        logging.getLogger(__name__).warning("%s", reason)


def setup(app: Any) -> None:
    app.add_lexer("csv", TextLexer)
    app.connect("source-read", read_source)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-process-docstring", with_settings, priority=400)
    app.connect("env-check-consistency", check_reference)
