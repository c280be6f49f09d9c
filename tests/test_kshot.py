"""The chain from K labelled rows to a tested classifier: what is done once, what anew, and what is said."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import tkre_hf.kshot_chain
from tkre_hf.cli import main
from tkre_hf.digests import file_digest
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.kshot import Predictions
from tkre_hf.evaluation.report import read_rows
from tkre_hf.hub.facts import FIGURES
from tkre_hf.kshot import KShotArguments, KShotResult, run_chain
from tkre_hf.training_data import training_summary

from .conftest import RELATIONS

STEP: dict[str, Any] = {"use_cpu": True, "bf16": False, "disable_tqdm": True, "save_strategy": "no", "max_steps": 2}

Chain = Callable[..., KShotResult]


@pytest.fixture
def recorded(tmp_path: Path, records: list[dict[str, Any]]) -> Path:
    """An LLM's recorded answers: an explanation of every row, and three samples of each relation."""
    folder = tmp_path / "knowledge"
    folder.mkdir()
    explanations, samples = [], []
    for i, record in enumerate(records):
        tokens = record["tokens"]
        names = [" ".join(tokens[record[side]["start"] : record[side]["end"]]) for side in ("head", "tail")]
        text = f"Both {names[0]} and then {names[1]} stand here, and number {i} says how the two belong together."
        explanations.append({"row": i, "relation": record["relation"], "explanation": text})
    verbs = {label: words for label, (_, words, _) in RELATIONS.items()}
    for label, words in verbs.items():
        for head, tail, place in (
            ("Oona", "Pavel", "harbour"),
            ("Quirin", "Rosa", "valley"),
            ("Sten", "Tilda", "attic"),
        ):
            context = f"Near the {place} {head} stood beside {tail} while {words} came up again for {place} people."
            types = {"head_type": "THING", "tail_type": "PERSON" if label == "author" else "THING"}
            entities = {"head_entity": head, "tail_entity": tail, **types}
            samples.append({"relation": label, "context": context, **entities})
    for name, rows in (("explanations", explanations), ("synthetic", samples)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def arguments(corpus_files: tuple[Path, Path], backbone: Path, recorded: Path, tmp_path: Path) -> KShotArguments:
    """All steps of a chain, tiny."""
    sources, info = map(str, corpus_files)
    stage0 = {"backend": "recorded", "recorded": str(recorded), "model": "an LLM", "per_relation": 3, "exclude": []}
    return KShotArguments(
        train=sources,
        test=sources,
        na_label="mother",
        relation_info=info,
        backbone=str(backbone),
        stage0={**stage0, "per_request": 3, "max_tries": 1},
        stage1={**STEP, "max_length": 64},
        stage2={**STEP, "relations_per_batch": 4, "sentences_per_relation": 2},
        finetune={**STEP, "max_length": 64, "per_device_train_batch_size": 8},
        output_dir=str(tmp_path / "out"),
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were really trained, as they are."""
    calls: list[str] = []
    for name in ("train_mslm", "train_scl", "train_relations"):
        original = getattr(tkre_hf.kshot_chain, name)

        def called(*args: Any, name: str = name, original: Any = original) -> Any:
            calls.append(name)
            return original(*args)

        monkeypatch.setattr(tkre_hf.kshot_chain, name, called)
    return calls


def test_every_step_is_done_once_and_anew_where_its_inputs_change(
    arguments: KShotArguments, trained: list[str], corpus_files: tuple[Path, Path], tmp_path: Path
) -> None:
    first = run_chain(arguments)
    assert trained == ["train_mslm", "train_scl", "train_relations"]
    rows = [json.loads(line) for line in first.train_file.read_text().splitlines()]
    assert Counter(row["source"] for row in rows) == {"gold": 48, "edkg": 48, "scdg": 18}
    summary = training_summary(first.classifier)
    assert summary is not None
    assert [stage["sentences"] for stage in summary.stages] == [114, 114, 66]  # no explanation is classified
    assert first.predictions is not None and len(first.predictions.gold) == 48
    assert first.minutes == pytest.approx(summary.minutes, abs=0.01)
    card = ModelCard.load(first.classifier / "README.md")
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert figures == {name: round(value, 2) for name, value in first.predictions.scores().items()}
    assert str(tmp_path) not in str(card)

    trained.clear()
    again = run_chain(arguments)
    assert trained == [] and again == first

    # A step's own setting: it and those after it; what changes nothing in what comes out changes nothing here.
    run_chain(replace(arguments, stage2={**(arguments.stage2 or {}), "tau": 0.2}))
    assert trained == ["train_scl", "train_relations"]
    trained.clear()
    run_chain(replace(arguments, finetune={**arguments.finetune, "logging_steps": 1, "save_total_limit": 1}))
    assert trained == []

    # The content of a file, not its name.
    sources, info = corpus_files
    copy = tmp_path / "copy.jsonl"
    copy.write_text(sources.read_text())
    run_chain(replace(arguments, train=str(copy), test=str(copy)))
    assert trained == []
    copy.write_text("".join(sources.read_text().splitlines(keepends=True)[1:]))
    other = tmp_path / "other.jsonl"
    other.write_text(info.read_text().replace("who wrote a book", "who has written it"))
    run_chain(replace(arguments, relation_info=str(other), stage0=None))
    assert trained == ["train_mslm", "train_scl", "train_relations"]


def test_it_starts_from_a_checkpoint_and_its_minutes_are_its_own(
    arguments: KShotArguments, trained: list[str], tmp_path: Path
) -> None:
    start = run_chain(replace(arguments, stage0=None, stage2=None))
    (stage1,) = Path(arguments.output_dir).glob("stage1-*")
    trained.clear()
    plain = replace(
        arguments, stage0=None, stage1=None, stage2=None, checkpoint=str(stage1), output_dir=str(tmp_path / "b")
    )
    result = run_chain(plain)
    assert trained == ["train_relations"]
    assert [stage["stage"] for stage in result.summary.stages] == [stage["stage"] for stage in start.summary.stages]
    assert result.minutes <= result.summary.minutes
    # What its figures rest on is said with them.
    blind = run_chain(replace(plain, finetune={**plain.finetune, "classifier_init": "random"}))
    kinds = [{row.knowledge for row in read_rows(each.classifier / FIGURES)} for each in (start, blind)]
    assert kinds == [{"descriptions"}, {"none"}]


def halve_weights(folder: Path) -> None:
    weights = {name: value / 2 for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_what_a_step_starts_from_is_known_by_its_content(
    arguments: KShotArguments, trained: list[str], backbone: Path, tmp_path: Path
) -> None:
    plain = replace(arguments, stage0=None, stage1=None, stage2=None)
    first = run_chain(plain)
    own, moved = tmp_path / "own", tmp_path / "moved"
    shutil.copytree(first.classifier, own)
    shutil.copytree(backbone, moved)
    trained.clear()
    # The backbone in another place; another one in the same place.
    assert run_chain(replace(plain, backbone=str(moved))) == first and not trained
    halve_weights(moved)
    assert run_chain(replace(plain, backbone=str(moved))).classifier != first.classifier
    # A checkpoint that the step's own settings name.
    assert trained == ["train_relations"]
    told = replace(plain, finetune={**plain.finetune, "checkpoint": str(own)})
    second = run_chain(told)
    halve_weights(own)
    third = run_chain(told)
    assert len({first.classifier, second.classifier, third.classifier}) == 3 and len(trained) == 3


def test_how_hard_is_asked_changes_no_knowledge(arguments: KShotArguments, trained: list[str]) -> None:
    first = run_chain(replace(arguments, stage1=None, stage2=None))
    trained.clear()
    harder = {**(arguments.stage0 or {}), "max_requests": 10**6, "concurrency": 2, "timeout": 1.0}
    assert run_chain(replace(arguments, stage0=harder, stage1=None, stage2=None)) == first and not trained
    fewer = {**(arguments.stage0 or {}), "add_k": 1}
    assert run_chain(replace(arguments, stage0=fewer, stage1=None, stage2=None)).train_file != first.train_file
    # Where no model is named, it is the server that says which one answers.
    folders = []
    for model, port in (("m", 1), ("m", 2), (None, 1), (None, 2)):
        asked = {**(arguments.stage0 or {}), "model": model, "base_url": f"http://127.0.0.1:{port}"}
        folders.append(run_chain(replace(arguments, stage0=asked, stage1=None, stage2=None)).train_file)
    assert folders[0] == folders[1] and len(set(folders)) == 3


def test_knowledge_that_was_merged_before_is_no_labelled_row(arguments: KShotArguments, tmp_path: Path) -> None:
    merged = tmp_path / "merged.jsonl"
    shutil.copyfile(run_chain(replace(arguments, stage1=None, stage2=None)).train_file, merged)
    given = replace(arguments, train=str(merged), stage0=None, stage1=None, stage2=None)
    result = run_chain(given)
    assert result.summary.stages[-1]["sentences"] == 66  # no explanation is classified
    assert {row.knowledge for row in read_rows(result.classifier / FIGURES)} == {"synthetic"}
    with pytest.raises(TkreError, match="holds a language model's explanations or samples"):
        run_chain(replace(given, k=2))
    # Samples alone are what there is to draw from.
    rows = [line for line in merged.read_text().splitlines(keepends=True) if '"source": "scdg"' in line]
    merged.write_text("".join(rows))
    assert run_chain(replace(given, k=2)).summary.stages[-1]["sentences"] == 12


def test_a_test_that_was_interrupted_is_done_again(arguments: KShotArguments, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = replace(arguments, stage0=None, stage1=None, stage2=None)

    def fails(folder: Path) -> None:
        raise TkreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(tkre_hf.kshot_chain, "write_card", fails)
        with pytest.raises(TkreError, match="the disk is full"):
            run_chain(plain)
    result = run_chain(plain)
    assert result.predictions is not None
    assert "micro_f1" in (result.classifier / "README.md").read_text()
    assert {row.metric for row in read_rows(result.classifier / FIGURES)} == {"micro_f1"}


def test_k_rows_are_drawn_and_named(arguments: KShotArguments, tmp_path: Path) -> None:
    args = replace(arguments, k=3, stage0=None, stage1=None, stage2=None)
    result = run_chain(args)
    labels = Counter(json.loads(line)["relation"] for line in result.train_file.read_text().splitlines())
    assert labels == dict.fromkeys(RELATIONS, 3)
    manifest = json.loads((result.train_file.parent / "manifest.json").read_text())
    assert manifest["k"] == 3 and {label: len(ids) for label, ids in manifest["rows"].items()} == labels
    whole = run_chain(replace(args, keep_whole_na=True))
    labels = Counter(json.loads(line)["relation"] for line in whole.train_file.read_text().splitlines())
    assert labels == {**dict.fromkeys(RELATIONS, 3), "mother": 8}
    other = run_chain(replace(args, kshot_seed=2))
    assert other.train_file != result.train_file


def test_from_the_command_line(arguments: KShotArguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "kshot.yaml"
    names = ("train", "test", "relation_info", "backbone", "na_label", "output_dir")
    lines = [f"{name}: {getattr(arguments, name)}" for name in names]
    lines += ["finetune:", *(f"  {name}: {json.dumps(value)}" for name, value in STEP.items()), "  max_length: 64"]
    config.write_text("\n".join(lines) + "\n")
    assert main(["train", "kshot", "--config", str(config), "--finetune.max_steps", "3"]) == 0
    printed = capsys.readouterr().out
    assert "micro_f1: " in printed and "| author " in printed and "| mother " not in printed
    (folder,) = (tmp_path / "out").glob("classifier-*")
    assert str(folder) in printed
    assert json.loads((folder / "train_results.json").read_text())["epoch"] > 0

    assert main(["train", "kshot", "--config", str(config), "--finetune.max_step", "3"]) == 2
    error = capsys.readouterr().err
    assert "finetune: unknown key 'max_step'; did you mean 'max_steps'?" in error
    assert main(["train", "kshot"]) == 2
    assert "no rows: say what to train on" in capsys.readouterr().err
    assert main(["train", "stage3"]) == 2
    assert main(["train"]) == 2


@pytest.mark.parametrize("command", ["stage1", "stage2"])
def test_stages_alone_from_the_command_line(
    command: str, corpus_files: tuple[Path, Path], backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, info = map(str, corpus_files)
    words = ["--sources", sources, "--backbone", str(backbone), "--max_length", "64", "--max_steps", "1"]
    words += ["--use_cpu", "--output_dir", str(tmp_path / "out")]
    words += ["--relation_info", info, "--relations_per_batch", "4"] if command == "stage2" else []
    assert main(["train", command, *words]) == 0
    assert str(tmp_path / "out") in capsys.readouterr().out
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_predictions_are_written_and_read(tmp_path: Path) -> None:
    found = Predictions(("a", "b\u2028c"), ("x", "ä"), ("x", "na"), "na")
    found.write(tmp_path / "predictions.jsonl")
    assert Predictions.read(tmp_path / "predictions.jsonl", "na") == found
    assert found.scores() == {"micro_f1": pytest.approx(200 / 3)}


def test_a_checkpoint_of_another_kind_is_no_classifier(backbone: Path) -> None:
    from tkre_hf.evaluation.kshot import load_classifier

    with pytest.raises(TkreError, match="holds no classifier of relations, but BertForMaskedLM"):
        load_classifier(str(backbone))


def test_relations_taught_to_a_checkpoint_leave_it_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = file_digest(tmp_path)
    for name in ("prototypes.safetensors", "relations.json"):
        (tmp_path / name).write_text("{}")
        assert file_digest(tmp_path) == before
    (tmp_path / "model.safetensors").write_text("{}")
    assert file_digest(tmp_path) != before


def test_several_fine_tunings_are_averaged(
    arguments: KShotArguments, trained: list[str], tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    one = replace(arguments, stage0=None, stage2=None)
    first = run_chain(one)
    trained.clear()
    mean = run_chain(replace(one, averaged=3))
    assert trained == ["train_relations"] * 2  # the first is there
    members = sorted(Path(one.output_dir).glob("classifier-*"))
    assert len(members) == 3 and first.classifier in members
    weights = [load_file(folder / "model.safetensors") for folder in members]
    for name, value in load_file(mean.classifier / "model.safetensors").items():
        expected = torch.stack([each[name].double() for each in weights]).mean(0)
        torch.testing.assert_close(value, expected.to(value.dtype))
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    # A classifier as each of them is, and it says what it is.
    made = {file.name for file in first.classifier.iterdir()} - {"train_results.json", "all_results.json"}
    assert made <= {file.name for file in mean.classifier.iterdir()}
    stages = [training_summary(folder).stages for folder in (first.classifier, mean.classifier)]  # type: ignore[union-attr]
    assert stages[1][-1]["settings"]["averaged"] == 3 and len(stages[0]) == len(stages[1])
    assert mean.predictions is not None and len(mean.predictions.gold) == len(records)
    card = (mean.classifier / "README.md").read_text()
    assert "`averaged`" in card and "| 0, 1, 2 " in card
    trained.clear()
    assert run_chain(replace(one, averaged=3)) == mean and not trained


def test_fine_tunings_that_are_averaged_share_their_random_weights(arguments: KShotArguments) -> None:
    # At a learning rate of 0 what they end with is what they set out from.
    still = {
        **arguments.finetune,
        "classifier_init": "random",
        "learning_rate": 0.0,
        "head_learning_rate": 0.0,
    }
    plain = replace(arguments, stage0=None, stage1=None, stage2=None, finetune=still, test=None)
    run_chain(replace(plain, averaged=3))
    run_chain(replace(plain, seed=7))
    folders = sorted(Path(plain.output_dir).glob("classifier-*"))
    own = {training_summary(folder).seed: load_file(folder / "model.safetensors") for folder in folders}  # type: ignore[union-attr]
    assert set(own) == {0, 1, 2, 7}
    same = {seed: all(torch.equal(own[0][name], own[seed][name]) for name in own[0]) for seed in own}
    assert same == {0: True, 1: True, 2: True, 7: False}


def test_what_cannot_be_averaged_is_refused(arguments: KShotArguments) -> None:
    one = replace(arguments, stage0=None, stage1=None, stage2=None)
    for wrong, says in (
        (replace(arguments, averaged=2, finetune={"adapter": "lora"}), "adapters are not averaged"),
        (replace(one, averaged=0), "at least once"),
        (replace(arguments, averaged=2, finetune={"seed": "x"}), "seed"),
    ):
        with pytest.raises(TkreError, match=says):
            run_chain(wrong)
