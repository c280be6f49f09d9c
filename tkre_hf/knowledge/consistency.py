"""Does a sample express its relation? A model's judgement of synthetic samples, of which the worst are dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tkre_hf.data.schema import Record

# From records to their relation representations, (records, dim).
Encode = Callable[[Sequence[Record]], NDArray[np.float32]]


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors ``(n, dim)`` at length one; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)


def prototypes(
    encode: Encode, labelled: Mapping[str, Sequence[Record]], anchors: Mapping[str, NDArray[np.float32]]
) -> tuple[list[str], NDArray[np.float32]]:
    """Each relation's prototype: the direction of the mean of its labelled rows and its anchor.

    Args:
        encode: From records to relation representations.
        labelled: The labelled rows of each relation; may be empty for one that has an anchor.
        anchors: The embedded descriptions, ``(dim,)`` each; may lack relations that have rows.

    Returns:
        The relations, and their prototypes ``(relations, dim)`` at length one.

    Raises:
        ValueError: A relation has neither a row nor an anchor.
    """
    relations = list(dict.fromkeys((*labelled, *anchors)))
    rows = []
    for relation in relations:
        parts = [unit_rows(encode(labelled[relation]))] if labelled.get(relation) else []
        if relation in anchors:
            parts.append(unit_rows(anchors[relation][None]))
        if not parts:
            raise ValueError(f"the relation {relation!r} has neither a labelled row nor an anchor")
        rows.append(np.concatenate(parts).mean(0))
    return relations, unit_rows(np.stack(rows))


def margins(
    vectors: NDArray[np.float32], labels: Sequence[str], relations: Sequence[str], prototypes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How much nearer each sample is to its own relation than to the nearest other one, by cosine.

    Args:
        vectors: ``(samples, dim)``.
        labels: Each sample's relation.
        relations: The prototypes' relations.
        prototypes: ``(relations, dim)``, unit length.

    Returns:
        ``(samples,)``, each in [-2, 2]; with a single relation the cosine itself.
    """
    cosine = unit_rows(vectors) @ prototypes.T
    place = {relation: i for i, relation in enumerate(relations)}
    own = np.array([place[label] for label in labels])
    rows = np.arange(len(own))
    expressed = cosine[rows, own]
    if len(relations) == 1:
        return np.asarray(expressed, np.float32)
    cosine[rows, own] = -np.inf
    return np.asarray(expressed - cosine.max(1), np.float32)


def worst(labels: Sequence[str], scores: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Marks the lowest scores of each relation.

    Args:
        labels: Each sample's relation.
        scores: ``(samples,)``.
        share: How much of each relation is marked, in [0, 1), rounded down to whole samples.

    Returns:
        ``(samples,)``; ties go by order, the later one first.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), found {share}")
    marked = np.zeros(len(scores), bool)
    names = np.asarray(labels)
    for label in dict.fromkeys(labels):
        members = np.flatnonzero(names == label)
        order = members[np.lexsort((-members, scores[members]))]
        marked[order[: int(share * len(members) + 1e-9)]] = True
    return marked
