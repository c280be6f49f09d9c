"""What the K-shot chain refuses before its first step, and what it says of rows and labels that don't fit."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tkre_hf.kshot_chain
from tkre_hf.data import load_records
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import read_rows
from tkre_hf.hub.facts import FIGURES
from tkre_hf.kshot import KShotArguments, run_chain
from tkre_hf.kshot_chain import Chain

STEP = {"max_steps": 1, "use_cpu": True, "bf16": False, "disable_tqdm": True, "max_length": 64}


@pytest.fixture
def given(corpus_files: tuple[Path, Path], backbone: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings of a chain that fine-tunes alone."""
    rows, info = corpus_files
    settings = {
        "train": rows,
        "test": rows,
        "relation_info": info,
        "backbone": backbone,
        "output_dir": tmp_path / "out",
    }
    return {**{name: str(path) for name, path in settings.items()}, "finetune": STEP}


def relations(path: Path) -> Counter[str]:
    return Counter(json.loads(line)["relation"] for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test": "nope.jsonl"}, "nope.jsonl: there is no such file"),
        ({"relation_info": "nope.yaml"}, "nope.yaml: there is no such file"),
        ({"na_label": "mothr"}, "na_label is 'mothr', but no training row has this relation"),
        ({"finetune": {**STEP, "na_label": "mothr"}}, "na_label is 'mothr', but no training row has this relation"),
        ({"k": 2, "keep_whole_na": True}, "keep_whole_na is true, but no na_label says which rows have no relation"),
        ({"finetune": {**STEP, "learning_rat": 1}}, "finetune: .*learning_rat"),
        ({"stage2": {"learning_rat": 1}}, "stage2: .*learning_rat"),
        ({"stage2": {"gradient_accumulation_steps": 2}}, "stage2: .*gradient_accumulation_steps must be 1"),
        ({"finetune": {**STEP, "dataloader_drop_last": True}}, "finetune: .*dataloader_drop_last is True: leave it"),
        ({"stage0": {"modell": "x"}}, "stage0: .*modell"),
        ({"averaged": 0}, "averaged is 0: fine-tune at least once"),
    ],
)
def test_what_the_last_step_would_refuse_is_refused_before_the_first(
    given: dict[str, Any], settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train_mslm", "train_scl", "train_relations", "generate_training_set"):
        monkeypatch.setattr(tkre_hf.kshot_chain, name, lambda *_: pytest.fail("trained"))
    with pytest.raises(TkreError, match=message):
        run_chain(KShotArguments(**{**given, "stage1": STEP, **settings}))


def test_the_label_of_no_relation_may_be_a_setting_of_fine_tuning(given: dict[str, Any]) -> None:
    result = run_chain(KShotArguments(**{**given, "finetune": {**STEP, "na_label": "mother"}}))
    assert result.predictions is not None and result.predictions.na_label == "mother"
    (row,) = read_rows(result.classifier / FIGURES)
    assert row.value == round(result.predictions.scores()["micro_f1"], 2)


def test_a_relation_may_have_fewer_rows(given: dict[str, Any], tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    rows = Path(given["train"]).read_text().splitlines()
    few.write_text("".join(f"{row}\n" for row in rows if '"mother"' not in row or '"mother-0"' in row))
    with pytest.raises(TkreError, match="needs 3 rows, but 'mother' has 1; allow_fewer takes all they have"):
        run_chain(KShotArguments(**{**given, "train": str(few), "k": 3}))
    result = run_chain(KShotArguments(**{**given, "train": str(few), "k": 3, "allow_fewer": True}))
    drawn = relations(result.train_file)
    assert drawn.pop("mother") == 1 and set(drawn.values()) == {3} and len(drawn) == 5


def test_a_test_label_that_no_training_row_has_is_told(
    given: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = tmp_path / "test.jsonl"
    test.write_text(Path(given["train"]).read_text().replace('"relation": "mother"', '"relation": "Mother"'))
    with caplog.at_level(logging.WARNING):
        run_chain(KShotArguments(**{**given, "test": str(test)}))
    assert "8 of 48 test rows have labels that no training row has (Mother), and count as missed" in caplog.messages


def test_as_many_rows_are_validated_on_as_most_relations_have(given: dict[str, Any], tmp_path: Path) -> None:
    rows = Path(given["train"]).read_text().splitlines()

    def first(**numbers: int) -> str:
        kept = Counter[str]()
        uneven = tmp_path / f"{'-'.join(map(str, numbers.values()))}.jsonl"
        with uneven.open("w") as file:
            for row in rows:
                relation = json.loads(row)["relation"]
                kept[relation] += 1
                if kept[relation] <= numbers.get(relation, 0):
                    file.write(f"{row}\n")
        return str(uneven)

    def validated(train: str) -> Any:
        finetune = {**STEP, "validation": given["train"]}
        return run_chain(KShotArguments(**{**given, "train": train, "test": None, "finetune": finetune})).summary

    seen: list[int] = []
    original = tkre_hf.finetuning.draw_kshot
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tkre_hf.finetuning, "draw_kshot", lambda rows, k, *a, **kw: seen.append(k) or original(rows, k, *a, **kw)
        )
        validated(first(mother=7, author=3, crosses=2))
        validated(first(mother=7, author=3, crosses=3))
    assert seen == [2, 3]


def test_samples_alone_do_not_say_how_many_to_validate_on(given: dict[str, Any], tmp_path: Path) -> None:
    samples = tmp_path / "samples.jsonl"
    rows = [json.loads(line) for line in Path(given["train"]).read_text().splitlines()]
    samples.write_text("".join(json.dumps({**row, "source": "scdg"}) + "\n" for row in rows))
    finetune = {**STEP, "validation": given["train"]}
    with pytest.raises(TkreError, match="validation: no training row is a labelled one.*validation_k"):
        run_chain(KShotArguments(**{**given, "train": str(samples), "finetune": finetune}))
    run_chain(KShotArguments(**{**given, "train": str(samples), "finetune": {**finetune, "validation_k": 2}}))


def test_no_sample_may_repeat_a_row_of_a_published_test_set(given: dict[str, Any]) -> None:
    rows = load_records(given["test"])
    for test in (given["test"], "semeval:opennre"):
        chain = Chain(KShotArguments(**{**given, "test": test}))
        chain.test_rows = rows
        (file,) = chain._stage0({"model": "m"}).exclude
        assert (file == test) == (test == given["test"])
        assert load_records(file)["tokens"] == rows["tokens"]


def test_validation_rows_of_other_relations_are_left_out_and_told(
    given: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = tmp_path / "train.jsonl"
    rows = Path(given["train"]).read_text().splitlines(keepends=True)
    train.write_text("".join(row for row in rows if json.loads(row)["relation"] != "mother"))
    finetune = {**STEP, "validation": given["test"]}
    with caplog.at_level(logging.WARNING):
        run_chain(KShotArguments(**{**given, "train": str(train), "test": None, "finetune": finetune}))
    assert "validation: 8 of 48 rows are of relations that are not trained on" in caplog.messages
