"""The metrics against the tasks' own scorers, written again here as plain loops; and what may be given to them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import EvalPrediction

import tkre_hf
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.metrics import SEMEVAL_LABELS, SEMEVAL_RELATIONS, RelationMetric, SemEvalMacroF1, TacredMicroF1
from tkre_hf.evaluation.relation_scores import RelationScore, relation_table

NA = "no_relation"
TACRED_LABELS = [NA, "per:title", "org:founded_by", "per:spouse", "org:members"]

Percents = tuple[float, float, float]


# The scorers, a row at a time


def tacred_scorer(gold: list[str], guesses: list[str]) -> tuple[Percents, dict[str, Percents]]:
    """TACRED's: the micro-average, and the line of each relation that is gold somewhere."""
    right: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for answer, guess in zip(gold, guesses, strict=True):
        if answer != NA:
            true[answer] += 1
        if guess != NA:
            guessed[guess] += 1
            if guess == answer:
                right[guess] += 1

    def line(correct: int, predicted: int, support: int) -> Percents:
        precision, recall, f1 = 1.0, 0.0, 0.0
        if predicted > 0:
            precision = correct / predicted
        if support > 0:
            recall = correct / support
        if precision + recall > 0.0:
            f1 = 2.0 * precision * recall / (precision + recall)
        return 100 * precision, 100 * recall, 100 * f1

    micro = line(sum(right.values()), sum(guessed.values()), sum(true.values()))
    return micro, {name: line(right[name], guessed[name], true[name]) for name in true}


def semeval_scorer(gold: list[str], proposed: list[str]) -> tuple[Percents | None, dict[str, Percents]]:
    """SemEval-2010 Task 8's, version 1.2, third evaluation; no average where it divides by zero."""
    matrix: Counter[tuple[str, str]] = Counter()
    all_proposed: Counter[str] = Counter()
    all_gold: Counter[str] = Counter()
    for answer, proposal in zip(gold, proposed, strict=True):
        answer_relation, relation = answer.split("(")[0], proposal.split("(")[0]
        if answer != proposal and answer_relation == relation:
            relation = "WRONG_DIR"
        matrix[relation, answer_relation] += 1
        all_proposed[relation] += 1
        all_gold[answer_relation] += 1
    lines = {}
    for name in all_gold:
        precision, recall, f1 = 0.0, 0.0, 0.0
        if all_proposed[name]:
            precision = 100 * matrix[name, name] / (all_proposed[name] + matrix["WRONG_DIR", name])
        recall = 100 * matrix[name, name] / all_gold[name]
        if precision + recall:
            f1 = 2 * precision * recall / (precision + recall)
        lines[name] = (precision, recall, f1)
    lines.pop("Other", None)
    if not lines:
        return None, lines
    averages = [sum(line[i] for line in lines.values()) / len(lines) for i in range(3)]
    return (averages[0], averages[1], averages[2]), lines


def random_labels(
    labels: list[str], generator: random.Random, rows: int, share: float | None = None
) -> tuple[list[str], list[str]]:
    """Gold and predicted labels out of some of the labels, the latter copied for a share of the rows."""
    gold_labels = generator.sample(labels, generator.randint(1, len(labels)))
    found_labels = generator.sample(labels, generator.randint(1, len(labels)))
    if share is None:
        share = generator.choice([0.0, 0.5, 1.0])
    gold = generator.choices(gold_labels, k=rows)
    return gold, [label if generator.random() < share else generator.choice(found_labels) for label in gold]


def result(metric: RelationMetric, gold: Any, found: Any) -> Percents:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = metric.compute(predictions=found, references=gold)
    assert list(scores) == ["precision", "recall", "f1"] and all(type(score) is float for score in scores.values())
    return scores["precision"], scores["recall"], scores["f1"]


def lines(metric: RelationMetric, gold: list[str], found: list[str]) -> dict[str, RelationScore]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {line.relation: line for line in metric.per_relation(predictions=found, references=gold)}


def assert_is_the_scorers(metric: RelationMetric, gold: list[str], found: list[str]) -> None:
    scorer = tacred_scorer if isinstance(metric, TacredMicroF1) else semeval_scorer
    whole, parts = scorer(gold, found)
    assert result(metric, gold, found) == pytest.approx(whole or (0.0, 0.0, 0.0))
    own = lines(metric, gold, found)
    assert set(parts) == {name for name, line in own.items() if line.support}
    for name, line in parts.items():
        assert (own[name].precision, own[name].recall, own[name].f1) == pytest.approx(line)


METRICS = {
    "tacred": (TacredMicroF1(), TACRED_LABELS),
    "tacred with names": (TacredMicroF1(names=TACRED_LABELS), TACRED_LABELS),
    "semeval": (SemEvalMacroF1(), list(SEMEVAL_LABELS)),
}


@pytest.mark.parametrize("name", ["tacred", "semeval"])
def test_a_thousand_random_vectors_score_as_the_scorer_has_it(name: str) -> None:
    metric, labels = METRICS[name]
    generator = random.Random(4)
    for _ in range(1_000):
        assert_is_the_scorers(metric, *random_labels(labels, generator, generator.choice([1, 3, 30])))


@settings(deadline=None, max_examples=50)
@given(name=st.sampled_from(sorted(METRICS)), data=st.data())
def test_any_vectors_score_as_the_scorer_has_it(name: str, data: st.DataObject) -> None:
    metric, labels = METRICS[name]
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(labels), st.sampled_from(labels)), min_size=1, max_size=12))
    assert_is_the_scorers(metric, [gold for gold, _ in pairs], [found for _, found in pairs])


def test_large_vectors_score_as_the_scorer_has_it() -> None:
    for metric, labels in METRICS.values():
        assert_is_the_scorers(metric, *random_labels(labels, random.Random(1), 3_000))


# By hand


@pytest.mark.parametrize(
    ("gold", "found", "expected"),
    [
        pytest.param("AAB.", "....", (100, 0, 0), id="nothing predicted"),
        pytest.param("....", "A.B.", (0, 0, 0), id="nothing gold"),
        pytest.param("....", "....", (100, 0, 0), id="all no relation"),
        pytest.param("AAB", "AAB", (100, 100, 100), id="all right"),
        pytest.param("AAB", "BBA", (0, 0, 0), id="all wrong"),
        pytest.param("AA.B", "ABAB", (50, 200 / 3, 400 / 7), id="a relation for none is a wrong guess"),
        pytest.param("AA.B", "A..B", (100, 200 / 3, 80), id="none for a relation is a miss"),
    ],
)
def test_tacred_by_hand(gold: str, found: str, expected: Percents) -> None:
    assert result(TacredMicroF1(".", names="AB."), list(gold), list(found)) == pytest.approx(expected)


def test_tacred_asks_only_for_the_label_of_no_relation_that_it_is_given() -> None:
    gold, found = ["NA", "no_relation", "x"], ["NA", "x", "x"]
    assert result(TacredMicroF1("NA"), gold, found) == pytest.approx((50, 50, 50))
    assert result(TacredMicroF1(), gold, found) == pytest.approx((200 / 3, 100, 80))


CE12, CE21, MT12, MT21 = "Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Message-Topic(e1,e2)", "Message-Topic(e2,e1)"


@pytest.mark.parametrize(
    ("gold", "found", "expected"),
    [
        pytest.param([CE12, MT21], [CE12, MT21], (100, 100, 100), id="all right, of two relations"),
        pytest.param([CE12, CE21], [CE21, CE12], (0, 0, 0), id="all in the wrong direction"),
        # Predicted three times, one of them in the wrong direction: 1 of 3, and 1 of the 2 that there are.
        pytest.param([CE12, CE21, "Other"], [CE12, CE12, CE21], (100 / 3, 50, 40), id="a wrong direction is both"),
        pytest.param([CE12, CE12], [CE12, MT12], (100, 50, 200 / 3), id="relations not in the references don't count"),
        pytest.param([CE12, MT12], [CE12, CE12], (25, 50, 100 / 3), id="nothing predicted is precision 0"),
        pytest.param([CE12, "Other"], [CE12, "Other"], (100, 100, 100), id="Other right adds nothing"),
        pytest.param([CE12, CE12], ["Other", "Other"], (0, 0, 0), id="all Other predicted"),
        pytest.param(["Other", "Other"], ["Other", CE12], (0, 0, 0), id="all Other in the references"),
    ],
)
def test_semeval_by_hand(gold: list[str], found: list[str], expected: Percents) -> None:
    assert result(SemEvalMacroF1(), gold, found) == pytest.approx(expected)


# What the task's own scorer printed for a text CNN's predictions of the test set, gold by predicted, Other last; then
# the wrong directions, and its P, R and F1.
CONFUSION = [
    [296, 0, 0, 0, 9, 1, 0, 1, 2, 15],
    [2, 209, 5, 3, 1, 9, 13, 5, 2, 32],
    [0, 4, 160, 10, 2, 0, 0, 1, 0, 11],
    [0, 2, 10, 260, 0, 0, 0, 2, 1, 16],
    [2, 1, 0, 12, 221, 1, 0, 1, 3, 16],
    [0, 4, 1, 2, 2, 101, 1, 3, 9, 31],
    [0, 6, 0, 0, 2, 3, 195, 4, 2, 20],
    [1, 2, 0, 2, 0, 0, 3, 228, 3, 19],
    [4, 4, 2, 1, 9, 10, 0, 5, 167, 24],
    [20, 25, 25, 25, 32, 20, 39, 39, 26, 203],
]
WRONG_DIRECTION = [4, 31, 4, 1, 1, 2, 1, 3, 5]
PRINTED = [
    (89.97, 90.24, 90.11),
    (72.57, 66.99, 69.67),
    (77.29, 83.33, 80.20),
    (82.28, 89.04, 85.53),
    (79.21, 85.66, 82.31),
    (68.71, 64.74, 66.67),
    (77.38, 83.69, 80.41),
    (78.08, 87.36, 82.46),
    (75.91, 72.29, 74.06),
]


def test_semeval_is_what_the_official_scorer_printed() -> None:
    gold, found = [], []
    names = [*(f"{relation}(e2,e1)" for relation in SEMEVAL_RELATIONS), "Other"]
    for answer, row in zip(names, CONFUSION, strict=True):
        for guess, count in zip(names, row, strict=True):
            gold += [answer] * count
            found += [guess] * count
    for answer, count in zip(names[:-1], WRONG_DIRECTION, strict=True):
        gold += [answer] * count
        found += [answer.replace("e2,e1", "e1,e2")] * count
    assert len(gold) == 2_717
    assert tuple(round(score, 2) for score in result(SemEvalMacroF1(), gold, found)) == (77.93, 80.37, 79.05)
    table = SemEvalMacroF1().per_relation(predictions=found, references=gold)
    assert [line.relation for line in table] == list(SEMEVAL_RELATIONS)
    assert [(round(line.precision, 2), round(line.recall, 2), round(line.f1, 2)) for line in table] == PRINTED


def test_a_line_for_each_relation_that_occurs() -> None:
    metric = TacredMicroF1(".", names=".ABCD")
    table = metric.per_relation(predictions=list("AAC."), references=list("ABA."))
    assert [line.relation for line in table] == ["A", "B", "C"]
    assert table[0] == RelationScore("A", support=2, predicted=2, correct=1, precision=50.0, recall=50.0, f1=50.0)
    # As TACRED's scorer has it: never predicted, so never wrongly.
    assert table[1] == RelationScore("B", support=1, predicted=0, correct=0, precision=100.0, recall=0.0, f1=0.0)
    assert table[2] == RelationScore("C", support=0, predicted=1, correct=0, precision=0.0, recall=0.0, f1=0.0)
    assert relation_table(table).split("\n") == [
        "| relation | support | precision | recall | F1   |",
        "| -------- | ------: | --------: | -----: | ---: |",
        "| A        | 2       | 50.0      | 50.0   | 50.0 |",
        "| B        | 1       | 100.0     | 0.0    | 0.0  |",
        "| C        | 0       | 0.0       | 0.0    | 0.0  |",
    ]


# What may be given

GOLD, FOUND = ["a", "b", ".", "a", "c"], ["a", "a", "b", ".", "c"]
NAMES = ["c", ".", "a", "b"]
EXPECTED = (50.0, 50.0, 50.0)


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        iter,
        np.array,
        pd.Series,
        lambda labels: pd.Series(labels, index=range(7, 12)),
        pa.array,
        lambda labels: pa.chunked_array([labels[:2], labels[2:]]),
        lambda labels: datasets.Dataset.from_dict({"label": labels})["label"],
        lambda labels: [*np.array(labels)],
    ],
)
@pytest.mark.parametrize("numbers", [False, True])
def test_labels_in_any_sequence(kind: Any, numbers: bool) -> None:
    gold, found = ([NAMES.index(label) for label in column] if numbers else column for column in (GOLD, FOUND))
    assert result(TacredMicroF1(".", names=NAMES), kind(gold), kind(found)) == pytest.approx(EXPECTED)
    assert result(TacredMicroF1(".", names=NAMES), kind(gold), FOUND) == pytest.approx(EXPECTED)


def test_numbers_in_a_tensor_and_in_a_trainers_compute_metrics() -> None:
    gold = torch.tensor([NAMES.index(label) for label in GOLD])
    found = torch.tensor([NAMES.index(label) for label in FOUND])
    metric = TacredMicroF1(".", names=NAMES)
    assert result(metric, gold, found) == result(metric, list(gold), found.int()) == pytest.approx(EXPECTED)
    output = EvalPrediction(predictions=torch.nn.functional.one_hot(found, 4).numpy(), label_ids=gold.numpy())
    scores = metric.compute(predictions=output.predictions.argmax(-1), references=output.label_ids)
    assert scores == pytest.approx(dict(zip(("precision", "recall", "f1"), EXPECTED, strict=True)))


def test_semeval_takes_numbers_of_a_model_that_lacks_a_label() -> None:
    names = sorted(set(SEMEVAL_LABELS) - {"Entity-Destination(e2,e1)"})
    metric = SemEvalMacroF1(names)
    found = [names.index(CE12), names.index("Entity-Destination(e1,e2)")]
    gold = [CE12, "Entity-Destination(e2,e1)"]
    assert result(metric, gold, found) == result(SemEvalMacroF1(), gold, [names[i] for i in found])
    assert result(metric, gold, found) == pytest.approx((50, 50, 50))


@pytest.mark.parametrize("in_memory", [True, False])
def test_rows_may_come_in_pieces(in_memory: bool, tmp_path: Path) -> None:
    metric = TacredMicroF1(".", cache_dir=str(tmp_path), keep_in_memory=in_memory)
    other = TacredMicroF1(".", cache_dir=str(tmp_path), keep_in_memory=in_memory)
    for _ in range(2):
        metric.add_batch(predictions=FOUND[:2], references=np.array(GOLD[:2]))
        other.add(prediction="a", reference="a")
        metric.add(prediction=FOUND[2], reference=GOLD[2])
        with pytest.raises(TkreError):
            metric.add_batch(predictions=["x"], references=[0.5])
        metric.add_batch(predictions=FOUND[3:], references=GOLD[3:])
        assert tuple(metric.compute().values()) == pytest.approx(EXPECTED)
        with pytest.warns(UserWarning, match="no row has na_label '.'"):
            assert other.compute()["f1"] == 100.0


def test_names_and_order_of_rows_change_nothing() -> None:
    gold, found = random_labels(TACRED_LABELS, random.Random(3), 200)
    expected = result(TacredMicroF1(), gold, found)
    order = random.Random(0).sample(range(200), 200)
    assert result(TacredMicroF1(), [gold[i] for i in order], [found[i] for i in order]) == expected
    assert result(TacredMicroF1(names=TACRED_LABELS[::-1]), gold, found) == pytest.approx(expected)


def test_interval_and_test_are_of_the_same_score() -> None:
    for metric, labels in METRICS.values():
        gold, found = random_labels(labels, random.Random(5), 300, 0.5)
        scores = metric.compute(predictions=found, references=gold)
        for key, value in scores.items():
            interval = metric.interval(predictions=found, references=gold, key=key, resamples=200)
            assert interval.value == pytest.approx(value) and interval.low <= value <= interval.high
            compared = metric.paired_test(first=found, second=gold, references=gold, key=key, resamples=200)
            assert (compared.first, compared.second) == pytest.approx((value, 100))
            assert compared.difference.value == pytest.approx(value - 100)
        again = metric.interval(predictions=found, references=gold, seed=7)
        assert again == metric.interval(predictions=found, references=gold, seed=7)
        assert again != metric.interval(predictions=found, references=gold, seed=8)


def test_a_worse_run_is_found_worse() -> None:
    gold, found = random_labels(list(SEMEVAL_LABELS), random.Random(5), 300, 0.5)
    compared = SemEvalMacroF1().paired_test(first=gold, second=found, references=gold, resamples=999)
    assert compared.p_value == 1 / 1_000
    assert 0 < compared.difference.low < compared.difference.value < compared.difference.high <= 100


# What may not


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"predictions": ["a"], "references": ["a", "b"]}, "there are 1 predictions but 2 references"),
        ({"predictions": [], "references": []}, "there are no rows to score"),
        (
            {"predictions": ["a", "x"], "references": ["a", "b"]},
            "predictions[1] is 'x', which is none of the 3 labels",
        ),
        ({"predictions": ["a"], "references": [3]}, "references[0] is 3, but names has labels 0 to 2"),
        ({"predictions": ["a"], "references": [-1]}, "references[0] is -1, but names has labels 0 to 2"),
        ({"predictions": [1.0], "references": ["a"]}, "predictions[0] is 1.0, neither a label nor a label's number"),
        ({"predictions": [True], "references": ["a"]}, "predictions[0] is True, neither a label nor a label's number"),
        (
            {"predictions": np.zeros((1, 2)), "references": ["a"]},
            "predictions[0] is [0.0, 0.0], neither a label nor a label's number",
        ),
        ({"predictions": "a", "references": ["a"]}, "predictions must be a sequence of labels, not 'a'"),
        ({"predictions": np.array(1), "references": ["a"]}, "predictions must be a sequence of labels, not 1"),
        ({"predictions": 1, "references": ["a"]}, "predictions must be a sequence of labels, not 1"),
        ({"predictions": ["a"]}, "references must be a sequence of labels, not None"),
    ],
)
def test_wrong_labels_are_one_sentence(given: dict[str, Any], message: str) -> None:
    metric = TacredMicroF1(".", names=["a", "b", "."])
    with pytest.raises(TkreError) as caught:
        metric.compute(**given)
    assert str(caught.value) == message
    # And nothing of them is left behind.
    assert metric.compute(predictions=["a"], references=["a"])["f1"] == 100.0


def test_wrong_labels_of_a_test_are_named() -> None:
    with pytest.raises(TkreError, match="there are 1 first but 2 second"):
        SemEvalMacroF1().paired_test(first=["Other"], second=["Other"] * 2, references=["Other"])
    with pytest.raises(TkreError, match=r"second\[0\] is 'other', which is none of the 19 labels"):
        SemEvalMacroF1().paired_test(first=["Other"], second=["other"], references=["Other"])
    with pytest.raises(ValueError, match="resamples above 0"):
        SemEvalMacroF1().interval(predictions=["Other"], references=["Other"], resamples=0)


def test_numbers_need_names() -> None:
    for metric in (TacredMicroF1(), SemEvalMacroF1()):
        with pytest.raises(TkreError, match=r"predictions\[0\] is the number 3: give the metric names"):
            metric.compute(predictions=[3], references=["Other"])


def test_wrong_names() -> None:
    with pytest.raises(TkreError, match="na_label 'NA' can never occur: it is none of the 2 names"):
        TacredMicroF1("NA", names=["a", "no_relation"])
    with pytest.raises(TkreError, match="names has the label 'a' more than once"):
        TacredMicroF1("b", names=["a", "b", "a"])
    with pytest.raises(TkreError, match="names has 'Cause-Effect', which is none of SemEval-2010 Task 8's 19 labels"):
        SemEvalMacroF1(["Cause-Effect", "Other"])


def test_a_label_of_no_relation_that_no_row_has_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="no row has na_label 'no_relation'"):
        TacredMicroF1().compute(predictions=["NA"], references=["a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TacredMicroF1(names=["a", "no_relation"]).compute(predictions=["a"], references=["a"])


# As evaluate has it


def test_they_are_evaluates_metrics() -> None:
    for metric in (tkre_hf.TacredMicroF1(), tkre_hf.SemEvalMacroF1()):
        assert isinstance(metric, evaluate.Metric)
        assert metric.description and metric.citation and metric.info.reference_urls
        assert {tuple(features) for features in metric.features} == {("predictions", "references")}
    assert tkre_hf.TacredMicroF1().name == "tacred_micro_f1"


def test_two_metrics_combine() -> None:
    both = evaluate.combine({"strict": TacredMicroF1("."), "lenient": TacredMicroF1("a")})
    both.add_batch(predictions=FOUND, references=GOLD)
    assert both.compute()["strict_f1"] == pytest.approx(50)


def test_they_need_no_network(tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise SystemExit('looked at the network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import tkre_hf\n"
        "print(tkre_hf.TacredMicroF1('.').compute(predictions=['a', '.'], references=['a', 'a'])['recall'])\n"
        "print(tkre_hf.SemEvalMacroF1().compute(predictions=['Other'], references=['Other'])['f1'])\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.split()) == (0, ["50.0", "0.0"]), done.stderr
