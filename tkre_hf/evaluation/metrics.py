"""Metrics of relation classification as the tasks' own scorers define them, as ``evaluate.Metric``; all in percent.

They are made from the package, with no look at the Hub: ``TacredMicroF1()``, ``SemEvalMacroF1()``.
"""

from __future__ import annotations

import operator
import reprlib
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

from tkre_hf.data.semeval import LABELS, NA_LABEL
from tkre_hf.data.semeval import RELATIONS as SEMEVAL_RELATIONS
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.relation_scores import RelationCounts, RelationScore, Scores
from tkre_hf.evaluation.significance import (
    Interval,
    PairedTest,
    Score,
    bootstrap_interval,
    confusion_counts,
    paired_test,
)

# Both directions of a relation stand side by side, Other last.
SEMEVAL_LABELS = (*LABELS[1:], NA_LABEL)

_INPUTS = """
Args:
    predictions: Labels, or numbers of labels in `names`.
    references: Likewise.
Returns:
    `precision`, `recall` and `f1`, in percent.
"""

_Key = Literal["precision", "recall", "f1"]


class RelationMetric(evaluate.Metric):
    """What both metrics have in common; not one of its own.

    Args:
        names: Label of each class, in the order of their numbers, which labels that come as numbers need.
        **kwargs: Settings of ``evaluate.Metric``. Labels are kept in memory unless several processes share the work.

    Raises:
        TkreError: ``names`` has a label twice.
    """

    _nothing_predicted: float
    _description: str
    _citation: str
    _source: str

    def __init__(self, names: Sequence[str] | None = None, **kwargs: Any) -> None:
        self.names = None if names is None else tuple(names)
        if self.names is not None and len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise TkreError(f"names has the label '{twice}' more than once")
        # All labels there can be, in the order of the confusion's rows; None if only the data know.
        self._labels: tuple[str, ...] | None = self.names
        kwargs.setdefault("keep_in_memory", kwargs.get("num_process", 1) == 1)
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        features = [
            datasets.Features({name: datasets.Value(kind) for name in ("predictions", "references")})
            for kind in ("string", "int64")
        ]
        return evaluate.MetricInfo(
            description=self._description,
            citation=self._citation,
            inputs_description=_INPUTS,
            features=features,
            reference_urls=[self._source],
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Adds rows; labels are checked here, so that nothing wrong is kept.

        Raises:
            TkreError: The labels are none, or not as many references as predictions.
        """
        found, gold = self._read(predictions=predictions, references=references)
        super().add_batch(predictions=found, references=gold)

    def add(self, *, prediction: Any = None, reference: Any = None) -> None:
        """Adds a row.

        Raises:
            TkreError: Either is no label.
        """
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        labels, (found, gold) = self._numbers([list(predictions), list(references)])
        scores = self._scores(self._counts(confusion_counts(gold, found, len(labels)), labels))
        return {key: float(value) for key, value in scores._asdict().items()}

    def per_relation(self, *, predictions: Any, references: Any) -> list[RelationScore]:
        """Support, precision, recall and F1 of each relation that is gold or predicted anywhere, but no relation.

        Raises:
            TkreError: As ``add_batch``.
        """
        labels, (found, gold) = self._numbers(self._read(predictions=predictions, references=references))
        counts = self._counts(confusion_counts(gold, found, len(labels)), labels)
        scores = counts.scores(self._nothing_predicted)
        numbers = zip(counts.support, counts.predicted, counts.correct, strict=True)
        percents = zip(*scores, strict=True)
        return [
            RelationScore(relation, *(int(number) for number in row), *(float(percent) for percent in of))
            for relation, row, of in zip(self._relations(labels), numbers, percents, strict=True)
            if row[0] or row[1]
        ]

    def interval(
        self,
        *,
        predictions: Any,
        references: Any,
        key: _Key = "f1",
        resamples: int = 1_000,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> Interval:
        """The bootstrap interval of a score over rows (:func:`~tkre_hf.evaluation.significance.bootstrap_interval`).

        Raises:
            TkreError: As ``add_batch``.
            ValueError: ``resamples`` or ``confidence`` is out of range.
        """
        labels, (found, gold) = self._numbers(self._read(predictions=predictions, references=references))
        return bootstrap_interval(gold, found, len(labels), self._score(labels, key), resamples, confidence, seed)

    def paired_test(
        self,
        *,
        first: Any,
        second: Any,
        references: Any,
        key: _Key = "f1",
        resamples: int = 10_000,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> PairedTest:
        """Tests two runs' predictions of the same rows (:func:`~tkre_hf.evaluation.significance.paired_test`).

        Raises:
            TkreError: As ``add_batch``.
            ValueError: ``resamples`` or ``confidence`` is out of range.
        """
        columns = self._read(first=first, second=second, references=references)
        labels, (one, other, gold) = self._numbers(columns)
        return paired_test(gold, one, other, len(labels), self._score(labels, key), resamples, confidence, seed)

    def _relations(self, labels: tuple[str, ...]) -> Sequence[str]:
        """Names of the relations that :meth:`_counts` counts."""
        raise NotImplementedError

    def _counts(self, confusion: NDArray[np.int64], labels: tuple[str, ...]) -> RelationCounts:
        """From confusion counts, ``(..., labels, labels)``, gold by predicted."""
        raise NotImplementedError

    def _scores(self, counts: RelationCounts) -> Scores:
        """All relations' in one."""
        raise NotImplementedError

    def _score(self, labels: tuple[str, ...], key: _Key) -> Score:
        return lambda confusion: getattr(self._scores(self._counts(confusion, labels)), key)

    def _read(self, **columns: Any) -> list[list[str]]:
        """Labels' names, from columns of labels or of numbers of labels."""
        read = {what: self._read_column(what, values) for what, values in columns.items()}
        (first, rows), *others = ((what, len(values)) for what, values in read.items())
        for what, count in others:
            if count != rows:
                raise TkreError(f"there are {rows} {first} but {count} {what}")
        if not rows:
            raise TkreError("there are no rows to score")
        return list(read.values())

    def _read_column(self, what: str, values: Any) -> list[str]:
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise TkreError(f"{what} must be a sequence of labels, not {reprlib.repr(values)}")
        # Tensors, arrays, Arrow's columns, and whatever else iterates.
        convert = getattr(values, "tolist", None) or getattr(values, "to_pylist", None)
        items = convert() if convert else list(values)
        if not isinstance(items, list):
            raise TkreError(f"{what} must be a sequence of labels, not {reprlib.repr(items)}")
        known = None if self._labels is None else set(self._labels)
        return [self._read_label(f"{what}[{row}]", item, known) for row, item in enumerate(items)]

    def _read_label(self, where: str, item: Any, known: set[str] | None) -> str:
        if isinstance(item, str):
            if known is not None and item not in known:
                raise TkreError(f"{where} is '{item}', which is none of the {len(known)} labels")
            return str(item)
        try:
            number = None if isinstance(item, bool) else operator.index(item)
        except TypeError:
            number = None
        if number is None:
            raise TkreError(f"{where} is {reprlib.repr(item)}, neither a label nor a label's number")
        if self.names is None:
            raise TkreError(f"{where} is the number {number}: give the metric names, the labels in their order")
        if not 0 <= number < len(self.names):
            raise TkreError(f"{where} is {number}, but names has labels 0 to {len(self.names) - 1}")
        return self.names[number]

    def _numbers(self, columns: list[list[str]]) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
        """All labels there are, and each column as numbers of them."""
        labels = self._labels if self._labels is not None else self._labels_in(columns)
        number = {label: i for i, label in enumerate(labels)}
        return labels, [np.array([number[label] for label in column], dtype=np.int64) for column in columns]

    def _labels_in(self, columns: Iterable[list[str]]) -> tuple[str, ...]:
        return tuple(sorted({label for column in columns for label in column}))


class TacredMicroF1(RelationMetric):
    """Micro-F1 of TACRED's scorer (Zhang et al., 2017), for TACREV and Re-TACRED as well.

    Rows count as predicted or as gold unless the label is ``na_label``. With nothing predicted precision is 100, with
    no gold relation recall is 0, and F1 is 0 when precision and recall are: so the scorer has it, in each relation's
    line too. It prints percent, which is what this gives (its ``score`` returns fractions).

    Args:
        na_label: The label of rows without a relation, as the data spell it.
        names: Label of each class, in the order of their numbers. With it, no other label may occur;
            without it any may, and a ``na_label`` that no row has is a warning.
        **kwargs: Settings of ``evaluate.Metric``.

    Raises:
        TkreError: ``na_label`` is not in ``names``, or ``names`` has a label twice.
    """

    _nothing_predicted = 100.0
    _description = "Micro-averaged precision, recall and F1 over relations without no-relation, as TACRED's scorer."
    _citation = (
        "Yuhao Zhang, Victor Zhong, Danqi Chen, Gabor Angeli, Christopher D. Manning: Position-aware Attention and "
        "Supervised Data Improve Slot Filling. EMNLP 2017."
    )
    _source = "https://github.com/yuhaozhang/tacred-relation/blob/master/utils/scorer.py"

    def __init__(self, na_label: str = "no_relation", names: Sequence[str] | None = None, **kwargs: Any) -> None:
        self.na_label = na_label
        super().__init__(names, **kwargs)
        if self.names is not None and na_label not in self.names:
            raise TkreError(f"na_label '{na_label}' can never occur: it is none of the {len(self.names)} names")

    def _labels_in(self, columns: Iterable[list[str]]) -> tuple[str, ...]:
        labels = super()._labels_in(columns)
        if self.na_label in labels:
            return labels
        warnings.warn(
            f"no row has na_label '{self.na_label}'; give the metric names if it is spelt as it should be",
            stacklevel=2,
        )
        return (*labels, self.na_label)

    def _relations(self, labels: tuple[str, ...]) -> Sequence[str]:
        return [label for label in labels if label != self.na_label]

    def _counts(self, confusion: NDArray[np.int64], labels: tuple[str, ...]) -> RelationCounts:
        counts = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-2), confusion.sum(-1)
        return RelationCounts(*(np.delete(count, labels.index(self.na_label), axis=-1) for count in counts))

    def _scores(self, counts: RelationCounts) -> Scores:
        return RelationCounts(*(count.sum(-1) for count in counts)).scores(self._nothing_predicted)


class SemEvalMacroF1(RelationMetric):
    """The official score of SemEval-2010 Task 8: (9+1)-way macro-F1 with direction taken into account.

    As scorer 1.2 of the task (Hendrickx et al., 2010) has it: a relation is correct if its direction is. One in the
    wrong direction is a wrong prediction of the relation and misses it too, so that precision is out of the rows with
    the relation predicted, and recall out of those that have it, in either direction. Without predictions precision
    is 0. Precision, recall and F1 are each averaged over the relations that occur in the references – nine in the
    task's test set – and never over Other. References that are all Other, for which the scorer divides by zero, score
    0. The scorer prints two decimals; these aren't rounded.

    Args:
        names: Label of each class, in the order of their numbers, if labels come as numbers.
        **kwargs: Settings of ``evaluate.Metric``.

    Raises:
        TkreError: ``names`` has a label twice, or one that isn't the task's.
    """

    _nothing_predicted = 0.0
    _description = "SemEval-2010 Task 8's official macro-averaged F1 over relations, direction taken into account."
    _citation = (
        "Iris Hendrickx, Su Nam Kim, Zornitsa Kozareva, Preslav Nakov, Diarmuid Ó Séaghdha, Sebastian Padó, Marco "
        "Pennacchiotti, Lorenza Romano, Stan Szpakowicz: SemEval-2010 Task 8: Multi-Way Classification of Semantic "
        "Relations Between Pairs of Nominals. SemEval 2010."
    )
    _source = "https://aclanthology.org/S10-1006"

    def __init__(self, names: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(names, **kwargs)
        for name in self.names or ():
            if name not in SEMEVAL_LABELS:
                raise TkreError(f"names has '{name}', which is none of SemEval-2010 Task 8's 19 labels")
        self._labels = SEMEVAL_LABELS

    def _relations(self, labels: tuple[str, ...]) -> Sequence[str]:
        return SEMEVAL_RELATIONS

    def _counts(self, confusion: NDArray[np.int64], labels: tuple[str, ...]) -> RelationCounts:
        counts = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-2), confusion.sum(-1)
        # Without Other, the two directions together.
        return RelationCounts(*(count[..., :-1].reshape(*count.shape[:-1], -1, 2).sum(-1) for count in counts))

    def _scores(self, counts: RelationCounts) -> Scores:
        occurs = counts.support > 0
        number = np.maximum(occurs.sum(-1), 1)
        return Scores(*((score * occurs).sum(-1) / number for score in counts.scores(self._nothing_predicted)))
