"""What is wanted of a language model, and what becomes of its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tkre_hf.data.schema import Record
from tkre_hf.knowledge.backends import Answer, Request
from tkre_hf.knowledge.journal import Processed
from tkre_hf.knowledge.parse import UnparseableError
from tkre_hf.knowledge.validate import Rejection

Judge = Callable[[Any, str], tuple[Record, dict[str, Any]]]
# How much of an answer stands in place of a candidate that can't be written, in characters; and how deep one may nest:
# what a reader still takes at one depth of the stack may be too deep for the writer, or for the reader, at another.
_CLIPPED, _DEEPEST = 2000, 32


@dataclass
class Job:
    """Rows that are wanted, and how to ask for them.

    A job of which every request of a round was refused is given up.

    Attributes:
        name: Unique in the run: a relation, or a labelled row's id.
        relation: The label, for the report.
        quota: How many rows are wanted.
        per_request: How many are asked for at once.
        ask: From the attempt's number, the rows wanted and the rows asked for before, the request.
        parse: From an answer's text to its candidates; raises UnparseableError.
        judge: From a candidate and an id to a record and its further provenance; raises Rejection.
        provenance: What every record of the job has in its provenance.
    """

    name: str
    relation: str
    quota: int
    ask: Callable[[int, int, int], Request]
    parse: Callable[[str], list[Any]]
    judge: Judge
    per_request: int = 1
    provenance: dict[str, Any] = field(default_factory=dict)
    accepted: int = 0
    attempts: int = 0
    asked: int = 0
    given_up: bool = False


def judge_answer(
    job: Job, request: Request, key: str, answer: Answer, done: Processed, origin: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Judges the candidates of an answer that were not judged before.

    Args:
        job: What they are for. ``request`` and its ``key`` likewise.
        answer: What the model said.
        done: The candidates judged before; those judged here are added.
        origin: What every record has in its provenance: the model, and how it was asked.

    Returns:
        The accepted records with their provenance, and the refused candidates with the reason.
    """
    accepted: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    failure: Rejection | None = None
    try:
        candidates = job.parse(answer.text)
    except UnparseableError as error:
        cut = " (cut off by its length)" if answer.finish == "length" else ""
        candidates, failure = [answer.text[:_CLIPPED]], Rejection("unparseable", f"{error}{cut}")
    done.of = len(candidates)
    place = {"request": key, "of": len(candidates)}
    for index, candidate in enumerate(candidates):
        if index in done.accepted:
            continue
        try:
            if failure is not None:
                raise failure
            if index >= request.count:
                raise Rejection("surplus", f"{request.count} asked for")
            record, further = job.judge(candidate, f"{key[:16]}-{index}")
        except Rejection as reason:
            done.accepted[index] = False
            what = {"relation": job.relation, "job": job.name, "reason": reason.reason, "detail": reason.detail}
            kept = candidate if _writable(candidate) else answer.text[:_CLIPPED]
            rejected.append({**place, "index": index, **what, "candidate": kept})
        else:
            done.accepted[index] = True
            provenance = {**place, "index": index, "attempt": request.attempt, **job.provenance, **further, **origin}
            accepted.append({**record, "provenance": provenance})
    return accepted, rejected


def _writable(candidate: Any) -> bool:
    """Whether a candidate nests no deeper than any sample has a reason to."""
    level = [candidate]
    for _ in range(_DEEPEST):
        inner = [
            value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list)
        ]
        level = [value for values in inner for value in values]
    return not level
