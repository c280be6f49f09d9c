"""What a classifier of relations predicts on labelled rows, and how good that is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, PretrainedConfig

from tkre_hf.data.semeval import LABELS as SEMEVAL_LABELS
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.metrics import RelationMetric, SemEvalMacroF1, TacredMicroF1
from tkre_hf.evaluation.relation_scores import relation_table
from tkre_hf.knowledge.journal import write_atomically
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.embedding import embed_records
from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords

# No label of anybody's: for data in which every label is a relation.
_NO_LABEL = ""


def micro_f1(labels: Iterable[str], na_label: str | None) -> TacredMicroF1:
    """The metric of K-shot relation extraction, for these labels; without ``na_label`` every one is a relation."""
    names = sorted({*labels, _NO_LABEL if na_label is None else na_label})
    return TacredMicroF1(na_label=_NO_LABEL if na_label is None else na_label, names=names)


def trainer_metrics(labels: Sequence[str], na_label: str | None) -> Callable[[EvalPrediction], dict[str, float]]:
    """Micro-F1 without ``na_label`` and accuracy, in percent, for ``Trainer(compute_metrics=…)``.

    Args:
        labels: In the order of their numbers.
        na_label: The label without a relation, if there is one.
    """
    metric, names = micro_f1(labels, na_label), np.array(labels)

    def compute(output: EvalPrediction) -> dict[str, float]:
        predicted, gold = np.asarray(output.predictions).argmax(-1), np.asarray(output.label_ids)
        scores = metric.compute(predictions=names[predicted], references=names[gold])
        return {**scores, "accuracy": 100 * float((predicted == gold).mean())}

    return compute


@dataclass(frozen=True)
class Predictions:
    """Labels of rows, as the data have them and as a classifier has them.

    Args:
        ids: Of the rows.
        gold: Their labels.
        predicted: What was predicted.
        na_label: The label without a relation, if there is one.
    """

    ids: tuple[str, ...]
    gold: tuple[str, ...]
    predicted: tuple[str, ...]
    na_label: str | None

    @property
    def metrics(self) -> dict[str, RelationMetric]:
        """Micro-F1, and where the labels are SemEval-2010 Task 8's its official macro-F1."""
        found: dict[str, RelationMetric] = {"micro_f1": micro_f1({*self.gold, *self.predicted}, self.na_label)}
        if {*self.gold, *self.predicted} <= set(SEMEVAL_LABELS):
            found["official_macro_f1"] = SemEvalMacroF1()
        return found

    def scores(self) -> dict[str, float]:
        """F1 by each metric, in percent."""
        columns = {"predictions": self.predicted, "references": self.gold}
        return {name: float(metric.compute(**columns)["f1"]) for name, metric in self.metrics.items()}

    def first(self, count: int | None) -> Predictions:
        """Those of the first rows; all of them for ``None``."""
        return replace(self, ids=self.ids[:count], gold=self.gold[:count], predicted=self.predicted[:count])

    def to_markdown(self) -> str:
        """F1 by each metric with its bootstrap interval, and a line for each relation."""
        columns: dict[str, Any] = {"predictions": self.predicted, "references": self.gold}
        lines = []
        for name, metric in self.metrics.items():
            found = metric.interval(**columns)
            lines.append(f"{name}: {found.value:.1f} (95% interval over rows {found.low:.1f} to {found.high:.1f})")
        return "\n".join(lines) + "\n\n" + relation_table(self.metrics["micro_f1"].per_relation(**columns))

    def write(self, path: str | Path) -> None:
        """Writes one JSON line for each row: ``id``, ``relation`` and ``predicted``."""
        rows = zip(self.ids, self.gold, self.predicted, strict=True)
        lines = [json.dumps({"id": i, "relation": g, "predicted": p}, ensure_ascii=False) for i, g, p in rows]
        write_atomically(Path(path), "".join(f"{line}\n" for line in lines))

    @classmethod
    def read(cls, path: str | Path, na_label: str | None) -> Predictions:
        """Reads what :meth:`write` wrote."""
        # Not splitlines: a string in JSON may hold what that takes for the end of a line too, such as U+2028.
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
        ids, gold, predicted = (tuple(row[name] for row in rows) for name in ("id", "relation", "predicted"))
        return cls(ids, gold, predicted, na_label)


def load_classifier(name: str) -> tuple[TKREForRelationClassification, TKREProcessor]:
    """A fine-tuned classifier, on the accelerator if there is one, and its processor.

    Raises:
        TkreError: There is no such folder or Hub id, or it holds another kind of model.
    """
    try:
        config, _ = PretrainedConfig.get_config_dict(name)
        kinds = config.get("architectures") or ["none"]
        if config.get("model_type") != TKREConfig.model_type or kinds != [TKREForRelationClassification.__name__]:
            raise TkreError(f"{name} holds no classifier of relations, but {kinds[0]}: fine-tune it first")
        model, processor = TKREForRelationClassification.from_pretrained(name), TKREProcessor.from_pretrained(name)
    except OSError as error:
        raise TkreError(f"the checkpoint {name} can't be loaded: {str(error).strip().splitlines()[0]}") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), processor  # type: ignore[arg-type]


def predict(
    model: TKREForRelationClassification,
    processor: TKREProcessor,
    records: Iterable[Mapping[str, Any]],
    batch_size: int = 64,
) -> Predictions:
    """Classifies labelled records; labels that the classifier doesn't know are gold labels all the same.

    Args:
        model: The classifier.
        processor: Its processor.
        records: See ``tkre_hf.data.schema``.
        batch_size: Sentences classified at once, under the autocast in force.

    Raises:
        TkreError: An entity can't be marked, or is longer than the window.
    """
    rows = list(records)
    try:
        encoded = EncodedRecords(rows, processor)
    except ValueError as error:
        raise TkreError(str(error)) from error
    logits = embed_records(model, processor, encoded, batch_size, output="logits")
    names: dict[int, str] = model.config.id2label  # type: ignore[assignment]
    return Predictions(
        tuple(row["id"] for row in rows),
        tuple(row["relation"] for row in rows),
        tuple(names[int(i)] for i in logits.argmax(-1)),
        model.config.na_label,
    )
