"""What the language model is told of a relation, and the shape in which it must answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from tkre_hf.data.relations import RelationInfo
from tkre_hf.data.schema import Record


@dataclass(frozen=True)
class RelationSchema(RelationInfo):
    """A relation as the prompt describes it and as its samples are checked.

    Args:
        relation: The label as the data set spells it; the other fields are ``RelationInfo``'s.
    """

    relation: str = ""


class Explanation(BaseModel):
    """An answer to the EDKG prompt; ``cues`` is None where the answer had no such field."""

    model_config = ConfigDict(strict=True)

    explanation: str
    cues: list[str] | None = None


class Sample(BaseModel):
    """One sample of an answer to the SCDG prompt; ``relation`` is what the answer itself calls the relation."""

    model_config = ConfigDict(strict=True)

    context: str
    head_entity: str
    head_type: str = ""
    tail_entity: str
    tail_type: str = ""
    relation: str = ""


def explanation_json_schema() -> dict[str, Any]:
    """The JSON schema of an EDKG answer; without lengths, by which a server's grammar would multiply its states."""
    return _object({"explanation": {"type": "string"}, "cues": _array({"type": "string"}, 1, 4)})


def samples_json_schema(schema: RelationSchema, count: int) -> dict[str, Any]:
    """The JSON schema of an SCDG answer: up to ``count`` samples, their types among those the relation allows."""

    def type_of(allowed: tuple[str, ...]) -> dict[str, Any]:
        return {"type": "string", "enum": list(allowed)} if allowed else {"type": "string"}

    sample = {
        "context": {"type": "string"},
        "head_entity": {"type": "string"},
        "head_type": type_of(schema.head_types),
        "tail_entity": {"type": "string"},
        "tail_type": type_of(schema.tail_types),
    }
    return _object({"samples": _array(_object(sample), 1, count)})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def readable_name(label: str) -> str:
    """A label as words: ``org:founded_by`` is "org founded by", ``CauseEffect(e1,e2)`` is "Cause Effect"."""
    words = re.sub(r"\(e[12],\s?e[12]\)", "", label)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_:/-]+", " ", words)
    return " ".join(words.split()) or label


def complete_schemas(
    info: Mapping[str, RelationInfo], records: Iterable[Record]
) -> tuple[dict[str, RelationSchema], list[str]]:
    """Derives from labelled rows what the relations' descriptions leave out: a relation, its name, its types.

    Args:
        info: What the user wrote, as ``tkre_hf.data.read_relation_info`` gives it; may be empty.
        records: The labelled rows; every relation among them is in the result.

    Returns:
        The schemas, in the order of the rows' first appearance, then those without a row; and a sentence for each
        thing that was derived.
    """
    types: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for record in records:
        for seen, side in zip(types.setdefault(record["relation"], ({}, {})), ("head", "tail"), strict=True):
            if record[side]["type"]:
                seen[record[side]["type"]] = None
    schemas, notes = {}, []
    for label in dict.fromkeys((*types, *info)):
        known = info.get(label) or RelationInfo.from_label(label)
        fields: dict[str, Any] = {**vars(known), "relation": label}
        if label not in info:
            notes.append(f"{label}: not described, so its label alone says what it means")
        else:
            if not known.description:
                notes.append(f"{label}: no description, so the prompt has the name and no meaning")
            if not known.verbalizations:
                notes.append(f"{label}: no verbalizations, so the prompt does not say how it can be put")
        if known.name == RelationInfo.from_label(label).name:
            fields["name"] = readable_name(label)
            if label in info and fields["name"] != known.name:
                notes.append(f"{label}: name taken from the label: {fields['name']}")
        for field, seen in zip(("head_types", "tail_types"), types.get(label, ({}, {})), strict=True):
            if not fields[field]:
                fields[field] = tuple(seen)
                found = f"taken from the data: {', '.join(seen)}" if seen else "unknown, so any type is allowed"
                notes.append(f"{label}: {field} {found}")
        schemas[label] = RelationSchema(**fields)
    return schemas, notes
