"""From a checkpoint's folder and a file of sentences to rows."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig

from tkre_hf.arguments import parse_arguments
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.few_shot import FewShotArguments, evaluate_few_shot, parse_setting, run
from tkre_hf.evaluation.report import read_rows
from tkre_hf.tkre.modeling_tkre import TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.training_data import TrainingSummary

from ..conftest import RELATIONS

Measure = Callable[..., FewShotArguments]


@pytest.fixture
def measure(checkpoint: Path, corpus_files: tuple[Path, Path]) -> Measure:
    """Arguments for the tiny checkpoint and corpus: ``measure(settings=["2w1s"])``."""
    data, info = map(str, corpus_files)

    def make(**settings: Any) -> FewShotArguments:
        defaults: dict[str, Any] = {
            "model": [str(checkpoint)],
            "data": data,
            "relation_info": info,
            "settings": ["3w1s"],
            "num_episodes": 40,
            "bf16": False,
        }
        return FewShotArguments(**{**defaults, **settings})

    return make


@pytest.fixture
def others(tmp_path: Path, records: list[dict[str, Any]]) -> Path:
    """The same sentences under other relations' labels: something to calibrate on."""
    path = tmp_path / "others.jsonl"
    rows = [{**record, "relation": f"other {record['relation']}"} for record in records]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def trained_on(folder: Path, checkpoint: Path, relations: list[str], add_sources: list[str]) -> str:
    """The checkpoint, with an account of its training beside it."""
    folder.mkdir()
    for file in checkpoint.iterdir():
        os.link(file, folder / file.name)
    stage = {"stage": "TKREForPreTraining", "sources": ["a.jsonl"], "add_sources": add_sources, "seed": 3}
    TrainingSummary([{**stage, "minutes": 1.5, "trained_relations": relations}]).write(folder)
    return str(folder)


@given(n_way=st.integers(1, 500), k_shot=st.integers(0, 500))
def test_settings_are_read(n_way: int, k_shot: int) -> None:
    assert parse_setting(f"{n_way}w{k_shot}s") == (n_way, k_shot)


@pytest.mark.parametrize("setting", ["", "5w", "5w1", "0w1s", "5W1S", "5w-1s", "5way1shot", " 5w1s", "5w1s\n"])
def test_other_settings_are_refused(setting: str) -> None:
    with pytest.raises(TkreError, match="not of the form 5w1s"):
        parse_setting(setting)


def test_a_row_for_each_setting(measure: Measure) -> None:
    rows, reports = evaluate_few_shot(measure(settings=["3w1s", "6w5s", "3w0s"], system="tiny"))
    assert [row.setting for row in rows] == ["3w1s", "6w5s", "3w0s"] == list(reports)
    for row in rows:
        assert (row.benchmark, row.system, row.metric, row.n) == ("train", "tiny", "accuracy", 40)
        assert (row.knowledge, row.seeds, row.minutes, row.published) == ("descriptions", [], None, False)
        assert 0 <= row.value <= 100 and row.ci95 is not None and row.ci95 >= 0
        assert reports[row.setting].accuracy == pytest.approx(row.value, abs=0.01)
        assert "torch" in row.versions and row.machine


def test_the_same_again_is_the_same(measure: Measure) -> None:
    first, second = (evaluate_few_shot(measure(settings=["3w1s", "3w0s"], batch_size=size))[0] for size in (64, 7))
    assert [row.value for row in first] == [row.value for row in second]


def test_checkpoints_are_averaged(measure: Measure, checkpoint: Path, tmp_path: Path) -> None:
    one = trained_on(tmp_path / "one", checkpoint, ["elsewhere"], [])
    (alone,), _ = evaluate_few_shot(measure())
    other = str(shutil.copytree(one, tmp_path / "other"))
    (row,), _ = evaluate_few_shot(measure(model=[one, other]))
    assert (row.value, row.ci95, row.seeds, row.minutes) == (alone.value, 0.0, [3, 3], 1.5)
    assert row.source == "TKREForPreTraining: a.jsonl" and row.knowledge == "descriptions"


def test_without_descriptions(measure: Measure) -> None:
    (row,), _ = evaluate_few_shot(measure(descriptions=False))
    (weightless,), _ = evaluate_few_shot(measure(anchor_weight=0.0))
    assert row.knowledge == "none" and row.value == weightless.value
    with pytest.raises(TkreError, match="3w0s is zero-shot: it needs descriptions"):
        evaluate_few_shot(measure(descriptions=False, settings=["3w0s"]))


def test_descriptions_come_from_the_file_given(measure: Measure) -> None:
    values = [
        evaluate_few_shot(measure(settings=["6w0s"], relation_info=info))[0][0].value
        for info in (measure().relation_info, None)
    ]
    assert values[0] != values[1]


def test_samples_of_the_relations_are_said_to_be_known(measure: Measure, others: Path) -> None:
    args = measure(samples=[measure().data], settings=["6w0s"], sample_weight=1e6, descriptions=False)
    (row,), _ = evaluate_few_shot(args)
    (without,), _ = evaluate_few_shot(measure(settings=["6w0s"]))
    # The samples are the sentences themselves, and each relation's mean is a better prototype than a random anchor.
    assert row.knowledge == "synthetic" and row.value > without.value
    with pytest.raises(TkreError, match="others.jsonl has no sentence of the relations in"):
        evaluate_few_shot(measure(samples=[str(others)]))


def test_none_of_the_above(measure: Measure, others: Path) -> None:
    args = measure(settings=["3w1s", "3w0s"], na_rates=[0.0, 0.5], calibrate=str(others))
    rows, reports = evaluate_few_shot(args)
    assert [row.setting for row in rows] == ["3w1s", "3w0s", "3w1s na0", "3w1s na50", "3w0s na0", "3w0s na50"]
    assert reports["3w1s"].confusion[:, -1].sum() == 0
    assert reports["3w1s na50"].confusion[-1].sum() == 40 * 3
    # Rejecting costs where there is nothing to reject.
    assert reports["3w1s na0"].accuracy <= reports["3w1s"].accuracy


def test_none_of_the_above_needs_other_relations(
    measure: Measure, others: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(TkreError, match="na_rates need --calibrate"):
        evaluate_few_shot(measure(na_rates=[0.5]))
    with pytest.raises(TkreError, match="no relation that is neither trained on nor evaluated"):
        evaluate_few_shot(measure(na_rates=[0.5], calibrate=measure().data))
    known = [f"other {label}" for label in RELATIONS]
    model = [trained_on(tmp_path / "all", checkpoint, known, [])]
    with pytest.raises(TkreError, match="no relation that is neither trained on nor evaluated"):
        evaluate_few_shot(measure(model=model, na_rates=[0.5], calibrate=str(others)))
    model = [trained_on(tmp_path / "some", checkpoint, known[:3], [])]
    with pytest.raises(TkreError, match="others.jsonl, without the relations that are trained on or evaluated: 3-way"):
        evaluate_few_shot(measure(model=model, na_rates=[0.5], calibrate=str(others)))


def test_a_model_that_knows_all_relations_takes_another_ones_threshold(
    measure: Measure, others: Path, checkpoint: Path, tmp_path: Path
) -> None:
    known = [f"other {label}" for label in RELATIONS]
    final = trained_on(tmp_path / "all", checkpoint, known, [])
    held_out = trained_on(tmp_path / "some", checkpoint, known[:2], [])
    settings: dict[str, Any] = {"settings": ["3w1s"], "na_rates": [0.5], "calibrate": str(others)}
    (_, own), _ = evaluate_few_shot(measure(model=[held_out], **settings))
    (_, carried), _ = evaluate_few_shot(measure(model=[final], calibrate_model=held_out, **settings))
    assert carried.value == own.value
    with pytest.raises(TkreError, match="calibrate_model needs --calibrate"):
        evaluate_few_shot(measure(calibrate_model=held_out))


@pytest.mark.parametrize("synthetic", [True, False])
def test_relations_that_were_trained_on_are_not_new(
    synthetic: bool, measure: Measure, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained_on(tmp_path / "x", checkpoint, ["author", "mother"], ["samples.jsonl"] if synthetic else [])
    (row,), _ = evaluate_few_shot(measure(model=[model]))
    assert row.knowledge == "synthetic"
    warned = "warning: a checkpoint was trained on sentences of 2 of the 6 relations" in capsys.readouterr().err
    assert warned is not synthetic


def test_one_episode_is_written_as_json(measure: Measure, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    assert run(measure(num_episodes=1, output=str(path))) == 0
    (row,) = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert row["ci95"] is None


def test_run_tells_and_writes(measure: Measure, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.json"
    assert run(measure(settings=["6w1s"], confusion=3, output=str(path), benchmark="tiny corpus")) == 0
    out = capsys.readouterr().out
    (row,) = read_rows(path)
    assert row.benchmark == "tiny corpus" and f"{row.value:.1f} ± {row.ci95:.1f}" in out
    names = {name for name, *_ in RELATIONS.values()}
    pairs = [line.strip().split(": ")[0].split(" taken for ") for line in out.splitlines() if " taken for " in line]
    assert len(pairs) == 3 and {name for pair in pairs for name in pair} <= names
    assert (tmp_path / "rows.md").read_text().count("tiny corpus") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": ["7w1s"]}, "7-way episodes need at least 7 relations, found 6"),
        ({"settings": ["3w8s"]}, "each relation needs 9 rows"),
        ({"relations": ["author", "spouse"]}, "relations names 'spouse', which no sentence of .* has"),
        ({"relations": ["author", "mother"], "settings": ["3w1s"]}, "at least 3 relations, found 2"),
        ({"num_episodes": 0}, "num_episodes is 0"),
        ({"settings": ["3w1s", "5w1s", "3w1s"]}, "ask for '3w1s' more than once: name each setting once"),
        (
            {"na_rates": [0.5, 0.15, 0.151]},
            "ask for '3w1s na15' more than once: .* rates that differ in whole percent",
        ),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"model": ["no/such/folder"]}, "the checkpoint no/such/folder can't be loaded"),
        ({"relation_info": "nowhere.json"}, "nowhere.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(changes: dict[str, Any], message: str, measure: Measure) -> None:
    with pytest.raises(TkreError, match=message) as caught:
        evaluate_few_shot(measure(**changes))
    assert "\n" not in str(caught.value)


def test_sentences_are_encoded_one_at_a_time_at_least(measure: Measure) -> None:
    with pytest.raises(TkreError, match="batch_size is 0: encode one sentence at least"):
        evaluate_few_shot(measure(batch_size=0))


def test_a_checkpoint_is_no_seed_beside_itself(measure: Measure, model: TKREModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    with pytest.raises(TkreError, match="the checkpoint .*m is given more than once"):
        evaluate_few_shot(measure(model=[str(tmp_path / "m"), f"{tmp_path}/m/"]))


def test_entities_longer_than_the_window_are_named(
    measure: Measure, model: TKREModel, backbone: Path, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    TKREProcessor.from_backbone(str(backbone), max_length=6).save_pretrained(tmp_path)
    with pytest.raises(TkreError, match="record 'crosses-0': the two entities alone take .* tokens; raise max_length"):
        evaluate_few_shot(measure(model=[str(tmp_path)]))


def test_another_kind_of_model_is_refused(measure: Measure, backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(TkreError, match="holds no TKRE model; its model type is bert"):
        evaluate_few_shot(measure(model=[str(backbone)]))
    BertConfig().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TkreError, match="holds no TKRE model; its model type is unknown"):
        evaluate_few_shot(measure(model=[str(tmp_path)]))


@pytest.mark.parametrize(
    ("words", "wanted"), [([], None), (["--bf16"], True), (["--bf16", "auto"], None), (["--bf16", "false"], False)]
)
def test_bfloat16_may_stay_unsaid(words: list[str], wanted: bool | None) -> None:
    (args,) = parse_arguments((FewShotArguments,), ["--model", "x", *words])
    assert args.bf16 is wanted


def test_bfloat16_changes_little(measure: Measure) -> None:
    exact, rough = (evaluate_few_shot(measure(bf16=bf16, num_episodes=200))[0][0] for bf16 in (False, True))
    assert abs(exact.value - rough.value) < 10


@pytest.mark.skipif("TKRE_DATA_DIR" not in os.environ, reason="TKRE_DATA_DIR names no folder of real data")
def test_fewrel(measure: Measure, real_text_backbone: Path, tmp_path: Path) -> None:
    processor = TKREProcessor.from_backbone(str(real_text_backbone))
    model = TKREModel.from_backbone(str(real_text_backbone), len(processor.tokenizer), processor.new_tokens)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    args = measure(
        model=[str(tmp_path)],
        data="fewrel:pubmed",
        data_dir=str(Path(os.environ["TKRE_DATA_DIR"], "fewrel")),
        relation_info=None,
        calibrate="sample:validation",
        settings=["5w1s"],
        na_rates=[0.5],
    )
    rows, reports = evaluate_few_shot(args)
    assert [row.benchmark for row in rows] == ["fewrel_pubmed", "fewrel_pubmed"]
    assert len(reports["5w1s"].relations) == 10
    with pytest.raises(TkreError, match="no split"):
        evaluate_few_shot(replace(args, split="test"))
