from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.knowledge.servers import Server, ThreadedServer
from tkre_hf import cli
from tkre_hf.data import load_records
from tkre_hf.knowledge.settings import GenerateArguments

SENTENCES = {
    "crosses": [("Unit{i} was built over River{i} in stone", 0, 4), ("Near the mill Unit{i} spans River{i}", 3, 5)],
    "wrote": [("Writer{i} finished Book{i} in one winter", 0, 2), ("All know that Book{i} is by Writer{i}", 6, 3)],
}


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    with path.open("w") as file:
        for relation, templates in SENTENCES.items():
            for i in range(3):
                for text, head, tail in templates:
                    words = text.format(i=i).split()
                    entities = {
                        side: {"name": words[at], "pos": [at, at + 1]} for side, at in (("h", head), ("t", tail))
                    }
                    file.write(json.dumps({"token": words, **entities, "relation": relation}) + "\n")
    return path


@pytest.fixture
def tkre(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def run(*argv: object) -> tuple[int, str, str]:
        code = cli.main(["generate", *map(str, argv)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("online")
def test_from_labelled_rows_to_a_training_set(
    train: Path, tmp_path: Path, tkre: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TKRE_API_KEY", "secret-456")
    config = tmp_path / "samples.yaml"
    config.write_text(f"train: {train}\nper_relation: 9\nper_request: 4\nconcurrency: 3\n")
    with ThreadedServer(Server(content_faults=0.2, token="secret-456")) as server:
        code, out, err = tkre("explanations", "--train", train, "--output", tmp_path / "e", "--base-url", server.url)
        assert code == 0 and "12 rows in" in out, err
        code, out, err = tkre("samples", "--config", config, "--output", tmp_path / "s", "--base_url", server.url)
        assert code == 0 and "18 rows in" in out and "| crosses | 9 |" in out, err
        asked = server.asked.total()
        code, again, _ = tkre("samples", "--config", config, "--output", tmp_path / "s", "--base_url", server.url)
        assert code == 0 and server.asked.total() == asked and "18 rows in" in again and " 0 requests" in again
    code, out, _ = tkre(
        "merge",
        "--train",
        train,
        "--explanations",
        tmp_path / "e",
        "--samples",
        tmp_path / "s",
        tmp_path / "s" / "records.jsonl",
        "--add-k",
        5,
        "--output",
        tmp_path / "merged.jsonl",
    )
    assert code == 0 and "34 rows (12 gold, 12 edkg, 10 scdg; 12 gold rows have cues)" in out
    assert len(load_records(tmp_path / "merged.jsonl")) == 34
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    assert report["accepted"] == 18 == report["by_reason"]["accepted"] and report["unfilled"] == {}
    assert report["by_relation"]["wrote"]["accepted"] == 9
    assert any("crosses: not described" in note for note in report["notes"])
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10 and not [path for path in written if b"secret-456" in path.read_bytes()]


def test_a_dry_run_shows_prompts_and_asks_nothing(train: Path, tmp_path: Path, tkre: Any) -> None:
    code, out, err = tkre("samples", "--train", train, "--dry-run", "--per_relation", 16)
    assert code == 0, err
    assert out.count("=== ") == 2 and out.count("Write 8 new samples") == 2 and "estimate: 4 requests" in out
    assert "note: crosses: not described" in out
    code, out, _ = tkre("explanations", "--train", train, "--dry-run")
    assert code == 0 and out.count("=== ") == 2 and "estimate: 12 requests" in out
    assert not (tmp_path / "cache" / "run.json").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "--train is missing"),
        (["--train", "TRAIN"], "--output is missing"),
        (["--train", "TRAIN", "--output", "o", "--backend", "gpt"], "expected one of inference, tgi"),
        (["--train", "TRAIN", "--output", "o", "--backend", "tgi"], "needs the server"),
        (["--train", "TRAIN", "--output", "o", "--backend", "recorded"], "--recorded FILE"),
        (["--train", "TRAIN", "--output", "o", "--backend", "transformers"], "needs a checkpoint"),
        (["--train", "TRAIN", "--output", "o", "--concurrency", "0"], "at least 1"),
        (["--train", "TRAIN", "--output", "o", "--top_p", "0"], "--top_p"),
        (["--train", "TRAIN", "--output", "o", "--seed", "-1"], "--seed must not be negative, found -1"),
        (["--train", "TRAIN", "--output", "o", "--api_key", "x"], "unknown setting --api_key"),
        (["--train", "none.jsonl", "--output", "o", "--model", "m"], r"none\.jsonl"),
        (["--train", "TRAIN", "--output", "o", "--base_url", "http://u:p@h/v1", "--model", "m"], "TKRE_API_KEY"),
        (["--train", "TRAIN", "--output", "o", "--relations", "none.yaml", "--model", "m"], r"none\.yaml"),
    ],
)
def test_a_wrong_setting_ends_in_one_sentence(
    train: Path, tmp_path: Path, tkre: Any, monkeypatch: pytest.MonkeyPatch, options: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = tkre("explanations", *[str(train) if option == "TRAIN" else option for option in options])
    assert code == 2 and re.search(reason, err.splitlines()[-1]), err
    assert ":p@" not in err and "Traceback" not in err


def test_samples_have_settings_of_their_own_to_be_wrong(train: Path, tmp_path: Path, tkre: Any) -> None:
    options = ["samples", "--train", train, "--output", tmp_path / "o", "--model", "m"]
    code, _, err = tkre(*options, "--near_duplicate", 0.05)
    assert code == 2 and "--near_duplicate must be in [0.1, 1], found 0.05" in err.splitlines()[-1]
    code, _, err = tkre(*options, "--drop_worst", 1)
    assert code == 2 and "--drop_worst must be in [0, 1)" in err.splitlines()[-1]


@pytest.mark.usefixtures("online")
def test_relations_without_rows_have_samples_when_asked_for(train: Path, tmp_path: Path, tkre: Any) -> None:
    relations = tmp_path / "relations.yaml"
    relations.write_text("sings: {description: the head sings the tail}\nwrote: {}\nnone: {}\n")
    options = ["--relations", relations, "--per_relation", 4, "--output", tmp_path / "a"]
    with ThreadedServer(Server()) as server:
        code, out, err = tkre("samples", *options, "--all_relations", "--na_label", "none", "--base_url", server.url)
        assert code == 0 and "8 rows in" in out, err
        assert any("(none)" in body["messages"][-1]["content"] for body in server.bodies)
        _, out, _ = tkre("samples", *options[:-1], tmp_path / "b", "--train", train, "--base_url", server.url)
    assert {row["relation"] for row in rows(tmp_path / "a" / "records.jsonl")} == {"sings", "wrote"}
    assert {row["relation"] for row in rows(tmp_path / "b" / "records.jsonl")} == {"crosses", "wrote"}
    _, out, _ = tkre("samples", *options, "--all_relations", "--train", train, "--dry_run")
    assert re.findall("=== (.*)", out) == ["crosses", "wrote", "sings", "none"]
    for wrong, reason in ((options, "--train is missing"), (["--all_relations", "--dry_run"], "--relations FILE")):
        code, _, err = tkre("samples", *wrong)
        assert code == 2 and reason in err.splitlines()[-1]


def test_help_lists_what_there_is(tkre: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = tkre("--help")
    assert code == 0 and all(name in out for name in ("explanations", "samples", "merge", "TKRE_API_KEY"))
    assert tkre()[0] == 2 and tkre("nothing")[0] == 2
    for name in ("explanations", "samples", "merge"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["generate", name, "--help"])
        assert stopped.value.code == 0 and "--train" in capsys.readouterr().out


def test_a_run_out_of_budget_says_so(train: Path, tmp_path: Path, tkre: Any) -> None:
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    lines = [{"row": 0, "explanation": "Unit0 and River0: the words 'built over' tell how the two belong together."}]
    (recorded / "e.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--train", train, "--backend", "recorded", "--recorded", recorded]
    code, out, _ = tkre("explanations", *options, "--output", tmp_path / "a", "--max-requests", 1)
    assert code == 1 and "stopped: the budget of 1 requests is used up" in out and "1 rows in" in out
    code, out, _ = tkre("explanations", *options, "--output", tmp_path / "b", "--na_label", "wrote")
    assert code == 1 and "crosses is 5 short of its 6" in out and "no further explanation of row" in out
    assert "wrote" not in (tmp_path / "b" / "report.md").read_text()


def test_recorded_rows_are_numbered_as_in_the_file(train: Path, tmp_path: Path, tkre: Any) -> None:
    # The first row of "wrote" is the seventh of the file, whether or not the six before it are asked about.
    line = {"row": 6, "explanation": "Writer0 and Book0: the words 'finished' and 'winter' tell how the two belong."}
    (tmp_path / "e.jsonl").write_text(json.dumps(line) + "\n")
    options = ["--train", train, "--backend", "recorded", "--recorded", tmp_path / "e.jsonl"]
    for name, more in (("whole", []), ("part", ["--na_label", "crosses"])):
        tkre("explanations", *options, "--output", tmp_path / name, *more)
        (found,) = rows(tmp_path / name / "records.jsonl")
        assert found["relation"] == "wrote" and found["head"]["name"] == "Writer0"


def test_excluded_rows_do_not_come_back(train: Path, tmp_path: Path, tkre: Any) -> None:
    test = {"token": "A late test sentence says that Q7 was drawn by Z9 alone".split(), "relation": "wrote"}
    test |= {"h": {"name": "Z9", "pos": [10, 11]}, "t": {"name": "Q7", "pos": [6, 7]}}
    (tmp_path / "test.jsonl").write_text(json.dumps(test) + "\n")
    copied = {
        "relation": "wrote",
        "context": "A late test sentence says that Q7 was drawn by Z9 alone.",
        "head_entity": "Z9",
        "tail_entity": "Q7",
    }
    (tmp_path / "r.jsonl").write_text(json.dumps(copied) + "\n")
    options = ["--train", train, "--backend", "recorded", "--recorded", tmp_path / "r.jsonl", "--per_relation", 1]
    code, out, _ = tkre("samples", *options, "--output", tmp_path / "a", "--exclude", tmp_path / "test.jsonl")
    assert code == 1 and "copy_of_excluded" in out
    assert rows(tmp_path / "a" / "rejected.jsonl")[0]["candidate"]["head_entity"] == "Z9"
    # The run is one of these excluded rows, wherever they lie, and of no others.
    (tmp_path / "moved.jsonl").write_text((tmp_path / "test.jsonl").read_text())
    assert tkre("samples", *options, "--output", tmp_path / "a", "--exclude", tmp_path / "moved.jsonl")[0] == 1
    (tmp_path / "test.jsonl").write_text(json.dumps({**test, "token": [*test["token"], "."]}) + "\n")
    code, _, err = tkre("samples", *options, "--output", tmp_path / "a", "--exclude", tmp_path / "test.jsonl")
    assert code == 2 and "holds a run with another exclude" in err
    code, out, _ = tkre("samples", *options, "--output", tmp_path / "b")
    assert len(rows(tmp_path / "b" / "records.jsonl")) == 1


@pytest.mark.usefixtures("online")
def test_a_tkre_model_chooses_demonstrations_and_drops_what_fits_worst(
    train: Path, tmp_path: Path, tkre: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason="needs the extra [retrieval]")
    from tests.conftest import word_piece_tokenizer
    from tkre_hf import TKREConfig, TKREModel, TKREProcessor

    processor = TKREProcessor(word_piece_tokenizer(), max_length=128)
    backbone = {
        "model_type": "bert",
        "vocab_size": len(processor.tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 1,
    }
    backbone |= {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 256}
    TKREModel(TKREConfig(backbone_config=backbone, projection_dim=8)).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    options = ["--train", train, "--output", tmp_path / "s", "--per_relation", 10, "--retriever", tmp_path / "model"]
    options += ["--consistency", tmp_path / "model", "--drop_worst", 0.2]
    with ThreadedServer(Server()) as server:
        code, out, err = tkre("samples", *options, "--base_url", server.url)
        assert code == 0 and f"20 rows in {tmp_path / 's'}/records.jsonl, 16 of them in consistent.jsonl" in out, err
        prompt = server.bodies[0]["messages"][-1]["content"]
    assert sum(line.startswith('{"context"') for line in prompt.splitlines()) == 3
    kept, dropped = rows(tmp_path / "s" / "consistent.jsonl"), rows(tmp_path / "s" / "inconsistent.jsonl")
    assert len(kept) == 16 and len(dropped) == 4 and {row["reason"] for row in dropped} == {"low_consistency"}
    assert {row["id"] for row in kept + dropped} == {row["id"] for row in rows(tmp_path / "s" / "records.jsonl")}
    assert "| crosses | 8 | 2 |" in out and "short of" not in out
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    assert report["accepted"] == 16 and report["by_reason"]["low_consistency"] == 4 and report["unfilled"] == {}
    merging = ["merge", "--train", train, "--samples", tmp_path / "s", "--output", tmp_path / "m.jsonl"]
    code, out, _ = tkre(*merging)
    assert "16 scdg" in out
    # What an earlier run's filter left does not stand for a run without it.
    at = options.index("--consistency")
    with ThreadedServer(Server()) as server:
        code, out, err = tkre("samples", *options[:at], *options[at + 2 :], "--base_url", server.url)
    assert code == 0 and "20 rows in" in out and "consistent" not in out, err
    assert not list((tmp_path / "s").glob("*consistent.jsonl"))
    assert "20 scdg" in tkre(*merging)[1]
    with ThreadedServer(Server()) as server:
        wrong = ["--consistency", tmp_path / "none", "--base_url", server.url]
        code, _, err = tkre("samples", "--train", train, "--output", tmp_path / "w", *wrong)
        assert code == 2 and "cannot load the checkpoint" in err.splitlines()[-1] and not server.bodies
    # A sample that the checkpoint has no room for is dropped, and the rest are filtered.
    processor.max_length = 20
    processor.save_pretrained(tmp_path / "model")
    long = " ".join(["word"] * 13)
    sample = {"relation": "crosses", "context": f"The {long} crosses the Elba .", "head_entity": f"The {long}"}
    recorded = tmp_path / "recorded.jsonl"
    short = {"relation": "crosses", "context": "Kiel crosses the Elba .", "head_entity": "Kiel", "tail_entity": "Elba"}
    recorded.write_text("".join(json.dumps(row) + "\n" for row in ({**sample, "tail_entity": "Elba"}, short)))
    options = ["--train", train, "--output", tmp_path / "r", "--backend", "recorded", "--recorded", recorded]
    options += ["--model", "m", "--per_relation", 2, "--max_tries", 1, "--consistency", tmp_path / "model"]
    code, out, err = tkre("samples", *options, "--drop_worst", 0)
    assert code < 2, err
    assert [" ".join(row["tokens"]) for row in rows(tmp_path / "r" / "consistent.jsonl")] == [short["context"]], err
    (lost,) = rows(tmp_path / "r" / "inconsistent.jsonl")
    assert lost["reason"] == "not_encodable" and "alone take" in lost["detail"]
    report = (tmp_path / "r" / "report.md").read_text()
    assert "- not_encodable: the checkpoint of --consistency can't read it" in report and report in out
    # A labelled row is told of before anything is asked.
    processor.max_length = 14
    processor.save_pretrained(tmp_path / "model")
    with ThreadedServer(Server()) as server:
        asked = ["--consistency", tmp_path / "model", "--base_url", server.url]
        code, _, err = tkre("samples", "--train", train, "--output", tmp_path / "u", *asked)
        assert code == 2 and "can't read a labelled row: record 'train-1'" in err and not server.bodies
    options = ["--train", train, "--output", tmp_path / "t", "--retriever", tmp_path, "--model", "m"]
    code, _, err = tkre("samples", *options, "--base_url", "http://127.0.0.1:9")
    assert code == 2 and "cannot load the checkpoint" in err.splitlines()[-1]


def test_the_encoder_gives_unit_vectors_in_any_batch_size() -> None:
    from tests.conftest import word_piece_tokenizer
    from tkre_hf import TKREConfig, TKREModel, TKREProcessor
    from tkre_hf.data import RelationInfo, make_record
    from tkre_hf.knowledge.encoder import RelationEncoder

    processor = TKREProcessor(word_piece_tokenizer(), max_length=64)
    backbone = {
        "model_type": "bert",
        "vocab_size": len(processor.tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 1,
    }
    backbone |= {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 128}
    model = TKREModel(TKREConfig(backbone_config=backbone, projection_dim=8))
    records = [
        make_record(
            id=str(i), tokens=["Ada", *["works"] * (i + 1), "Kiel"], head=(0, 1), tail=(i + 2, i + 3), relation="r"
        )
        for i in range(5)
    ]
    vectors = RelationEncoder(model, processor, batch_size=2)(records)
    assert vectors.shape == (5, 8) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors, RelationEncoder(model, processor)(records), atol=1e-5)
    anchors = RelationEncoder(model, processor).anchors({"a": RelationInfo("one", "two"), "b": RelationInfo("three")})
    assert list(anchors) == ["a", "b"] and anchors["a"].shape == (8,)


def test_importing_the_settings_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys\nfrom tkre_hf.knowledge import cli, generate, inference, merge, retrieve, settings, tasks\n"
        "assert not {'torch', 'transformers', 'faiss', 'outlines_core'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_model_family_is_imported_by_name() -> None:
    folder = Path(sys.modules[GenerateArguments.__module__].__file__ or "").parent
    for path in folder.glob("*.py"):
        assert "tkre_hf.tkre" not in path.read_text() and "tkre_hf.pfhin" not in path.read_text(), path
