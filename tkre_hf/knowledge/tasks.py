"""The two jobs a language model is given: explain a labelled row (EDKG), and write samples of a relation (SCDG)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from tkre_hf.data.schema import Record
from tkre_hf.knowledge.backends import Request, Sampling
from tkre_hf.knowledge.duplicates import NearDuplicateIndex
from tkre_hf.knowledge.jobs import Job
from tkre_hf.knowledge.parse import parse_explanation, parse_samples
from tkre_hf.knowledge.prompts import (
    PromptTemplate,
    entity_of,
    explanation_values,
    samples_values,
    sentence_of,
)
from tkre_hf.knowledge.schema import RelationSchema, explanation_json_schema, samples_json_schema
from tkre_hf.knowledge.validate import ExplanationValidator, SampleValidator, TextChecks, fixed_parts

# From a relation, the attempt's number and how many are wanted, to labelled rows to show.
Demonstrations = Callable[[str, int, int], Sequence[Record]]


class RandomDemonstrations:
    """Labelled rows of the relation at random, other ones at each attempt as far as there are other ones.

    Args:
        records: The labelled rows.
        seed: Of the choice; one attempt's choice doesn't depend on another's.
    """

    def __init__(self, records: Iterable[Record], seed: int = 0) -> None:
        self.seed = seed
        self._rows = group_by_relation(records)

    def __call__(self, relation: str, attempt: int, count: int) -> list[Record]:
        rows = self._rows.get(relation, [])
        if not rows or count < 1:
            return []
        order = np.random.default_rng([self.seed, *relation.encode(), attempt]).permutation(len(rows))
        return [rows[i] for i in order[:count]]


def group_by_relation(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The rows of each relation, in their order."""
    rows: dict[str, list[Record]] = {}
    for record in records:
        rows.setdefault(record["relation"], []).append(record)
    return rows


def explanation_jobs(
    records: Sequence[Record],
    schemas: Mapping[str, RelationSchema],
    template: PromptTemplate,
    sampling: Sampling,
    excluded: Iterable[Record] = (),
) -> tuple[list[Job], ExplanationValidator]:
    """One job for each labelled row: why does its head stand in its relation to its tail?

    Args:
        records: The labelled rows; their ids are the jobs' names. Where rows of a file were left out, each has its
            number there as ``row``, from 0, by which a recorded explanation is found; otherwise its place here is it.
        schemas: Of their relations.
        template: The EDKG prompt.
        sampling: How answers are drawn; a repeated question has another seed.
        excluded: Rows that no explanation may copy.

    Returns:
        The jobs, and the validator they share, which is to be told of the records of an earlier run.
    """
    prompts = [part for schema in schemas.values() for part in _fixed(template, schema)]
    index = NearDuplicateIndex()
    for record in excluded:
        index.add(sentence_of(record), "excluded")
    validator = ExplanationValidator(TextChecks.of(map(sentence_of, records), prompts), index)
    json_schema = explanation_json_schema()

    def ask(row: int, record: Record, attempt: int, count: int, offset: int) -> Request:
        return Request(
            job=record["id"],
            attempt=attempt,
            relation=record["relation"],
            messages=template.render(explanation_values(record, schemas[record["relation"]])),
            json_schema=json_schema,
            sampling=dataclasses.replace(sampling, seed=sampling.seed + attempt),
            count=count,
            offset=offset,
            about={"row": row, "head": entity_of(record, "head"), "tail": entity_of(record, "tail")},
        )

    def judge(record: Record, fields: Any, id: str) -> tuple[Record, dict[str, Any]]:
        return validator(fields, record, f"edkg-{id}")

    jobs = [
        Job(
            name=record["id"],
            relation=record["relation"],
            quota=1,
            ask=partial(ask, record.get("row", place), record),
            parse=_parse_one,
            judge=partial(judge, record),
            provenance=_provenance(template),
        )
        for place, record in enumerate(records)
    ]
    return jobs, validator


def sample_jobs(
    schemas: Mapping[str, RelationSchema],
    template: PromptTemplate,
    sampling: Sampling,
    *,
    per_relation: int,
    per_request: int,
    demonstrations: Demonstrations,
    shots: int,
    labelled: Iterable[Record] = (),
    excluded: Iterable[Record] = (),
    near_duplicate: float = 0.7,
) -> tuple[list[Job], SampleValidator]:
    """One job for each relation: new samples of it.

    Args:
        schemas: The relations wanted.
        template: The SCDG prompt.
        sampling: How answers are drawn; a repeated question has another seed.
        per_relation: How many samples are wanted of each.
        per_request: How many are asked for at once.
        demonstrations: What chooses the labelled rows to show.
        shots: How many are shown.
        labelled: Rows that no sample may copy: all those that may be shown.
        excluded: Rows of an evaluation that no sample may copy.
        near_duplicate: The similarity from which on two samples are the same.

    Returns:
        The jobs, and the validator they share, which is to be told of the records of an earlier run.
    """
    index = NearDuplicateIndex(near_duplicate)
    texts = [schema.name for schema in schemas.values()]
    for origin, rows in (("demonstration", labelled), ("excluded", excluded)):
        for record in rows:
            index.add(sentence_of(record), origin)
            if origin == "demonstration":
                texts.append(sentence_of(record))
    prompts = [part for schema in schemas.values() for part in _fixed(template, schema)]
    validator = SampleValidator(TextChecks.of(texts, prompts), index)

    shape = lru_cache(maxsize=None)(samples_json_schema)

    def ask(schema: RelationSchema, attempt: int, count: int, offset: int) -> Request:
        shown = demonstrations(schema.relation, attempt, shots)
        return Request(
            job=schema.relation,
            attempt=attempt,
            relation=schema.relation,
            messages=template.render(samples_values(schema, shown, count)),
            json_schema=shape(schema, count),
            sampling=dataclasses.replace(sampling, seed=sampling.seed + attempt),
            count=count,
            offset=offset,
        )

    def judge(schema: RelationSchema, fields: Any, id: str) -> tuple[Record, dict[str, Any]]:
        return validator(fields, schema, f"scdg-{id}")

    jobs = [
        Job(
            name=relation,
            relation=relation,
            quota=per_relation,
            per_request=per_request,
            ask=partial(ask, schema),
            parse=parse_samples,
            judge=partial(judge, schema),
            provenance=_provenance(template),
        )
        for relation, schema in schemas.items()
    ]
    return jobs, validator


def _parse_one(text: str) -> list[Any]:
    return [parse_explanation(text)]


def _provenance(template: PromptTemplate) -> dict[str, str]:
    return {"prompt": template.version, "prompt_sha256": template.sha256}


def _fixed(template: PromptTemplate, schema: RelationSchema) -> list[str]:
    """The lines of a prompt that are the same for every row: its own, and the relation's description."""
    blank = {name: "" for name in ("relation", "sentence", "head", "tail", "demonstrations", "count")}
    return fixed_parts(template.render({**blank, "schema": f"{schema.description}\n{schema.explanation}"}))
