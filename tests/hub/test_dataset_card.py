"""Generated knowledge as a data set on the Hub: what of a run goes out, and what its card says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard

from tkre_hf.cli import main
from tkre_hf.errors import TkreError
from tkre_hf.hub.publish import PushArguments, collect
from tkre_hf.knowledge.report import RunReport

from .conftest import write_knowledge
from .server import USER, Hub


@pytest.fixture
def knowledge(records: list[dict[str, Any]], tmp_path: Path) -> Path:
    """What the chain of explanations, samples and merging leaves."""
    return write_knowledge(tmp_path / "my-knowledge", records)


def test_rows_go_out_and_answers_and_labelled_rows_stay(
    knowledge: Path, hub: Hub, online: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    online(hub.url)
    command = ["push", str(knowledge), "my-knowledge", "--repo_type", "dataset", "--license", "apache-2.0"]
    assert main([*command, "--dry_run"]) == 0
    assert "stays here  train.jsonl" in capsys.readouterr().out and not hub.calls
    assert main(command) == 0
    assert (
        b'load_dataset("ada/my-knowledge"' in hub.repos["datasets", "ada/my-knowledge"].branches["main"]["README.md"]
    )
    files = hub.repos["datasets", f"{USER}/my-knowledge"].branches["main"]
    assert set(files) - {".gitattributes"} == {
        "README.md",
        "explanations/records.jsonl",
        "explanations/report.json",
        "explanations/run.json",
        "samples/consistent.jsonl",
        "samples/report.json",
        "samples/run.json",
    }
    card = DatasetCard(files["README.md"].decode())
    assert 'load_dataset("ada/my-knowledge"' in card.text
    assert card.data.license == "apache-2.0" and card.data.size_categories == "n<1K"
    assert card.data.configs == [
        {"config_name": "explanations", "data_files": "explanations/records.jsonl"},
        {"config_name": "samples", "data_files": "samples/consistent.jsonl"},
    ]
    counts = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.text.splitlines() if "| " in line]
    assert ["explanations", "1", "8", "8 edkg"] in counts and ["samples", "2", "10", "10 scdg"] in counts
    assert "by `small-llm`, with the prompt whose SHA-256 begins with `0123456789ab`" in card.text
    assert "/home/me" not in str(card)


def test_labelled_rows_go_out_where_that_is_said(knowledge: Path) -> None:
    upload = collect(PushArguments(str(knowledge), "k", "dataset", with_gold=True))
    assert "train.jsonl" in upload.files
    card = upload.files["README.md"]
    assert isinstance(card, bytes) and b"48 rows are the labelled ones" in card
    assert b"Not stated: whoever publishes these rows has to say it." in card


def test_settings_of_a_run_name_no_folder(knowledge: Path) -> None:
    upload = collect(PushArguments(str(knowledge), "k", "dataset"))
    for name, content in upload.files.items():
        text = content if isinstance(content, bytes) else content.read_bytes()
        assert b"/home/me" not in text, name


def test_what_was_refused_names_no_folder(knowledge: Path) -> None:
    # Relations may look like places and settings, and are neither.
    counts = {("/location/capital", "accepted"): 3, ("/people/capital", "accepted"): 2, ("secret", "accepted"): 1}
    failures = ["capital: refused: /home/me/answers.jsonl is empty", "secret: http://me:pw@host/v1 is down"]
    RunReport(counts, {}, failures, "/home/me/full is full").write(knowledge / "samples")
    before = json.loads((knowledge / "samples" / "report.json").read_text())
    files = collect(PushArguments(str(knowledge), "ada/k", "dataset")).files
    table, text = files["samples/report.json"], files["samples/report.md"]
    assert isinstance(table, bytes) and isinstance(text, bytes)
    said = ["capital: refused: answers.jsonl is empty", "secret: http://host/v1 is down"]
    assert json.loads(table) == {**before, "failures": said, "stopped": "full is full"}
    assert "| /location/capital | 3 |" in text.decode() and text.decode().endswith(
        f"- no answer: {said[0]}\n- no answer: {said[1]}\n- stopped: full is full\n"
    )


def test_a_single_run(knowledge: Path) -> None:
    upload = collect(PushArguments(str(knowledge / "samples"), "k", "dataset"))
    assert set(upload.files) == {"README.md", "consistent.jsonl", "report.json", "run.json"}


def test_a_folder_without_rows_or_with_wrong_ones(knowledge: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TkreError, match=r"holds no generated rows: expected records\.jsonl"):
        collect(PushArguments(str(tmp_path / "empty"), "k", "dataset"))
    run = knowledge / "samples" / "run.json"
    for text, message in (("[]", "holds no settings of a run"), ("{", "broken JSON")):
        run.write_text(text)
        with pytest.raises(TkreError, match=rf"run\.json.*{message}"):
            collect(PushArguments(str(knowledge), "k", "dataset"))
    run.write_text("{}")
    (knowledge / "samples" / "consistent.jsonl").write_text('{"text": "no record"}\n')
    with pytest.raises(TkreError, match=r"consistent\.jsonl, line 1: no record"):
        collect(PushArguments(str(knowledge), "k", "dataset"))
