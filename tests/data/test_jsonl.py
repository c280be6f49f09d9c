from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tkre_hf.data import OpenNREJsonl, SkippedRows, load_records, records_builder
from tkre_hf.data.jsonl import find_entities
from tkre_hf.data.reading import RowView, read_json_lines
from tkre_hf.errors import InvalidRowError, TkreError

WriteLines = Callable[..., Path]

OPENNRE = {
    "token": ["Ada", "was", "born", "in", "London", "."],
    "h": {"name": "Ada", "pos": [0, 1], "id": "Q7259", "type": "PERSON"},
    "t": {"name": "London", "pos": [4, 5]},
    "relation": "born_in",
}
TEXT = {
    "text": "Ada was born in London, unfortunately.",
    "head": [0, 3],
    "tail": [16, 22],
    "relation": "born_in",
    "cues": [[4, 15]],
    "head_type": "PERSON",
}
SAMPLE = {
    "relation": "born_in",
    "context": "Romeo was born in Rome.",
    "head_entity": "Romeo",
    "tail_entity": "Rome",
    "tail_type": "CITY",
}
RECORD = {
    "id": "own-1",
    "tokens": ["Ada", "sang"],
    "head": {"start": 0, "end": 1, "type": "", "name": "Ada", "kb_id": ""},
    "tail": {"start": 1, "end": 2, "type": "", "name": "sang", "kb_id": ""},
    "relation": "r",
    "cues": [{"start": 1, "end": 2}],
    "source": "edkg",
}


def words(record: dict[str, Any], side: str) -> list[str]:
    return record["tokens"][record[side]["start"] : record[side]["end"]]


def test_the_shapes_may_stand_in_one_file(write_lines: WriteLines) -> None:
    opennre, text, sample, record = load_records(write_lines(OPENNRE, TEXT, b"", SAMPLE, RECORD))

    assert opennre["head"] == {"start": 0, "end": 1, "type": "PERSON", "name": "Ada", "kb_id": "Q7259"}
    assert opennre["tail"] == {"start": 4, "end": 5, "type": "", "name": "London", "kb_id": ""}
    assert text["tokens"] == ["Ada", "was", "born", "in", "London", ",", "unfortunately", "."]
    assert (words(text, "head"), words(text, "tail")) == (["Ada"], ["London"])
    assert text["cues"] == [{"start": 1, "end": 4}]
    assert text["head"]["type"] == "PERSON"
    assert (words(sample, "head"), words(sample, "tail")) == (["Romeo"], ["Rome"])
    assert sample["tail"]["type"] == "CITY"
    assert record == RECORD
    assert [row["source"] for row in (opennre, text, sample, record)] == ["gold", "gold", "scdg", "edkg"]
    # A row without an id is named after its file and line.
    assert [row["id"] for row in (opennre, text, sample, record)] == ["rows-1", "rows-2", "rows-4", "own-1"]


def test_records_written_by_datasets_come_back(write_lines: WriteLines, tmp_path: Path) -> None:
    records = load_records(write_lines(OPENNRE, TEXT, SAMPLE, RECORD))
    records.to_json(tmp_path / "again.jsonl")
    assert load_records(tmp_path / "again.jsonl").to_list() == records.to_list()


def test_a_packed_file_and_a_byte_order_mark_are_read(write_lines: WriteLines, tmp_path: Path) -> None:
    plain = write_lines(OPENNRE)
    packed = tmp_path / "rows.txt.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    assert load_records(packed).to_list() == load_records(plain).to_list()


@pytest.mark.parametrize("cut", [5, 30, -1])
def test_a_packed_file_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(OPENNRE).encode())[:cut])
    with pytest.raises(TkreError, match="rows.jsonl.gz: cannot be read"):
        load_records(packed)


def test_lines_are_read_as_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl.gz"
    noise = [json.dumps({"id": random.Random(i).random()}) for i in range(20_000)]
    packed = gzip.compress("\n".join(noise).encode())
    path.write_bytes(packed[: len(packed) // 2])
    files: list[Any] = []
    monkeypatch.setattr("gzip.open", lambda path: files.append(gzip.GzipFile(path)) or files[-1])
    rows = read_json_lines(path)
    assert not files
    assert next(rows).data == json.loads(noise[0])  # of a file that can't be read to its end
    rows.close()
    with pytest.raises(TkreError, match="rows.jsonl.gz: cannot be read"):
        list(read_json_lines(path))
    assert [file.closed for file in files] == [True, True]


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_an_error_at_a_line_s_end_stands_in_that_line(tmp_path: Path, end: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n{"id":' + end)
    _, error = read_json_lines(tmp_path / "rows.jsonl")
    assert (error.row, error.reason) == (2, "broken JSON: Expecting value (column 7)")


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


WRONG: list[tuple[Any, str, str]] = [
    # (row, field, reason)
    (b'{"token": [', "", r"broken JSON.*column"),
    (b'{"text": "caf\xe9"}', "", "not UTF-8: byte 0xe9"),
    (b"[1, 2]", "", "expected a JSON object"),
    (b"[" * 5000, "", "broken JSON"),
    (b'{"id": ' + b"9" * 5000 + b"}", "", "broken JSON"),
    (b'{"text": "a", "text": "b"}', "", "'text' stands twice"),
    (
        {"sentence": "x"},
        "",
        r"\(sentence\) are of no known shape; expected token, h, t, .*; or text, .*; or relation, ",
    ),
    ({}, "", r"\(none\)"),
    (OPENNRE | TEXT, "", "no known shape"),
    (without(OPENNRE, "relation"), "relation", "missing; expected a string"),
    (without(OPENNRE, "h"), "h", "missing"),
    (OPENNRE | {"h": {"name": "Ada"}}, "h.pos", "missing; expected a list"),
    (OPENNRE | {"h": [0, 1]}, "h", "expected an object"),
    (OPENNRE | {"h": {"pos": [0]}}, "h.pos", r"expected \[start, end\]"),
    (OPENNRE | {"h": {"pos": [0, 1], "name": 5}}, "h.name", "expected a string"),
    (OPENNRE | {"t": {"pos": [5, 7]}}, "t.pos", "outside the sentence's 6 tokens"),
    (OPENNRE | {"t": {"pos": [-2, -1]}}, "t.pos", "outside"),
    (OPENNRE | {"t": {"pos": [5, 4]}}, "t.pos", "reversed"),
    (OPENNRE | {"t": {"pos": [4, 4]}}, "t.pos", "empty"),
    (OPENNRE | {"t": {"pos": [0, 1]}}, "t.pos", "same span"),
    (OPENNRE | {"t": {"pos": ["4", "5"]}}, "t.pos", "not two whole numbers"),
    (OPENNRE | {"token": "Ada was"}, "token", "expected a list"),
    (OPENNRE | {"token": []}, "token", "at least one word"),
    (OPENNRE | {"relation": 3}, "relation", "expected a string"),
    (OPENNRE | {"relation": ""}, "relation", "non-empty"),
    (OPENNRE | {"id": ["x"]}, "id", "expected a non-empty string"),
    (b'{"text": "a \\ud800 b", "head": [0, 1], "tail": [4, 5], "relation": "r"}', "text", "surrogate"),
    (TEXT | {"tail": [16, 99]}, "tail", "outside the sentence's 38 characters"),
    (TEXT | {"tail": [22, 16]}, "tail", "reversed"),
    (TEXT | {"tail": [16, 16]}, "tail", "empty"),
    (TEXT | {"tail": [3, 4]}, "tail", "white space"),
    (TEXT | {"tail": [0, 4]}, "tail", "same span"),
    (TEXT | {"tail": None}, "tail", "missing"),
    (TEXT | {"cues": [[0, 3], [4, 99]]}, r"cues\[1\]", "outside"),
    (TEXT | {"cues": [4, 15]}, r"cues\[0\]", r"expected \[start, end\]"),
    (without(SAMPLE, "tail_entity"), "tail_entity", "missing"),
    (SAMPLE | {"head_entity": "Juliet"}, "head_entity", "does not stand in the context"),
    (SAMPLE | {"head_entity": "romeo"}, "head_entity", "does not stand in the context"),
    (SAMPLE | {"tail_entity": "  "}, "tail_entity", "found none"),
    (SAMPLE | {"tail_entity": "Romeo"}, "tail_entity", "same mention"),
    (without(RECORD, "head"), "head", "missing"),
    (RECORD | {"head": {"start": 0}}, "head.end", "missing"),
    (RECORD | {"cues": [[0, 1]]}, r"cues\[0\]", "start"),
    (RECORD | {"source": "me"}, "source", "expected one of"),
    (RECORD, "id", "'own-1' was used before, in .*, line 2"),
]


@pytest.mark.parametrize(("row", "field", "reason"), WRONG)
def test_a_wrong_row_names_file_line_and_field(write_lines: WriteLines, row: Any, field: str, reason: str) -> None:
    path = write_lines(OPENNRE, RECORD, row)
    named = f", field '{field}'" if field else ""
    with pytest.raises(InvalidRowError, match=rf"rows\.jsonl, line 3{named}: .*{reason}") as caught:
        load_records(path)
    assert caught.value.file == str(path)


def test_half_a_character_in_a_wrong_row_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    right = {"text": "Oslo is in Norway.", "head": [0, 4], "tail": [11, 17], "relation": "in"}
    path.write_text(json.dumps(right) + "\n" + json.dumps({"te\ud83d": 1}) + "\n")
    for _ in range(2):  # read, and from the cache
        skipped = SkippedRows()
        assert len(load_records(path, skip_invalid=True, skipped=skipped, cache_dir=tmp_path / "cache")) == 1
        (error,) = skipped
        assert error.row == 2 and "te\\ud83d" in error.reason and str(error).isascii()


def test_skipped_rows_are_counted_listed_and_kept_with_the_cache(
    write_lines: WriteLines, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_lines(OPENNRE, RECORD, *(row for row, _, _ in WRONG), TEXT)
    for attempt in ("read", "cached"):
        skipped = SkippedRows()
        caplog.clear()
        records = load_records(path, skip_invalid=True, skipped=skipped)
        assert records["id"][:] == ["rows-1", "own-1", f"rows-{len(WRONG) + 3}"], attempt
        assert [error.row for error in skipped] == list(range(3, len(WRONG) + 3))
        assert f"skipped {len(WRONG)} wrong rows" in caplog.text, attempt
        assert f"and {len(WRONG) - 10} more" in caplog.text
    # Without it the same file is an error still: the cache of the one is not the other's.
    with pytest.raises(InvalidRowError, match="line 3"):
        load_records(path)


def test_streamed_rows_are_the_loaded_ones(write_lines: WriteLines) -> None:
    path = write_lines(OPENNRE, b"{", TEXT, SAMPLE, RECORD)
    builder = records_builder(path, skip_invalid=True)
    streamed = list(builder.as_streaming_dataset("train"))
    assert streamed == load_records(path, skip_invalid=True).to_list()
    assert len(builder.skipped_rows) == 1
    with pytest.raises(InvalidRowError, match="line 2"):
        list(records_builder(path).as_streaming_dataset("train"))


def test_a_changed_file_is_read_anew(write_lines: WriteLines) -> None:
    import os

    path = write_lines(OPENNRE)
    before = path.stat()
    assert load_records(path)[0]["tail"]["name"] == "London"
    path.write_bytes(path.read_bytes().replace(b"London", b"Lisbon"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size and same time
    assert load_records(path)[0]["tail"]["name"] == "Lisbon"


def test_an_error_leaves_nothing_behind_and_a_broken_build_is_done_anew(
    write_lines: WriteLines, cache_dir: Path
) -> None:
    path = write_lines(OPENNRE, b"{")
    with pytest.raises(InvalidRowError):
        load_records(path)
    assert not list(cache_dir.rglob("*.arrow"))

    write_lines(OPENNRE, RECORD)
    builder = records_builder(path)
    # What a process that was killed while it wrote leaves behind.
    killed = Path(builder.cache_dir + ".incomplete")
    killed.mkdir(parents=True)
    (killed / "jsonl-train.arrow").write_bytes(b"half")
    assert len(load_records(path)) == 2


def test_nothing_is_written_beside_the_file(write_lines: WriteLines) -> None:
    path = write_lines(OPENNRE)
    load_records(path)
    assert list(path.parent.iterdir()) == [path]


def test_several_files_and_splits(write_lines: WriteLines) -> None:
    train, test = write_lines(OPENNRE, name="train.txt"), write_lines(TEXT, SAMPLE, name="test[1].txt")
    builder = OpenNREJsonl(data_files={"train": str(train)})
    builder.download_and_prepare()
    assert len(builder.as_dataset("train")) == 1
    assert len(load_records(test)) == 2, "a path is no pattern"


def test_what_is_no_source_says_what_is(tmp_path: Path) -> None:
    for source in ("fewrel:nyt", "rows.csv", "sample:test"):
        with pytest.raises(TkreError, match=r"expected a file \(.json.*fewrel:wiki.*sample:train"):
            load_records(source)
    with pytest.raises(TkreError, match="missing.jsonl: there is no such file"):
        load_records(tmp_path / "missing.jsonl")
    with pytest.raises(TkreError, match="data_files"):
        OpenNREJsonl().download_and_prepare()
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(TkreError, match="cannot be read"):
        load_records(tmp_path / "folder.txt")


def test_a_split_that_is_not_there_says_which_are(write_lines: WriteLines) -> None:
    path = write_lines(OPENNRE, TEXT)
    assert len(load_records(path, split="train[:1]")) == 1
    with pytest.raises(TkreError, match="no split 'dev'"):
        load_records(path, split="dev")


@pytest.mark.parametrize(
    ("text", "head", "tail", "expected"),
    [
        ("Romeo left Rome", "Rome", "Romeo", ((11, 15), (0, 5))),
        ("New York lies south of York", "York", "New York", ((23, 27), (0, 8))),
        ("Paris Saint-Germain plays in Paris", "Paris", "Paris Saint-Germain", ((29, 34), (0, 19))),
        ("the University of Oxford", "University of Oxford", "Oxford", ((4, 24), (18, 24))),
        ("東京は日本の首都です", "東京", "日本", ((0, 2), (3, 5))),
        ("C++ grew out of C (1985)", "C++", "C", ((0, 3), (16, 17))),
    ],
)
def test_entities_are_found_where_they_stand_on_their_own(
    text: str, head: str, tail: str, expected: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    assert find_entities(RowView("f", 1, {}), text, head, tail) == expected


def test_real_files_are_read_whole(data_dir: Path) -> None:
    folder = data_dir / "semeval2010"
    sizes = {name: len(load_records(folder / f"{name}.txt")) for name in ("train", "val", "test")}
    lines = {name: len((folder / f"{name}.txt").read_text("utf-8").splitlines()) for name in sizes}
    assert sizes == lines
    row = json.loads((folder / "test.txt").read_text("utf-8").splitlines()[5])
    record = load_records(folder / "test.txt")[5]
    assert record["tokens"] == row["token"]
    assert [record["head"]["start"], record["head"]["end"]] == row["h"]["pos"]
    for path in sorted(data_dir.glob("*/knowledge/**/*synthetic.jsonl")):
        for line, record in zip(path.read_text("utf-8").splitlines(), load_records(path), strict=True):
            row = json.loads(line)
            assert (record["head"]["name"], record["tail"]["name"]) == (row["head_entity"], row["tail_entity"])
            assert "".join(words(record, "head")) == "".join(row["head_entity"].split())
