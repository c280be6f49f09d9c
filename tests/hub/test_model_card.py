"""Cards: what they say of a run, that their code runs, whose they are, and what stays out of them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers import pipeline
from transformers.integrations import integration_utils

import tkre_hf
from tkre_hf.cli import main
from tkre_hf.data.hin import write_hin
from tkre_hf.digests import file_digest
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import Row, read_rows, write_rows
from tkre_hf.finetuning import train_relations
from tkre_hf.hub.facts import CardFacts, count_parameters
from tkre_hf.hub.marks import is_edited
from tkre_hf.hub.model_card import metadata, setting_in_words, write_card
from tkre_hf.hub.publish import PushArguments, collect, push_trained
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords
from tkre_hf.tkre.training_args import MSLMTrainingArguments, RelationTrainingArguments
from tkre_hf.training import MSLMStageArguments, SCLStageArguments, SCLTrainingArguments, train_mslm, train_scl
from tkre_hf.training_data import RelationStageArguments

from ..pfhin.conftest import make_tables
from .conftest import QUICK, TOKEN
from .server import Hub

ROW = Row("fewrel_val_wiki", "mine", "5w1s", "accuracy", 88.5, ci95=0.4, n=1000, seeds=[0], machine="a machine")


def load(folder: Path) -> ModelCard:
    return ModelCard.load(folder / "README.md")


def code_of(card: ModelCard) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", card.text, re.S | re.M)


def column(card: ModelCard, setting: str) -> list[str]:
    (line,) = [line for line in card.text.splitlines() if line.startswith(f"| `{setting}` ")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_a_stage_leaves_a_card_that_tells_its_settings_and_those_before(trained: tuple[Path, Path]) -> None:
    first, second = (load(folder) for folder in trained)
    for card in (first, second):
        data = card.data
        assert (data.library_name, data.license, data.base_model) == ("transformers", None, None)
        assert "tkre_hf" in data.tags and "relation-extraction" in data.tags
        assert "`train.jsonl`" in card.text and "its licence is not known to this card" in card.text
        assert "co2_eq_emissions" not in data and "model-index" not in data.to_dict()
        assert str(trained[0].parent) not in str(card) and "/tmp" not in str(card)
        assert not is_edited(str(card))
    assert (first.data.pipeline_tag, second.data.pipeline_tag) == ("fill-mask", "text-classification")
    assert "Not measured yet" in second.text
    assert column(first, "max_steps") == ["1"] and column(second, "max_steps") == ["1", "1"]
    assert column(second, "cue_rate") == ["0.8", ""] and column(second, "relations_per_batch") == ["", "4"]
    assert column(second, "tau") == ["", "0.2"] and column(second, "max_length") == ["64", "64"]
    assert column(second, "per_device_train_batch_size") == ["64", ""]
    (line,) = [line for line in second.text.splitlines() if line.startswith("| stage 1 ")]
    assert "48" in line and "6" in line


@pytest.mark.parametrize("stage", [0, 1])
def test_the_code_of_a_card_runs(stage: int, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained[stage]
    monkeypatch.chdir(folder.parent)
    own, remote = code_of(load(folder))
    exec(compile(own, "README.md", "exec"), {})
    compile(remote, "README.md", "exec")
    assert "trust_remote_code=True" in remote and "trust_remote_code" not in own


def test_a_classifier_s_card(
    trained: tuple[Path, Path],
    corpus_files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage = RelationStageArguments(
        sources=[str(corpus_files[0])], relation_info=[str(corpus_files[1])], checkpoint=str(trained[1])
    )
    folder = train_relations(stage, RelationTrainingArguments(output_dir=str(tmp_path / "classifier"), **QUICK))
    card = load(folder)
    assert column(card, "relations_per_batch") == ["", "4", ""]
    assert card.data.pipeline_tag == "text-classification"
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(compile(code_of(card)[0], "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() in tkre_hf.TKREConfig.from_pretrained(folder).label2id


def test_figures_are_metadata_that_the_hub_shows(checkpoint: Path, tmp_path: Path) -> None:
    other = Row("fewrel_val_wiki", "theirs", "5w1s", "accuracy", 70.0, published=True, source="a paper")
    rows = [ROW, Row("mine", "mine", "10w5s na50", "accuracy", 61.25, seeds=[0, 1, 2]), other]
    write_rows(tmp_path / "rows.json", rows)
    assert main(["card", str(checkpoint), "--results", str(tmp_path / "rows.json"), "--license", "mit"]) == 0
    card = load(checkpoint)
    found = [(r.dataset_type, r.dataset_split, r.metric_name, r.metric_value) for r in card.data.eval_results]
    assert found == [
        ("thunlp/few_rel", "val_wiki", "accuracy, 5-way 1-shot", 88.5),
        ("mine", None, "accuracy, 10-way 5-shot, 50% none of the above", 61.25),
    ]
    assert (card.data.model_name, card.data.license, card.data.metrics) == ("my-model", "mit", ["accuracy"])
    assert "88.5 ± 0.4" in card.text and "theirs (a paper)" in card.text and "Measured on a machine." in card.text
    assert "Mean of training seeds 0, 1, 2" in card.text


def test_figures_beside_the_model_are_found(checkpoint: Path) -> None:
    write_rows(checkpoint / "results.json", [ROW])
    write_card(checkpoint)
    assert load(checkpoint).data.eval_results[0].metric_value == 88.5


def test_whose_figures_they_are_has_to_be_said(checkpoint: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.json", [ROW, Row("fewrel_val_wiki", "another", "5w1s", "accuracy", 12.0)])
    with pytest.raises(TkreError, match="figures of several systems.*--system 'mine'"):
        write_card(checkpoint, tmp_path / "rows.json")
    with pytest.raises(TkreError, match="no figure of the system 'nobody'; it has mine, another"):
        write_card(checkpoint, tmp_path / "rows.json", "nobody")
    with pytest.raises(TkreError, match=r"there is no file .*absent\.json"):
        write_card(checkpoint, checkpoint / "absent.json")
    write_card(checkpoint, tmp_path / "rows.json", "another")
    assert [r.metric_value for r in load(checkpoint).data.eval_results] == [12.0]


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("## Limits\n", "## Limits\n\n- And mine.\n"),
        lambda text: text.replace("library_name: transformers", "library_name: transformers\nlicense: mit"),
        lambda text: "# All my own\n",
        lambda text: text + "PS\n",
    ],
)
def test_what_a_person_wrote_is_never_written_over(
    edit: Callable[[str], str], checkpoint: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint / "README.md"
    mine = edit(path.read_text())
    path.write_text(mine)
    assert main(["card", str(checkpoint), "--license", "mit"]) == 0
    assert path.read_text() == mine
    assert load(checkpoint.parent / "my-model").content == ModelCard(mine).content
    assert ModelCard.load(checkpoint / "README.generated.md").data.license == "mit"
    assert "was written or edited by a person and stays" in caplog.text
    assert "README.generated.md; README.md is a person's, and stays" in capsys.readouterr().out


def test_what_a_person_wrote_beside_is_not_written_over_either(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = {checkpoint / name: f"# {name}, my own\n" for name in ("README.md", "README.generated.md")}
    for path, text in mine.items():
        path.write_text(text)
    assert main(["card", str(checkpoint)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "rename or delete README.generated.md" in line
    assert {path: path.read_text() for path in mine} == mine


def test_no_folder_of_another_machine_stands_in_a_card(checkpoint: Path) -> None:
    row = replace(ROW, command="tkre evaluate --model /home/me/m --token S3 --data rows/x.jsonl")
    other = Row("fewrel_val_wiki", "theirs", "5w1s", "accuracy", 70.0, published=True, source="see /home/me/paper.pdf")
    write_rows(checkpoint / "results.json", [row, other])
    write_card(checkpoint)
    text = load(checkpoint).text
    assert "`tkre evaluate --model m --data rows/x.jsonl`" in text and "theirs (see paper.pdf)" in text


def test_relations_that_a_model_was_taught(
    checkpoint: Path, corpus_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = count_parameters(checkpoint)
    folder = tmp_path / "taught"
    fit = ["relations", "fit", "--model", str(checkpoint), "--relation_info", str(corpus_files[1])]
    assert main([*fit, "--output", str(folder)]) == 0
    assert (folder / "training_data.json").read_bytes() == (checkpoint / "training_data.json").read_bytes()
    card = load(folder)
    assert not is_edited(str(card))
    assert "few-shot" in card.data.tags and "This is a few-shot relation extractor" in card.text
    assert (
        column(card, "tau") == ["", "0.2"] and "| capital " in card.text and "city that rules a country" in card.text
    )
    own = code_of(card)[0]
    assert 'pipeline("relation-extraction", model="taught")' in own
    monkeypatch.chdir(tmp_path)
    exec(compile(own, "README.md", "exec"), {})
    # Prototypes are no weights, and neither is what predicts links.
    assert (folder / "prototypes.safetensors").exists()
    assert main([*fit, "--model", str(checkpoint)]) == 0
    (checkpoint / "links.safetensors").write_bytes((folder / "prototypes.safetensors").read_bytes())
    assert count_parameters(checkpoint) == plain
    (folder / "model.safetensors").unlink()
    with pytest.raises(TkreError, match="holds no model"):
        write_card(folder)


def test_a_pipeline_s_card_follows_its_relations(checkpoint: Path, tmp_path: Path) -> None:
    def taught(folder: Path) -> set[str]:
        lines = load(folder).text.partition("## Use")[2].partition("## Results")[0].splitlines()
        return {line.split("|")[1].strip() for line in lines if line.startswith("| ") and "---" not in line}

    write_rows(checkpoint / "results.json", [ROW])
    assert main(["card", str(checkpoint), "--license", "mit", "--tags", "mine"]) == 0
    pipe: Any = pipeline("relation-extraction", model=str(checkpoint))
    folder = tmp_path / "copy"
    pipe.fit(descriptions={"capital": "city that rules a country", "spouse": ""}).save_pretrained(folder)
    # A copy was trained and measured as the checkpoint was, and has its licence.
    card = load(folder)
    assert (card.data.license, card.data.eval_results[0].metric_value) == ("mit", 88.5) and "mine" in card.data.tags
    assert taught(folder) == {"relation", "capital", "spouse"}
    pipe.add("mother", description="a woman who has a child").save_relations(folder)
    assert "mother" in taught(folder)
    assert main(["relations", "remove", "--model", str(folder), "--relation", "spouse"]) == 0
    assert "mother" in taught(folder) and "spouse" not in taught(folder)
    assert not (folder / "README.generated.md").exists()
    # A person's card stays, and what is stated there holds of a copy.
    mine = str(load(folder)).replace("license: mit", "license: cc-by-nc-4.0")
    (folder / "README.md").write_text(mine)
    command = ["relations", "add", "--model", str(folder), "--relation", "author"]
    assert main(command) == 0
    assert (folder / "README.md").read_text() == mine and "| author " in (folder / "README.generated.md").read_text()
    assert main(["relations", "remove", *command[2:], "--output", str(tmp_path / "further")]) == 0
    assert load(tmp_path / "further").data.license == "cc-by-nc-4.0"


def test_a_copy_s_own_figures_stay(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe: Any = pipeline("relation-extraction", model=str(checkpoint))
    folder = tmp_path / "copy"
    pipe.fit(descriptions={"capital": "city"}).save_pretrained(folder)
    write_rows(folder / "results.json", [ROW])
    pipe.add("spouse").save_relations(folder)
    pipe.save_pretrained(folder)
    assert read_rows(folder / "results.json") == [ROW] and load(folder).data.eval_results[0].metric_value == 88.5
    # A checkpoint that is written over by itself, whatever it was called when it was loaded, is no copy.
    monkeypatch.chdir(folder.parent)
    pipe = pipeline("relation-extraction", model="copy")
    monkeypatch.chdir(tmp_path.parent)
    before = (folder / "training_data.json").read_bytes()
    pipe.save_pretrained(folder)
    assert read_rows(folder / "results.json") == [ROW] and (folder / "training_data.json").read_bytes() == before
    # What another checkpoint in a folder was trained and measured on, this one wasn't.
    (folder / "training_data.json").write_text("[]")
    pipeline("relation-extraction", model=str(checkpoint)).save_pretrained(folder)
    assert not (folder / "results.json").exists() and (folder / "training_data.json").read_bytes() == before


def test_relations_beside_no_model_need_no_card(checkpoint: Path, tmp_path: Path) -> None:
    pipe: Any = pipeline("relation-extraction", model=str(checkpoint))
    pipe.fit(descriptions={"capital": "city"}).save_relations(tmp_path)
    assert not (tmp_path / "README.md").exists()


def test_figures_that_came_from_elsewhere_hold_on(checkpoint: Path, tmp_path: Path) -> None:
    rows = [
        ROW,
        Row("fewrel_val_wiki", "another", "5w1s", "accuracy", 12.0),
        Row("fewrel_val_wiki", "theirs", "5w1s", "accuracy", 70.0, published=True, source="a paper"),
    ]
    write_rows(tmp_path / "rows.json", rows)
    # Figures beside it that the model would have otherwise.
    write_rows(checkpoint / "demo.json", [replace(ROW, system="stage 1 + 2", value=1.0)])
    command = ["card", str(checkpoint)]
    assert main([*command, "--results", str(tmp_path / "rows.json"), "--system", "mine"]) == 0
    first = load(checkpoint)
    assert first.data.eval_results[0].metric_value == 88.5 and "theirs (a paper)" in first.text
    assert main(command) == 0
    assert load(checkpoint).content == first.content
    sent = collect(PushArguments(str(checkpoint), "ada/m")).files["README.md"]
    assert isinstance(sent, bytes) and ModelCard(sent.decode()).data.eval_results[0].metric_value == 88.5
    # Others of the same system join them, another's don't.
    write_rows(tmp_path / "more.json", [Row("fewrel_val_pubmed", "mine", "5w1s", "accuracy", 70.9)])
    assert main([*command, "--results", str(tmp_path / "more.json")]) == 0
    assert [result.metric_value for result in load(checkpoint).data.eval_results] == [88.5, 70.9]
    with pytest.raises(TkreError, match=r"results\.json has figures of 'mine', and .*rows\.json those of 'another'"):
        write_card(checkpoint, tmp_path / "rows.json", "another")
    assert [row.value for row in read_rows(checkpoint / "results.json")] == [88.5, 70.0, 70.9]


def test_a_card_that_nobody_edited_is_refreshed(checkpoint: Path) -> None:
    path = checkpoint / "README.md"
    # As git may check it out.
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert write_card(checkpoint, licence="mit") == path
    assert load(checkpoint).data.license == "mit"
    assert not (checkpoint / "README.generated.md").exists()


def test_what_codecarbon_measured_is_told(checkpoint: Path) -> None:
    header = "timestamp,project_name,duration,emissions,country_name,cpu_model,gpu_model"
    lines = [header, "t,codecarbon,60,0.0015,Elbonia,A processor,", "t,codecarbon,60,0.0005,Elbonia,A processor,"]
    (checkpoint / "emissions.csv").write_text("\n".join(lines) + "\n")
    write_card(checkpoint)
    told = load(checkpoint).data["co2_eq_emissions"]
    assert told["emissions"] == pytest.approx(2.0) and told["hardware_used"] == "A processor"
    text = (checkpoint / "README.md").read_text()
    assert "Training emitted 2 g of CO2 equivalent" in text and "Elbonia" not in text
    (checkpoint / "emissions.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TkreError, match=r"emissions\.csv isn't codecarbon's"):
        write_card(checkpoint)


class FakeTracker:
    """codecarbon's, as transformers calls it."""

    def __init__(self, output_dir: str) -> None:
        self.file = Path(output_dir) / "emissions.csv"

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.file.write_text("emissions,country_name,cpu_model,gpu_model\n0.002,Elbonia,A processor,\n")


def test_codecarbon_measures_either_family(
    corpus_files: tuple[Path, Path], backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace(EmissionsTracker=FakeTracker))
    monkeypatch.setattr(integration_utils, "is_codecarbon_available", lambda: True)
    write_hin(make_tables(), tmp_path / "network")
    common = ["--max_steps", "1", "--use_cpu", "--bf16", "false", "--save_strategy", "no", "--report_to", "codecarbon"]
    stage = ["--sources", str(corpus_files[0]), "--backbone", str(backbone), "--max_length", "64"]
    assert main(["train", "stage1", *stage, "--output_dir", str(tmp_path / "text"), *common]) == 0
    network = ["--network", str(tmp_path / "network"), "--rank", "degree", "--hidden_size", "16"]
    assert main(["hin", "pretrain", *network, "--output_dir", str(tmp_path / "nodes"), *common]) == 0
    for folder in (tmp_path / "text", tmp_path / "nodes"):
        assert load(folder).data["co2_eq_emissions"]["emissions"] == pytest.approx(2.0)
        assert "emissions.csv" in collect(PushArguments(str(folder), "ada/m")).at_home


def test_licence_and_base_are_stated_where_they_are_known() -> None:
    def data(*sources: str, backbone: str = "minilm") -> Any:
        stage = {"stage": "TKREForMaskedSpanLM", "backbone": backbone, "sources": list(sources), "add_sources": []}
        config = {"model_type": "tkre", "architectures": ["TKREForMaskedSpanLM"]}
        return metadata(CardFacts("m", config, [stage]))

    own = data("sample:train")
    assert (own.license, own.language, own.base_model) == (
        "apache-2.0",
        "en",
        "sentence-transformers/all-MiniLM-L6-v2",
    )
    assert data("sample:train", backbone="my_encoder").license is None
    mixed = data("sample:train", "fewrel:wiki")
    assert (mixed.license, mixed.datasets, mixed.language) == (None, ["thunlp/few_rel"], "en")
    assert data("sample:train", "/home/me/rows.jsonl").license is None
    assert data("sample:train", "/home/me/rows.jsonl").language is None


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("5w1s", "5-way 1-shot"),
        ("10w0s", "10-way zero-shot"),
        ("5w5s na15", "5-way 5-shot, 15% none of the above"),
        ("few40 macro_f1", "few40 macro_f1"),
    ],
)
def test_settings_in_words(setting: str, words: str) -> None:
    assert setting_in_words(setting) == words


def test_a_card_changes_nothing_in_what_a_checkpoint_is(checkpoint: Path) -> None:
    before = file_digest(checkpoint)
    (checkpoint / "README.md").write_text("mine")
    write_rows(checkpoint / "results.json", [ROW])
    write_card(checkpoint)
    assert (checkpoint / "README.generated.md").exists() and file_digest(checkpoint) == before
    (checkpoint / "README.md").unlink()
    assert file_digest(checkpoint) == before
    (checkpoint / "config.json").write_text((checkpoint / "config.json").read_text() + " ")
    assert file_digest(checkpoint) != before


def bare_trainer(folder: Path, backbone: Path, records: list[dict[str, Any]], **settings: Any) -> Any:
    processor = TKREProcessor.from_backbone(str(backbone), {}, max_length=64)
    model = tkre_hf.TKREForMaskedSpanLM.from_backbone(
        str(backbone), vocab_size=len(processor.tokenizer), new_tokens=processor.new_tokens
    )
    args = MSLMTrainingArguments(output_dir=str(folder), **{**QUICK, **settings})
    return tkre_hf.MSLMTrainer(model, args, EncodedRecords(records, processor), processor)


def test_a_trainer_pushes_this_card_and_no_pickle(
    backbone: Path, records: list[dict[str, Any]], tmp_path: Path, hub: Hub, online: Callable[[str], None]
) -> None:
    online(hub.url)
    settings = {"push_to_hub": True, "hub_model_id": "ada/bare", "hub_token": TOKEN}
    trainer = bare_trainer(tmp_path / "bare", backbone, records, **settings)
    trainer.train()
    trainer.push_to_hub(license="mit", tags="mine", dataset="my rows", finetuned_from="someone/encoder")
    files = hub.repos["models", "ada/bare"].branches["main"]
    card = ModelCard(files["README.md"].decode())
    assert not is_edited(files["README.md"].decode()) and 'from_pretrained("ada/bare")' in card.text
    assert (card.data.license, card.data.base_model) == ("mit", "someone/encoder")
    assert "mine" in card.data.tags and "`my rows`" in card.text
    assert "model.safetensors" in files and not [name for name in files if name.endswith((".bin", ".pt"))]
    assert not [name for name, content in files.items() if TOKEN.encode() in content]


def test_a_trainer_without_a_name_pushes_a_card_with_the_whole_one(
    backbone: Path, records: list[dict[str, Any]], tmp_path: Path, hub: Hub, online: Callable[[str], None]
) -> None:
    online(hub.url)
    trainer = bare_trainer(tmp_path / "bare", backbone, records, push_to_hub=True, hub_token=TOKEN)
    trainer.train()
    # A Trainer publishes what `tkre push` does, and no more: codecarbon's table has the place.
    (tmp_path / "bare" / "emissions.csv").write_text("emissions,country_name\n0.1,Elbonia\n")
    trainer.push_to_hub()
    assert "emissions.csv" not in hub.repos["models", "ada/bare"].branches["main"]
    assert b'from_pretrained("ada/bare")' in hub.repos["models", "ada/bare"].branches["main"]["README.md"]


def test_a_trainer_keeps_a_card_that_a_person_edited_on_the_hub(
    backbone: Path,
    records: list[dict[str, Any]],
    tmp_path: Path,
    hub: Hub,
    online: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    online(hub.url)
    settings = {"push_to_hub": True, "hub_model_id": "ada/bare", "hub_token": TOKEN, "hub_revision": "v2"}
    trainer = bare_trainer(tmp_path / "bare", backbone, records, **settings)
    trainer.push_to_hub("first")
    repo = hub.repos["models", "ada/bare"]
    assert "model.safetensors" in repo.branches["v2"] and "model.safetensors" not in repo.branches["main"]
    repo.branches["v2"]["README.md"] = b"# Mine\n"
    caplog.clear()
    # As its save_model does with push_to_hub, and a stage's end.
    (tmp_path / "bare" / "notes.txt").write_text("new")
    trainer.push_to_hub("second", blocking=False).result()
    assert repo.branches["v2"]["README.md"] == b"# Mine\n" and repo.messages == ["first", "second"]
    push_trained(trainer.args, tmp_path / "bare")
    assert repo.branches["v2"]["README.md"] == b"# Mine\n"
    assert sum("README.md of ada/bare was edited by a person" in text for text in caplog.messages) == 2


def test_a_trainer_that_would_publish_pickles_is_refused(
    backbone: Path, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings = {"push_to_hub": True, "hub_strategy": "every_save", "hub_model_id": "ada/bare"}
    with pytest.raises(ValueError, match="hub_strategy is every_save: set it to end"):
        bare_trainer(tmp_path / "bare", backbone, records, **settings)


def test_only_the_first_process_writes(
    backbone: Path, records: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = bare_trainer(tmp_path / "bare", backbone, records)
    trainer.save_model()
    monkeypatch.setattr(trainer, "is_world_process_zero", lambda: False)
    trainer.create_model_card()
    assert not (tmp_path / "bare" / "README.md").exists()
    monkeypatch.undo()
    trainer.create_model_card()
    assert (tmp_path / "bare" / "README.md").exists()


def test_a_stage_publishes_what_it_has_finished(
    corpus_files: tuple[Path, Path], backbone: Path, tmp_path: Path, hub: Hub, online: Callable[[str], None]
) -> None:
    online(hub.url)
    folder = tmp_path / "out"
    settings = {"push_to_hub": True, "hub_model_id": "ada/staged", "hub_private_repo": True, "hub_token": TOKEN}
    train_scl(
        SCLStageArguments(
            sources=[str(corpus_files[0])],
            relation_info=[str(corpus_files[1])],
            backbone=str(backbone),
            max_length=64,
        ),
        SCLTrainingArguments(output_dir=str(folder), relations_per_batch=4, **QUICK, **settings),
    )
    repo = hub.repos["models", "ada/staged"]
    # The space is turned after the Trainer is done; one commit, of that.
    assert repo.private and len(repo.messages) == 1
    assert repo.branches["main"]["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert b'from_pretrained("ada/staged")' in repo.branches["main"]["README.md"]
    assert TOKEN not in (folder / "training_data.json").read_text()


def test_figures_that_are_kept_name_no_folder_and_no_secret(checkpoint: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    told = f"tkre evaluate --model {tmp_path}/m --finetune.hub_token S3"
    write_rows(rows, [Row("wiki", "mine", "5w1s", "accuracy", 61.5, n=10, seeds=[0], command=told)])
    assert main(["card", str(checkpoint), "--results", str(rows)]) == 0
    (row,) = read_rows(checkpoint / "results.json")
    assert row.command == "tkre evaluate --model m"


def test_new_weights_know_nothing_of_those_before(
    corpus_files: tuple[Path, Path], backbone: Path, tmp_path: Path
) -> None:
    stage = MSLMStageArguments(sources=[str(corpus_files[0])], backbone=str(backbone), max_length=64)
    folder = tmp_path / "out"
    beside = [folder / name for name in ("results.json", "prototypes.safetensors", "relations.json")]

    def run(**settings: Any) -> list[bool]:
        train_mslm(stage, MSLMTrainingArguments(output_dir=str(folder), **{**QUICK, **settings}))
        left = [file.exists() for file in beside]
        write_rows(beside[0], [Row("wiki", "stage 1", "5w1s", "accuracy", 61.5, n=10, seeds=[0])])
        beside[1].write_bytes(b"{}")
        beside[2].write_text('{"relations": []}')
        return left

    assert run(save_strategy="steps", save_steps=1) == [False] * 3
    assert run(resume_from_checkpoint="auto") == [True] * 3  # the same weights
    assert run(resume_from_checkpoint="auto", max_steps=3) == [False] * 3


def test_a_run_that_goes_on_keeps_the_card_of_a_person(
    corpus_files: tuple[Path, Path], backbone: Path, tmp_path: Path
) -> None:
    stage = MSLMStageArguments(sources=[str(corpus_files[0])], backbone=str(backbone), max_length=64)
    settings = {**QUICK, "output_dir": str(tmp_path / "out")}
    folder = train_mslm(stage, MSLMTrainingArguments(**settings))
    (folder / "README.md").write_text("# Mine\n")
    train_mslm(stage, MSLMTrainingArguments(**settings, resume_from_checkpoint="auto"))
    assert (folder / "README.md").read_text() == "# Mine\n" and (folder / "README.generated.md").exists()


def test_the_summary_that_old_checkpoints_have_is_enough(checkpoint: Path) -> None:
    path = checkpoint / "training_data.json"
    stages = json.loads(path.read_text())
    for stage in stages:
        del stage["settings"], stage["base_model"]
    path.write_text(json.dumps(stages))
    write_card(checkpoint)
    assert column(load(checkpoint), "tau") == ["", "0.2"]
    path.unlink()
    write_card(checkpoint)
    assert "Nothing beside the model tells what it was trained on." in load(checkpoint).text
    assert read_rows(checkpoint / "results.json") == []
