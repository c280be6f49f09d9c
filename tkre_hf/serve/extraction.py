"""From a paragraph to a graph: its sentences, the entities in them, and which relations hold between these."""

from __future__ import annotations

import csv
import io
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tkre_hf.errors import TkreError
from tkre_hf.tkre.inputs import Sentence, read_input
from tkre_hf.tkre.pipeline import RelationExtractionPipeline

from . import limits

_MARKED = re.compile(r"\[([^\[\]]+)\]")
# A sentence ends where a point, and what closes with it, is followed by white space and a capital or what opens one.
_END = re.compile(r"[.!?][\"'”’)]*\s+(?=[\"'“‘(]?[^\W_a-z])|\n+")
# How much more the direction against the text's order has to score. A relation known by its description alone scores
# much alike both ways.
_CLEARLY = 0.1
COLUMNS = ("head", "relation", "tail", "score", "sentence")


@dataclass(frozen=True)
class Triple:
    """One edge of the graph.

    Args:
        head: What stands in the text.
        relation: The label.
        tail: Like the head.
        score: The relation's probability among all relations and none of the above.
        sentence: Where it was found.
    """

    head: str
    relation: str
    tail: str
    score: float
    sentence: str


def read_paragraph(text: str) -> list[Sentence]:
    """Splits a paragraph into sentences; entities marked as ``[Entity]`` are those of their sentence.

    Without any mark the sentences' entities are yet to be found.

    Raises:
        TkreError: There is no text.
    """
    plain, entities = [], []
    length = last = 0
    for mark in _MARKED.finditer(text):
        name = mark[1].strip()
        if not name:
            continue
        plain += [text[last : mark.start()], name]
        start = length + mark.start() - last
        length, last = start + len(name), mark.end()
        entities.append((start, length))
    text = "".join([*plain, text[last:]])
    if not text.strip():
        raise TkreError("type a paragraph first")
    rows: list[dict[str, Any]] = []
    places, first = [a for a, _ in entities], 0
    for start, end in _sentences(text, entities):
        row: dict[str, Any] = {"text": text[start:end]}
        if entities:
            after = bisect_left(places, end, first)
            row["entities"] = [[a - start, b - start] for a, b in entities[first:after]]
            first = after
        rows.append(row)
    # Before the pairs are made: of the entities that fit into a text there may be millions.
    counts = [len(row.get("entities", ())) for row in rows]
    _check_pairs(sum(count * (count - 1) for count in counts))
    return [read_input(row, "sentences", i) for i, row in enumerate(rows)]


def _check_pairs(pairs: int) -> None:
    if pairs > limits.PAIRS:
        raise TkreError(
            f"the entities make {pairs:,} pairs; at most {limits.PAIRS:,} are tried: take a part of the text"
        )


def _sentences(text: str, entities: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans of the sentences; a point inside an entity, as in "St. Louis", ends none."""
    ends = [end.end() for end in _END.finditer(text)]
    places = [a for a, _ in entities]
    # The last entity that begins before such a point is the only one that may hold it.
    last = [bisect_left(places, end) - 1 for end in ends]
    cuts = [0, *(end for end, i in zip(ends, last, strict=True) if i < 0 or end >= entities[i][1]), len(text)]
    for start, end in pairwise(cuts):
        words = text[start:end]
        start, end = start + len(words) - len(words.lstrip()), end - len(words) + len(words.rstrip())
        if start < end:
            yield start, end


def extract(pipe: RelationExtractionPipeline, paragraph: str, least: float, batch_size: int = 32) -> list[Triple]:
    """Finds the relations between the entities of each sentence.

    Of a pair's two directions, that in the order of the text is taken, or the other where its score is clearly higher;
    what is found several times counts once, with its highest score.

    Args:
        pipe: The pipeline; with ``ner`` it finds the entities where none are marked.
        paragraph: The text.
        least: The score that an edge needs.
        batch_size: Pairs encoded at once.

    Returns:
        The triples, in the order of the text.

    Raises:
        TkreError: There are no entities, or too many.
    """
    sentences = read_paragraph(paragraph)
    if any(sentence.pairs is None for sentence in sentences):
        if pipe.ner is None:
            raise TkreError("mark the entities, as in '[Oslo] is the capital of [Norway].'")
        found = pipe.ner([sentence.text for sentence in sentences], aggregation_strategy="simple")
        sentences = [sentence.with_entities(own) for sentence, own in zip(sentences, found, strict=True)]
    pairs = sum(len(sentence.pairs or ()) for sentence in sentences)
    if not pairs:
        raise TkreError("there are no two entities in one sentence, and relations are sought within sentences")
    _check_pairs(pairs)
    triples: dict[tuple[frozenset[str], str], Triple] = {}
    sentences = [sentence for sentence in sentences if sentence.pairs]
    for sentence, entries in zip(sentences, pipe(sentences, batch_size=batch_size), strict=True):
        better: dict[frozenset[tuple[int, int]], Triple | None] = {}
        scores: dict[frozenset[tuple[int, int]], float] = {}
        for entry in entries:
            pair = frozenset((entry[role]["start"], entry[role]["end"]) for role in ("head", "tail"))
            if entry["head"]["text"] == entry["tail"]["text"]:
                continue
            # The direction that follows the text comes first.
            if pair in scores and entry["score"] <= scores[pair] + _CLEARLY:
                continue
            scores[pair], better[pair] = entry["score"], None
            if entry["relation"] is not None and entry["score"] >= least:
                head, tail = entry["head"]["text"], entry["tail"]["text"]
                better[pair] = Triple(head, entry["relation"], tail, entry["score"], sentence.text)
        for triple in filter(None, better.values()):
            key = frozenset((triple.head, triple.tail)), triple.relation
            if key not in triples or triples[key].score < triple.score:
                triples[key] = triple
    return list(triples.values())


def to_csv(triples: Sequence[Triple]) -> str:
    """The triples as a table, with a line of column names."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for triple in triples:
        writer.writerow([triple.head, triple.relation, triple.tail, f"{triple.score:.4f}", triple.sentence])
    return text.getvalue()
