from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tkre_hf.data import SkippedRows, Tacred, load_records, published_splits, records_builder
from tkre_hf.data.reading import RowView
from tkre_hf.data.tacred import BRACKETS, NA_LABEL, exclusive_span, parse_row
from tkre_hf.errors import InvalidRowError, TkreError

Row = dict[str, Any]
WriteTacred = Callable[..., Path]

PEOPLE = ["Ilse Marrow", "Tom Quill", "Bettina Ashdown-Vale", "Old Pim", "J. R. Fennimore"]
FIRMS = ["Lantern Works", "The Gull Press", "Nordby Kettles", "Owl & Sons"]
# Sentences of this project's own, in the words of the Penn Treebank; {s} is the subject and {o} the object.
SENTENCES = [
    ("{s} -LRB- {o} -RRB- was closed on Monday .", "org:founded_by", "ORGANIZATION", "PERSON"),
    ("{o} , who runs {s} , said `` no '' .", "org:top_members/employees", "ORGANIZATION", "PERSON"),
    ("Nobody at {s} -LSB- sic -RSB- knows {o} .", NA_LABEL, "ORGANIZATION", "PERSON"),
    ("{s} has hired {o} -lcb- again -rcb- .", "org:members", "GUILD_OF_KETTLES", "PERSON"),
    # The object stands within the subject.
    ("{s&o} sent a letter .", "org:alternate_names", "ORGANIZATION", "PERSON"),
]


def make_row(number: int) -> Row:
    """A numbered row in TACRED's format, with fields that are not read."""
    template, relation, subject_type, object_type = SENTENCES[number % len(SENTENCES)]
    names = {"{s}": FIRMS[number % len(FIRMS)].split(), "{o}": PEOPLE[number % len(PEOPLE)].split()}
    names["{s&o}"] = [*names["{o}"], "'s", *names["{s}"]]
    tokens: list[str] = []
    spans: dict[str, tuple[int, int]] = {}
    for word in template.split():
        start = len(tokens)
        tokens += names.get(word, [word])
        if word == "{s&o}":
            spans |= {"subj": (start, len(tokens) - 1), "obj": (start, start + len(names["{o}"]) - 1)}
        elif word in names:
            spans["subj" if word == "{s}" else "obj"] = (start, len(tokens) - 1)
    return {
        "id": f"e{number:019x}",
        "docid": "INVENTED_20240101.0001",
        "relation": relation,
        "token": tokens,
        "subj_start": spans["subj"][0],
        "subj_end": spans["subj"][1],
        "obj_start": spans["obj"][0],
        "obj_end": spans["obj"][1],
        "subj_type": subject_type,
        "obj_type": object_type,
        "stanford_pos": ["X"] * len(tokens),
        "stanford_head": [0] * len(tokens),
    }


@pytest.fixture
def write_tacred(tmp_path: Path) -> WriteTacred:
    """Writes rows, or a patch, as a file of TACRED's folder."""

    def write(data: Any, name: str = "train.json") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
        return path

    return write


def test_two_hundred_rows_are_read_as_they_stand(write_tacred: WriteTacred, tmp_path: Path) -> None:
    rows = [make_row(number) for number in range(200)]
    write_tacred(rows)
    records = load_records("tacred:tacred", data_dir=tmp_path)
    assert len(records) == 200
    for row, record in zip(rows, records, strict=True):
        assert (record["id"], record["relation"], record["source"]) == (row["id"], row["relation"], "gold")
        assert record["tokens"] == [BRACKETS.get(word.lower(), word) for word in row["token"]]
        for side, entity in (("head", "subj"), ("tail", "obj")):
            span = record[side]
            assert (span["start"], span["end"] - 1) == (row[f"{entity}_start"], row[f"{entity}_end"])
            assert (span["type"], span["kb_id"]) == (row[f"{entity}_type"], "")
            assert span["name"] == " ".join(record["tokens"][span["start"] : span["end"]])
    words = {word for record in records for word in record["tokens"]}
    assert set("()[]{}") <= words and not any(word.lower() in BRACKETS for word in words)
    assert {"``", "''"} <= words, "quotes are words like any others"
    assert "GUILD_OF_KETTLES" in {record["head"]["type"] for record in records}
    inside = [r for r in records if r["head"]["start"] <= r["tail"]["start"] and r["tail"]["end"] <= r["head"]["end"]]
    assert len(inside) == 40, "the rows whose object stands within the subject"


def test_streamed_rows_are_the_loaded_ones(write_tacred: WriteTacred, tmp_path: Path) -> None:
    write_tacred([make_row(number) for number in range(7)])
    streamed = list(records_builder("tacred:tacred", data_dir=tmp_path).as_streaming_dataset("train"))
    assert streamed == load_records("tacred:tacred", data_dir=tmp_path).to_list()


@given(length=st.integers(1, 40), data=st.data())
def test_an_inclusive_span_holds_the_same_words_exclusively(length: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, length - 1))
    last = data.draw(st.integers(first, length - 1))
    start, end = exclusive_span(RowView("f", 1, {"subj_start": first, "subj_end": last}), "subj", length)
    assert list(range(start, end)) == [word for word in range(length) if first <= word <= last]


@given(
    first=st.integers(-5, 12) | st.booleans() | st.none() | st.text(max_size=2) | st.floats(),
    last=st.integers(-5, 12) | st.booleans() | st.none() | st.text(max_size=2) | st.floats(),
    length=st.integers(0, 8),
)
def test_a_span_is_right_or_refused(first: Any, last: Any, length: int) -> None:
    row = RowView("f", 1, {"obj_start": first, "obj_end": last})
    right = type(first) is type(last) is int and 0 <= first <= last < length
    if right:
        assert exclusive_span(row, "obj", length) == (first, last + 1)
    else:
        with pytest.raises(InvalidRowError, match="f, line 1, field 'obj_(start|end)': "):
            exclusive_span(row, "obj", length)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=2))
def test_only_brackets_change(words: list[str]) -> None:
    row = {"id": "x", "relation": "r", "token": words, "subj_type": "A", "obj_type": "B"}
    row |= {"subj_start": 0, "subj_end": 0, "obj_start": 1, "obj_end": len(words) - 1}
    assert parse_row(RowView("f", 1, row))["tokens"] == [BRACKETS.get(word.lower(), word) for word in words]


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"id": None}, "id", "missing"),
        ({"id": 7}, "id", "expected a string"),
        ({"id": "e0000000000000000000"}, "id", "used before"),
        ({"relation": None}, "relation", "missing"),
        ({"relation": ""}, "relation", "non-empty"),
        ({"token": None}, "token", "missing"),
        ({"token": ["a", 3, "b", "c", "d", "e", "f", "g"]}, "token", "at least one word"),
        ({"subj_type": None}, "subj_type", "missing"),
        ({"obj_type": 1}, "obj_type", "expected a string"),
        ({"subj_start": None}, "subj_start", "missing"),
        ({"subj_start": -1}, "subj_start", "there is no word -1: the row has 14, counted from 0"),
        ({"subj_start": True}, "subj_start", "expected a whole number"),
        ({"subj_end": 1.5}, "subj_end", "expected a whole number"),
        ({"obj_end": 14}, "obj_end", "there is no word 14: the row has 14"),
        ({"subj_start": 6, "subj_end": 5}, "subj_end", "the last word, 5, stands before the first, 6"),
        ({"obj_start": 5, "obj_end": 7}, "obj_start", "same span"),
    ],
)
def test_a_wrong_row_names_file_row_and_field(
    write_tacred: WriteTacred, tmp_path: Path, change: Row, field: str, reason: str
) -> None:
    row = make_row(1) | change
    write_tacred([make_row(0), row])
    if isinstance(row["id"], str):
        where = rf"train\.json, row \[1\] {row['id']}, field '{field}': "
    else:
        where = rf"train\.json, row \[1\], field '{field}': "
    with pytest.raises(InvalidRowError, match=where + f".*{reason}"):
        load_records("tacred:tacred", data_dir=tmp_path)
    skipped = SkippedRows()
    records = load_records("tacred:tacred", data_dir=tmp_path, skip_invalid=True, skipped=skipped)
    assert records["id"][:] == [make_row(0)["id"]]
    assert [error.field for error in skipped] == [field]


def test_a_span_of_white_space_is_refused(write_tacred: WriteTacred, tmp_path: Path) -> None:
    row = make_row(1)
    row["token"][row["subj_start"] : row["subj_end"] + 1] = [" "] * (row["subj_end"] + 1 - row["subj_start"])
    write_tacred([row])
    with pytest.raises(InvalidRowError, match=r"row \[0\] e.*1, field 'subj_start': .* only white space"):
        load_records("tacred:tacred", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"P1": []}, "line 1: expected a list of rows, as TACRED's files are, found"),
        ([3], r"row \[0\]: expected an object, found 3"),
    ],
)
def test_a_file_of_another_format_is_refused(
    write_tacred: WriteTacred, tmp_path: Path, content: Any, reason: str
) -> None:
    write_tacred(content)
    with pytest.raises(InvalidRowError, match=reason):
        load_records("tacred:tacred", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["tacred", "tacrev", "retacred"])
def test_without_the_files_it_says_what_they_are_and_where_to_get_them(tmp_path: Path, name: str) -> None:
    words = "LDC2018T24.* https://catalog.ldc.upenn.edu/LDC2018T24; give as data_dir the folder .*data/json/train.json"
    with pytest.raises(TkreError, match=f"{name} needs a data_dir: TACRED is {words}"):
        load_records(f"tacred:{name}")
    with pytest.raises(
        TkreError, match=f"{tmp_path} holds none of train.json, dev.json, test.json: TACRED is {words}"
    ):
        load_records(f"tacred:{name}", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "patch", "where"),
    [
        ("tacrev", "dev.json", "dev_patch.json", r"https://github.com/DFKI-NLP/tacrev \(folder patch\)"),
        ("tacrev", "test.json", "test_patch.json", "https://github.com/DFKI-NLP/tacrev"),
        ("retacred", "train.json", "train_id2label.json", "https://github.com/gstoica27/Re-TACRED"),
        ("retacred", "dev.json", "dev_id2label.json", "https://github.com/gstoica27/Re-TACRED"),
        (
            "retacred",
            "test.json",
            "test_id2label.json",
            r"https://github.com/gstoica27/Re-TACRED \(folder Re-TACRED\)",
        ),
    ],
)
def test_without_a_patch_it_names_its_publisher(
    write_tacred: WriteTacred, tmp_path: Path, name: str, data: str, patch: str, where: str
) -> None:
    write_tacred([make_row(0)], data)
    with pytest.raises(TkreError, match=f"{tmp_path} lacks {patch}, a patch of {name}: get it from {where}"):
        load_records(f"tacred:{name}", data_dir=tmp_path)


def test_the_archive_s_folder_and_the_files_own_folder_are_both_a_data_dir(
    write_tacred: WriteTacred, tmp_path: Path
) -> None:
    write_tacred([make_row(0)], "archive/data/json/dev.json")
    write_tacred([make_row(0)], "files/dev.json")
    for folder in ("archive", "files"):
        assert len(load_records("tacred:tacred", data_dir=tmp_path / folder, split="validation")) == 1
    assert published_splits("tacred:tacred") == ("train", "validation", "test")
    assert published_splits("tacred:unknown") == published_splits(tmp_path) == ()


def test_tacrev_changes_the_rows_its_patch_names_and_keeps_the_others(
    write_tacred: WriteTacred, tmp_path: Path
) -> None:
    rows = [make_row(number) for number in range(6)]
    for name in ("train.json", "dev.json"):
        write_tacred(rows, name)
    patch = [{"id": rows[4]["id"], "relation": NA_LABEL}, {"id": rows[1]["id"], "relation": "org:founded_by"}]
    write_tacred(patch, "dev_patch.json")
    train, revised = (
        load_records("tacred:tacrev", data_dir=tmp_path, split=split) for split in ("train", "validation")
    )
    assert train["relation"][:] == [row["relation"] for row in rows], "there is no patch of the training data"
    expected = {row["id"]: row["relation"] for row in rows} | {entry["id"]: entry["relation"] for entry in patch}
    assert dict(zip(revised["id"], revised["relation"], strict=True)) == expected
    assert revised.remove_columns("relation").to_list() == train.remove_columns("relation").to_list()


def test_retacred_keeps_only_the_rows_its_patch_names(
    write_tacred: WriteTacred, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [make_row(number) for number in range(6)]
    # A row that is dropped is not read: nothing asks it to be right.
    rows[2] |= {"subj_end": 99}
    write_tacred(rows, "test.json")
    write_tacred({rows[5]["id"]: "per:identity", rows[0]["id"]: rows[0]["relation"]}, "test_id2label.json")
    with caplog.at_level(logging.INFO, "tkre_hf.data.tacred"):
        records = load_records("tacred:retacred", data_dir=tmp_path, split="test")
    assert records["id"][:] == [rows[0]["id"], rows[5]["id"]], "in the order of the data"
    assert records["relation"][:] == [rows[0]["relation"], "per:identity"]
    assert "4 rows are not in" in caplog.text


def test_a_changed_patch_is_read_anew(write_tacred: WriteTacred, tmp_path: Path) -> None:
    row = make_row(0)
    write_tacred([row], "train.json")
    for label in ("per:identity", "no_relation"):
        write_tacred({row["id"]: label}, "train_id2label.json")
        assert load_records("tacred:retacred", data_dir=tmp_path)["relation"][:] == [label]


ID = make_row(0)["id"]


@pytest.mark.parametrize(
    ("name", "patch", "message"),
    [
        (
            "tacrev",
            [{"id": "strange", "relation": "r"}],
            r"row \[0\] strange, field 'id': .*dev.json has no row .*strange",
        ),
        ("tacrev", [{"id": ID}], rf"row \[0\] {ID}, field 'relation': missing"),
        ("tacrev", [{"id": ID, "relation": ""}], rf"row \[0\] {ID}, field 'relation': .*non-empty"),
        ("tacrev", [{"relation": "r"}], r"row \[0\], field 'id': missing"),
        ("tacrev", [{"id": ID, "relation": "r", "obj_end": 3}], rf"row \[0\] {ID}, field 'obj_end': .* nothing else"),
        (
            "tacrev",
            [{"id": ID, "relation": "r"}, {"id": ID, "relation": "s"}],
            rf"row \[1\] {ID}, field 'relation': .* another label in row \[0\]",
        ),
        ("tacrev", [3], r"row \[0\]: expected an object"),
        ("tacrev", 3, r"line 1: expected a list of .*TACREV.* or an object of id: label \(Re-TACRED\), found 3"),
        (
            "retacred",
            {ID: "r", "strange": "r"},
            "row strange, field 'id': .*dev.json has no row with the id 'strange'",
        ),
        ("retacred", {ID: 3}, f"row {ID}, field 'relation': expected a string, found 3"),
        ("retacred", {ID: ""}, f"row {ID}, field 'relation': .*non-empty"),
        ("retacred", {ID: None}, f"row {ID}, field 'relation': missing"),
    ],
)
def test_a_wrong_patch_names_file_row_and_field(
    write_tacred: WriteTacred, tmp_path: Path, name: str, patch: Any, message: str
) -> None:
    write_tacred([make_row(0)], "dev.json")
    file = write_tacred(patch, "dev_patch.json" if name == "tacrev" else "dev_id2label.json")
    with pytest.raises(InvalidRowError, match=f"{file.name}, {message}"):
        load_records(f"tacred:{name}", data_dir=tmp_path)


def test_a_patch_may_say_the_same_twice(write_tacred: WriteTacred, tmp_path: Path) -> None:
    write_tacred([make_row(0)], "dev.json")
    write_tacred([{"id": ID, "relation": "r"}] * 2, "dev_patch.json")
    assert load_records("tacred:tacrev", data_dir=tmp_path)["relation"][:] == ["r"]


def test_patched_rows_that_are_missing_may_be_skipped(write_tacred: WriteTacred, tmp_path: Path) -> None:
    write_tacred([make_row(0)], "dev.json")
    write_tacred({ID: "r", "strange": "r"}, "dev_id2label.json")
    skipped = SkippedRows()
    records = load_records("tacred:retacred", data_dir=tmp_path, skip_invalid=True, skipped=skipped)
    assert len(records) == 1 and [error.row for error in skipped] == ["strange"]


def test_own_files_have_the_labels_they_have(write_tacred: WriteTacred) -> None:
    path = str(write_tacred([make_row(0)], "own.json"))
    builder = Tacred(config_name="tacred", data_files=path)
    builder.download_and_prepare()
    assert builder.as_dataset("train")["id"][:] == [ID]
    with pytest.raises(TkreError, match="retacred takes no data_files but a data_dir"):
        Tacred(config_name="retacred", data_files=path)


def test_fixture_has_every_sentence() -> None:
    assert set(Counter(make_row(number)["relation"] for number in range(200)).values()) == {40}
