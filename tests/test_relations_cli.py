"""``tkre relations`` and ``tkre predict``, called in this process: what they write, and how they refuse."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TokenClassificationPipeline

from tkre_hf.cli import main
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor

MARKED = "[E1]Kiel[/E1] is the capital of [E2]Elba[/E2] ."
FIT = ["--model", "CHECKPOINT", "--relation_info", "INFO"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def checkpoint(backbone: Path, tmp_path: Path) -> Path:
    """A folder with a TKRE model and without relations."""
    folder = tmp_path / "checkpoint"
    processor = TKREProcessor.from_backbone(str(backbone), max_length=30)
    model = TKREForPreTraining.from_backbone(str(backbone), len(processor.tokenizer), processor.new_tokens)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls ``tkre`` and gives its exit code, output and errors: ``run("predict", "--model", folder)``."""

    def call(*argv: str | Path, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def lines(*rows: Any) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_relations_are_taught_and_then_extracted(
    checkpoint: Path, corpus_files: tuple[Path, Path], run: Run, tmp_path: Path
) -> None:
    supports, info = corpus_files
    code, out, _ = run("relations", "fit", "--model", checkpoint, "--supports", supports, "--relation_info", info)
    assert code == 0 and f"Written to {checkpoint}" in out
    assert "| capital " in out and "| 8 " in out and "city that rules a country" in out
    assert "None of the above: where no similarity reaches 0." in out
    assert {"prototypes.safetensors", "relations.json"} <= {file.name for file in checkpoint.iterdir()}

    rows = [
        {"id": "a", "text": "Kiel is the capital of Elba .", "head": [0, 4], "tail": [23, 27]},
        {"text": "Kiel is the capital of Elba .", "entities": [[0, 4], [23, 27]]},
        {"words": ["Kiel", "is", "the", "capital", "of", "Elba"], "head": [0, 1], "tail": [5, 6]},
        {"text": MARKED},
    ]
    source, results = tmp_path / "mine.jsonl", tmp_path / "found.jsonl"
    source.write_text(lines(*rows))
    assert run("predict", "--model", checkpoint, "--input", source, "--output", results, "--top_k", "7")[:2] == (0, "")
    found = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["id"] for row in found] == ["a", "mine-2", "mine-3", "mine-4"]
    assert [len(row["relations"]) for row in found] == [7, 14, 7, 7]
    assert found[0]["relations"][0]["head"] == {"start": 0, "end": 4, "text": "Kiel"}
    assert {entry["relation"] for entry in found[0]["relations"]} == {
        "crosses", "capital", "author", "mother", "employer", "part_of", None
    }  # fmt: skip
    code, out, _ = run("predict", "--model", checkpoint, "--top_k", "7", stdin=lines(*rows))
    assert code == 0 and [json.loads(line)["id"] for line in out.splitlines()] == [
        "a",
        "stdin-2",
        "stdin-3",
        "stdin-4",
    ]
    assert [json.loads(line)["relations"] for line in out.splitlines()] == [row["relations"] for row in found]
    code, out, _ = run("predict", "--model", checkpoint, "--text", MARKED, MARKED)
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["text-1", "text-2"]


def test_one_relation_comes_and_goes(
    checkpoint: Path, corpus_files: tuple[Path, Path], run: Run, tmp_path: Path
) -> None:
    supports, info = corpus_files
    chosen = ["--relation_info", info, "--relations", "capital", "author", "--na_threshold", "0.5"]
    assert run("relations", "fit", "--model", checkpoint, *chosen)[0] == 0
    copy = tmp_path / "copy"
    added = ["--relation", "crosses", "--supports", supports, "--description", "what a bridge leads over"]
    code, out, _ = run("relations", "add", "--model", checkpoint, *added, "--output", copy)
    assert code == 0 and f"Written to {copy}" in out
    code, out, _ = run("relations", "list", "--model", copy)
    assert code == 0 and "None of the above: where no similarity reaches 0.500" in out
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert table[2:] == [
        ["capital", "0", "capital of", "city that rules a country"],
        ["author", "0", "author", "who wrote a book"],
        ["crosses", "8", "crosses", "what a bridge leads over"],
    ]
    assert run("relations", "remove", "--model", copy, "--relation", "capital")[0] == 0
    assert "capital" not in run("relations", "list", "--model", copy)[1]
    assert "capital" in run("relations", "list", "--model", checkpoint)[1]
    for relation in ("author", "crosses"):
        run("relations", "remove", "--model", copy, "--relation", relation)
    assert run("relations", "list", "--model", copy)[1] == "no relations yet\n"


def test_wrong_rows_are_named_or_skipped(checkpoint: Path, corpus_files: tuple[Path, Path], run: Run) -> None:
    assert run("relations", "fit", "--model", checkpoint, "--relation_info", corpus_files[1])[0] == 0
    too_long = {"text": "Kiel " * 40 + "Elba", "head": [0, 199], "tail": [200, 204]}
    rows = [
        json.dumps({"text": MARKED}),
        "",
        '{"text": ',
        json.dumps({"text": "Kiel", "head": [0, 9], "tail": [0, 4]}),
        json.dumps(too_long),
        json.dumps({"text": "Kiel and Elba"}),
        json.dumps({"text": MARKED, "id": ""}),
        json.dumps({"text": f"\ud83d {MARKED}"}),
        json.dumps({"words": ["Kiel", "\ud83d", "Elba"], "head": [0, 1], "tail": [2, 3]}),
        json.dumps({"text": MARKED, "id": "\ud83d"}),
        json.dumps({"text": "Kiel, Elba", "head": [0, 4], "tail": [6, 10], "head_type": "\ud83d"}),
        json.dumps({"text": "\u200b, Elba", "head": [0, 1], "tail": [3, 7]}),
        json.dumps({"text": MARKED}),
    ]
    reasons = [
        "stdin, line 3: broken JSON",
        "stdin, line 4, field 'head': the span [0, 9) lies outside the sentence's 4 characters",
        "stdin, line 5: the two entities alone take",
        "stdin, line 6: no entities are given",
        "stdin, line 7, field 'id': expected a non-empty string",
        "stdin, line 8, field 'text': not UTF-8: holds half a surrogate pair",
        "stdin, line 9, field 'words': not UTF-8",
        "stdin, line 10, field 'id': not UTF-8",
        "stdin, line 11, field 'head_type': not UTF-8",
        "stdin, line 12, field 'head': the tokenizer leaves nothing of the head '\\u200b'",
    ]
    for row, reason in zip(rows[2:12], reasons, strict=True):
        number = rows.index(row)
        code, out, err = run("predict", "--model", checkpoint, "--batch_size", "1", stdin="\n" * number + row)
        assert code == 2 and out == "" and err.startswith(f"tkre predict: {reason}") and len(err.splitlines()) == 1
    code, out, err = run("predict", "--model", checkpoint, "--skip_invalid", stdin="\n".join(rows))
    assert code == 0 and [json.loads(line)["id"] for line in out.splitlines()] == ["stdin-1", "stdin-13"]
    first, *skipped = err.splitlines()
    assert first == "skipped 10 wrong rows"
    assert all(reason in line for reason, line in zip(reasons, skipped, strict=True))


def test_a_classifiers_label_of_no_relation_is_null(make_classifier: Callable[[str], Path], run: Run) -> None:
    for answer in ("none", "capital"):
        code, out, _ = run("predict", "--model", make_classifier(answer), "--text", MARKED, "--top_k", "2")
        entries = json.loads(out)["relations"]
        assert code == 0 and sum(entry["score"] for entry in entries) == pytest.approx(1)
        assert [entry["relation"] for entry in entries] == (
            [None, "capital"] if answer == "none" else ["capital", None]
        )
        assert [entry.get("na_label") for entry in entries if entry["relation"] is None] == ["none"]
        assert all("na_label" not in entry for entry in entries if entry["relation"] is not None)
        assert run("relations", "list", "--model", make_classifier(answer))[1] == "capital\n"


def test_a_sentence_whose_found_entities_do_not_fit_is_left_out(
    checkpoint: Path, corpus_files: tuple[Path, Path], ner: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("relations", "fit", "--model", checkpoint, "--relation_info", corpus_files[1])[0] == 0
    far = "Kiel is the capital of " + "Elba " * 70 + "."
    rows = lines({"text": MARKED}, {"text": "Kiel rules Elba ."}, {"text": far}, {"text": "Elba rules Kiel ."})
    options = ["predict", "--model", checkpoint, "--ner", ner, "--batch_size", "2"]
    code, _, err = run(*options, stdin=rows)
    assert code == 2 and "stdin, line 3" in err
    code, out, err = run(*options, "--skip_invalid", stdin=rows)
    assert code == 0 and "skipped 1 wrong row" in err and "stdin, line 3" in err
    found = [json.loads(line) for line in out.splitlines()]
    assert [entry["id"] for entry in found] == ["stdin-1", "stdin-2", "stdin-4"]
    assert [entry["relations"][0]["head"]["text"] for entry in found] == ["Kiel", "Kiel", "Elba"]
    # Nor does what a tagger finds nowhere end it, or cost another sentence of its batch.
    tag = TokenClassificationPipeline.__call__

    def nowhere(self: Any, texts: list[str], **kwargs: Any) -> Any:
        found = dict(zip(texts, tag(self, texts, **kwargs), strict=True))
        return [
            entities if text != "Kiel rules Elba ." else [{"start": 4, "end": 5}] for text, entities in found.items()
        ]

    monkeypatch.setattr(TokenClassificationPipeline, "__call__", nowhere)
    code, out, err = run(*options, "--skip_invalid", "--batch_size", "4", stdin=rows)
    assert code == 0 and [json.loads(line)["id"] for line in out.splitlines()] == ["stdin-1", "stdin-4"]
    first, *errors = err.splitlines()
    assert (
        first == "skipped 2 wrong rows" and ["stdin, line 2" in errors[0], "stdin, line 3" in errors[1]] == [True] * 2
    )


def test_no_row_is_tokenized_twice(
    checkpoint: Path, corpus_files: tuple[Path, Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("relations", "fit", "--model", checkpoint, "--relation_info", corpus_files[1])[0] == 0
    rows = lines({"text": MARKED}, {"text": "Kiel, Elba", "entities": [[0, 4], [6, 10]]}, {"text": MARKED})
    encode, encoded = TKREProcessor.encode, []

    def counting(self: TKREProcessor, records: Any) -> Any:
        encoded.append(len(list(records)))
        return encode(self, records)

    monkeypatch.setattr(TKREProcessor, "encode", counting)
    found = []
    for option in ([], ["--skip_invalid"]):
        encoded.clear()
        found.append(run("predict", "--model", checkpoint, "--batch_size", "2", *option, stdin=rows)[1])
        assert encoded == [1, 2, 1]
    assert found[0] == found[1]


def test_wrong_supports_are_named_or_skipped(
    checkpoint: Path, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supports = tmp_path / "supports.jsonl"
    good = {"text": "Kiel rules Elba", "head": [0, 4], "tail": [11, 15], "relation": "capital"}
    supports.write_text(lines(good, {**good, "tail": [11, 99]}))
    fit = ["relations", "fit", "--model", checkpoint, "--supports", supports]
    code, _, err = run(*fit)
    assert code == 2 and err.startswith(f"tkre relations: {supports}, line 2, field 'tail': ")
    assert run(*fit, "--skip_invalid")[0] == 0
    assert caplog.text.count("line 2, field 'tail'") == 1
    supports.write_text(lines(good, {**good, "text": "Kiel " * 40 + "Elba", "head": [0, 199], "tail": [200, 204]}))
    code, _, err = run(*fit)
    assert code == 2 and err.startswith(f"tkre relations: {supports}, row supports-2: the two entities alone take")


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["relations"], None),
        (["relations", "index"], "unknown action 'index': choose of fit, add, remove, list"),
        (["relations", "fit", "--model", "CHECKPOINT"], "give --supports, --relation_info, or both"),
        (["relations", "fit", "--model", "CHECKPOINT", "--relation_info", "INFO", "--relations", "x"], "names 'x'"),
        (["relations", "add", "--model", "CHECKPOINT"], "required: --relation"),
        (["relations", "remove", "--model", "CHECKPOINT", "--relation", ""], "--relation is missing"),
        (["relations", "add", "--model", "CHECKPOINT", "--relation", "x", "--supports", "ROWS"], "no sentence of 'x'"),
        (["relations", "remove", "--model", "CHECKPOINT", "--relation", "x"], "there are no relations yet"),
        (["relations", "list", "--model", "no/such/folder"], "the checkpoint no/such/folder can't be loaded"),
        (["relations", "list", "--model", "BACKBONE"], "holds no TKRE model; its model type is bert"),
        (["predict", "--model", "CHECKPOINT", "--text", MARKED], "with 'tkre relations fit --model "),
        (["predict", "--model", "CHECKPOINT", "--text", MARKED, "--top_k", "0"], "top_k is 0"),
        (["predict", "--model", "CHECKPOINT", "--text", MARKED, "--device", "foo"], "the device 'foo' can't be used"),
        (["predict", "--model", "CHECKPOINT", "--device", "cuda:77"], "the device 'cuda:77' can't be used"),
        (["predict", "--model", "CHECKPOINT", "--ner", "BACKBONE"], "holds BertForMaskedLM: name one that finds"),
        (["predict", "--model", "EMPTY"], "has no config.json"),
        (["relations", "fit", "--model", "CHECKPOINT", "--relation_info", "INFO", "--output", "ROWS"], "is a file"),
        (["relations", "fit", "--model", "CHECKPOINT", "--supports", "NONE"], "none.jsonl holds no labelled sentence"),
        (["relations", "fit", *FIT, "--na_threshold", "nan"], "na_threshold is nan: expected a similarity"),
        (["relations", "fit", *FIT, "--na_threshold", "7"], "na_threshold is 7.0: expected a similarity"),
        (["relations", "add", "--model", "CHECKPOINT", "--relation", "a", "--description", "\udcff"], "not UTF-8"),
        (["predict", "--model", "CHECKPOINT", "--text", MARKED, "--input", "x"], "either --text or --input"),
        (["predict", "--model", "CHECKPOINT", "--text", MARKED, "--batch_size", "0"], "batch_size is 0"),
        (["predict", "--model", "CHECKPOINT", "--ner", "no/such/tagger"], "the checkpoint no/such/tagger can't be"),
    ],
)
def test_a_mistake_is_one_sentence(
    argv: list[str],
    reason: str | None,
    checkpoint: Path,
    corpus_files: tuple[Path, Path],
    backbone: Path,
    run: Run,
    tmp_path: Path,
) -> None:
    names = {"CHECKPOINT": checkpoint, "BACKBONE": backbone, "ROWS": corpus_files[0], "INFO": corpus_files[1]}
    names |= {"EMPTY": tmp_path / "empty", "NONE": tmp_path / "none.jsonl"}
    names["EMPTY"].mkdir()
    names["NONE"].touch()
    code, out, err = run(*(names.get(word, word) for word in argv))
    assert code == 2
    if reason is None:
        assert out.startswith("usage: tkre relations {fit,add,remove,list}")
    else:
        (line,) = err.splitlines()
        assert line.startswith(f"tkre {argv[0]}: ") and reason in line


@pytest.mark.parametrize("command", ["fit", "add", "remove", "list"])
def test_every_action_has_a_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["relations", command, "--help"])
    assert end.value.code == 0 and "--model" in capsys.readouterr().out


def test_an_output_is_whole_or_as_it_was(
    checkpoint: Path, corpus_files: tuple[Path, Path], run: Run, tmp_path: Path
) -> None:
    assert run("relations", "fit", "--model", checkpoint, "--relation_info", corpus_files[1])[0] == 0
    source, link, output = tmp_path / "rows.jsonl", tmp_path / "link.jsonl", tmp_path / "new" / "found.jsonl"
    source.write_text(lines({"text": MARKED}))
    link.symlink_to(source)
    predict = ["predict", "--model", checkpoint, "--batch_size", "1"]
    for same in (source, link):
        code, _, err = run(*predict, "--input", source, "--output", same)
        assert code == 2 and "is both input and output" in err and source.read_text() == lines({"text": MARKED})
    assert run(*predict, "--input", source, "--output", output)[0] == 0
    before = output.read_text()
    assert json.loads(before)["id"] == "rows-1" and [file.name for file in output.parent.iterdir()] == ["found.jsonl"]
    for wrong in (["--input", tmp_path / "none.jsonl"], ["--text", MARKED, "--top_k", "0"], ["--text", "Kiel"]):
        assert run(*predict, *wrong, "--output", output)[0] == 2
        assert output.read_text() == before and len(list(output.parent.iterdir())) == 1
    # What was found before a wrong row is left beside it.
    source.write_text(lines({"text": MARKED}, {"text": MARKED}, {"text": "Kiel"}))
    assert run(*predict, "--input", source, "--output", output)[0] == 2
    assert output.read_text() == before and before in Path(f"{output}.part").read_text()
    code, _, err = run(*predict, "--text", MARKED, "--output", source / "found.jsonl")
    assert code == 2 and f"cannot write to {source / 'found.jsonl'}: " in err and len(err.splitlines()) == 1
    code, _, err = run(*predict, "--text", MARKED, "--output", tmp_path)
    assert code == 2 and "is a folder" in err


def test_a_byte_order_mark_is_no_part_of_the_first_line(
    checkpoint: Path, corpus_files: tuple[Path, Path], run: Run
) -> None:
    assert run("relations", "fit", "--model", checkpoint, "--relation_info", corpus_files[1])[0] == 0
    code, out, _ = run("predict", "--model", checkpoint, stdin="\ufeff" + lines({"text": MARKED}))
    assert code == 0 and json.loads(out)["id"] == "stdin-1"


def test_a_reader_that_goes_away_ends_it_quietly(
    checkpoint: Path, corpus_files: tuple[Path, Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("relations", "fit", "--model", checkpoint, "--relation_info", corpus_files[1])[0] == 0
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        code = main(["predict", "--model", str(checkpoint), "--text", MARKED])
        print("dropped", flush=True)
    assert code == 141
