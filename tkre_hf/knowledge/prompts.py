"""Prompts as versioned template files, which a user may replace by their own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tkre_hf.data.schema import Record
from tkre_hf.errors import TkreError
from tkre_hf.knowledge.schema import RelationSchema

Message = dict[str, str]
TEMPLATES = Path(__file__).with_name("templates")
PLACEHOLDERS = {
    "edkg": frozenset({"relation", "schema", "sentence", "head", "tail"}),
    "scdg": frozenset({"relation", "schema", "demonstrations", "count"}),
    "icl": frozenset({"relations", "demonstrations", "sentence", "head", "tail"}),
}
_HEAD = re.compile(
    r"\Aversion: *(?P<version>\S+)\n(?:--- system ---\n(?P<system>.*?)\n)?--- user ---\n(?P<user>.*)\Z", re.S
)
# What a chat template gives a meaning beyond its letters; a data set's sentence must stay a sentence.
_CONTROL = re.compile(r"<\|[^|<>]{0,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>", re.I)


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt with ``$placeholders``.

    Attributes:
        kind: ``edkg``, ``scdg`` or ``icl``, which decides the placeholders.
        version: The name in the file's first line, such as ``edkg-1``.
        sha256: The hash of the file's text.
        system: The system message, "" for none. ``user`` is the user's message.
    """

    kind: str
    version: str
    sha256: str
    system: str
    user: str

    @classmethod
    def load(cls, kind: str, path: str | Path | None = None) -> PromptTemplate:
        """Reads a template file, by default the one that comes with the package.

        The file's first line is ``version: NAME``; then come ``--- system ---`` (optional) and ``--- user ---``, each
        on a line of its own, followed by the message.

        Raises:
            TkreError: The file is missing or not of this form, or its placeholders are not those of its kind.
        """
        path = TEMPLATES / f"{kind}.txt" if path is None else Path(path)
        try:
            text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TkreError(f"cannot read the prompt {path}: {error}") from None
        match = _HEAD.match(text)
        if match is None:
            raise TkreError(
                f"{path} is no prompt: expected a line 'version: NAME', then '--- user ---' on a line of its own "
                "and the message, with '--- system ---' and its message before it if there is one"
            )
        system, user = (match["system"] or "").strip(), match["user"].strip()
        found = {name for part in (system, user) for name in Template(part).get_identifiers()}
        if not all(Template(part).is_valid() for part in (system, user)) or found - PLACEHOLDERS[kind]:
            known = ", ".join(f"${name}" for name in sorted(PLACEHOLDERS[kind]))
            raise TkreError(f"{path}: a placeholder is unknown or broken; known are {known}, and $$ for a dollar sign")
        return cls(kind, match["version"], hashlib.sha256(text.encode()).hexdigest(), system, user)

    def render(self, values: Mapping[str, str]) -> list[Message]:
        """The chat messages with every placeholder filled in."""
        parts = (("system", self.system), ("user", self.user))
        return [{"role": role, "content": Template(part).substitute(values)} for role, part in parts if part]


def as_data(text: str) -> str:
    """A data set's text as one line that no chat template and no JSON reader takes for anything but text."""
    return json.dumps(_CONTROL.sub(lambda match: " ".join(match[0]), text), ensure_ascii=False)


def describe_relation(schema: RelationSchema) -> str:
    """A relation's schema as lines of the prompt; what it leaves out is left out."""
    lines = [
        ("Name", schema.name),
        ("Meaning", schema.description),
        ("When it holds", schema.explanation),
        ("Allowed head types", ", ".join(schema.head_types)),
        ("Allowed tail types", ", ".join(schema.tail_types)),
        ("It can be put as", "; ".join(schema.verbalizations)),
    ]
    return "\n".join(f"- {name}: {value}" for name, value in lines if value)


def sentence_of(record: Record) -> str:
    """A record's words as one text."""
    return " ".join(record["tokens"])


def entity_of(record: Record, side: str) -> str:
    """The words of a record's ``head`` or ``tail`` as they stand in the sentence."""
    return " ".join(record["tokens"][record[side]["start"] : record[side]["end"]])


def demonstration(record: Record) -> str:
    """A labelled row as one line of JSON, in the form in which samples are asked for."""
    row = {
        "context": sentence_of(record),
        "head_entity": entity_of(record, "head"),
        "head_type": record["head"]["type"],
        "tail_entity": entity_of(record, "tail"),
        "tail_type": record["tail"]["type"],
    }
    return as_json_line({key: value for key, value in row.items() if value})


def as_json_line(row: Mapping[str, str]) -> str:
    """A flat row as one line of JSON whose strings are data."""
    return "{" + ", ".join(f"{json.dumps(key)}: {as_data(value)}" for key, value in row.items()) + "}"


def explanation_values(record: Record, schema: RelationSchema) -> dict[str, str]:
    """The placeholders of the EDKG prompt for one labelled row."""
    return {
        "relation": schema.relation,
        "schema": describe_relation(schema),
        "sentence": as_data(sentence_of(record)),
        "head": as_data(entity_of(record, "head")),
        "tail": as_data(entity_of(record, "tail")),
    }


def samples_values(schema: RelationSchema, demonstrations: Iterable[Record], count: int) -> dict[str, str]:
    """The placeholders of the SCDG prompt for one relation."""
    return {
        "relation": schema.relation,
        "schema": describe_relation(schema),
        "demonstrations": "\n".join(map(demonstration, demonstrations)) or "(none)",
        "count": str(count),
    }
