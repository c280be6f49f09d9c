"""Precision, recall and F1 of relations, in percent, from counts; and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tkre_hf.evaluation.report import markdown


class Scores(NamedTuple):
    """Precision, recall and F1 in percent, ``(...)`` each."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


class RelationCounts(NamedTuple):
    """What scores are made of, for each relation but that of no relation, ``(..., relations)`` each."""

    correct: NDArray[np.int64]
    predicted: NDArray[np.int64]
    support: NDArray[np.int64]

    def scores(self, nothing_predicted: float) -> Scores:
        """Of each relation.

        Args:
            nothing_predicted: Precision, in percent, of a relation without predictions; recall without gold is 0.
        """
        precision = _percent(self.correct, self.predicted, nothing_predicted)
        recall = _percent(self.correct, self.support, 0.0)
        total = precision + recall
        return Scores(precision, recall, 2 * precision * recall / np.where(total > 0, total, 1.0))


@dataclass(frozen=True)
class RelationScore:
    """One relation's line of the table.

    Args:
        relation: Its label; in SemEval's metric without the direction.
        support: Rows whose gold label it is.
        predicted: Rows for which it was predicted.
        correct: Rows of both, with the right direction.
        precision: In percent.
        recall: In percent.
        f1: In percent.
    """

    relation: str
    support: int
    predicted: int
    correct: int
    precision: float
    recall: float
    f1: float


def relation_table(scores: Sequence[RelationScore]) -> str:
    """Relations' scores as a Markdown table, a line for each."""
    cells = [["relation", "support", "precision", "recall", "F1"], ["---", *["---:"] * 4]]
    for score in scores:
        percents = (score.precision, score.recall, score.f1)
        cells.append([score.relation, str(score.support), *(f"{percent:.1f}" for percent in percents)])
    return markdown(cells)


def _percent(part: NDArray[np.int64], whole: NDArray[np.int64], of_nothing: float) -> NDArray[np.float64]:
    return np.where(whole > 0, 100.0 * part / np.maximum(whole, 1), of_nothing)
