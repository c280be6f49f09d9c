from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tkre_hf.data import SemEval2010Task8, SkippedRows, load_records, records_builder
from tkre_hf.data.reading import RowView
from tkre_hf.data.semeval import LABELS, NA_LABEL, read_label_numbers, split_tags
from tkre_hf.errors import InvalidRowError, TkreError

# Sentences of this project's own.
KETTLE = '"The <e1>kettle</e1>\'s lid fell into a "new" <e2>copper sink</e2>, twice."'
KEY = '"A <e2>ring</e2> of <e1>keys</e1>."'


def block(*lines: str) -> str:
    return "\n".join(lines) + "\n\n"


FILE = block(f"1\t{KETTLE}", "Entity-Destination(e1,e2)", "Comment: a lid, so not Component-Whole.") + block(
    f"2\t{KEY}", "Member-Collection(e1,e2)", "Comment:"
)


@pytest.fixture
def write_raw(tmp_path: Path) -> Callable[..., Path]:
    """Writes a training file of the task's own."""

    def write(text: str | bytes, name: str = "TRAIN_FILE.TXT") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


WriteRaw = Callable[..., Path]


@pytest.mark.parametrize("text", [FILE, FILE.rstrip(), FILE.replace("\n", "\r\n"), "\n\n" + FILE + " \n"])
def test_tagged_sentences_are_records(write_raw: WriteRaw, tmp_path: Path, text: str) -> None:
    write_raw(text)
    kettle, key = load_records("semeval:raw", data_dir=tmp_path)
    assert kettle["id"] == "1" and kettle["relation"] == "Entity-Destination(e1,e2)"
    words = [
        "The",
        "kettle",
        "'",
        "s",
        "lid",
        "fell",
        "into",
        "a",
        '"',
        "new",
        '"',
        "copper",
        "sink",
        ",",
        "twice",
        ".",
    ]
    assert kettle["tokens"] == words, "the quotes within a sentence are its own"
    assert kettle["head"] == {"start": 1, "end": 2, "type": "", "name": "kettle", "kb_id": ""}
    assert kettle["tail"] == {"start": 11, "end": 13, "type": "", "name": "copper sink", "kb_id": ""}
    assert (key["head"]["name"], key["tail"]["name"]) == ("keys", "ring"), "e1 is the head, wherever it stands"


def test_a_sentence_without_quotes_or_comment_is_read_too(write_raw: WriteRaw, tmp_path: Path) -> None:
    write_raw(block('7\tA <e1>hat</e1> in a <e2>"box"</e2>', "Other"))
    record = load_records("semeval:raw", data_dir=tmp_path)[0]
    assert record["tokens"] == ["A", "hat", "in", "a", '"', "box", '"']


def test_the_archive_s_folders_are_found(write_raw: WriteRaw, tmp_path: Path) -> None:
    write_raw(FILE, "SemEval2010_task8_training/TRAIN_FILE.TXT")
    write_raw(FILE.replace("1\t", "8001\t"), "SemEval2010_task8_testing_keys/TEST_FILE_FULL.TXT")
    assert load_records("semeval:raw", data_dir=tmp_path, split="test")["id"][:] == ["8001", "2"]
    with pytest.raises(TkreError, match="semeval:raw has the splits train, test: say which one"):
        load_records("semeval:raw", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "field", "reason"),
    [
        (f"one\t{KEY}\nOther\n", 4, "", "expected a number, a tab and a sentence"),
        (f"3 {KEY}\nOther\n", 4, "", "expected a number, a tab and a sentence"),
        (f"3\t{KEY}\n", 4, "relation", "no label in the line below; TEST_FILE_FULL.TXT has the test's"),
        (f"3\t{KEY}\nComment:\n", 4, "relation", "no label in the line below"),
        (f"3\t{KEY}\nOther\nRemark: none\n", 4, "", "expected 'Comment:' in its third line"),
        (f"3\t{KEY}\nOther\nComment:\n4\t{KEY}\nOther\nComment:\n", 4, "", "the blank line before the next sentence"),
        (f"3\t{KEY}\nOther(e1,e2)\n", 4, "relation", r"'Other\(e1,e2\)' is none of the task's 19 labels"),
        (f"1\t{KEY}\nOther\n", 4, "id", "'1' was used before"),
        ('3\t"A <e1>key</e1>."\nOther\n', 4, "e2", "the tag <e2> is missing"),
        ('3\t"A <e1>key and <e2>ring</e2>."\nOther\n', 4, "e1", "the tag </e1> is missing"),
        ('3\t"A <e1>key</e1>, <e1>ring</e1>."\nOther\n', 4, "e1", "the tag <e1> stands twice"),
        ('3\t"</e1>A<e1> <e2>ring</e2>."\nOther\n', 4, "e1", "the tag </e1> stands before <e1>"),
        ('3\t"A <e1></e1> <e2>ring</e2>."\nOther\n', 4, "e1", "there is no word between its tags"),
        ('3\t"A <e1>key</e1> <e2> </e2>."\nOther\n', 4, "e2", "there is no word between its tags"),
        ('3\t"A <e1><e2>key</e2></e1>."\nOther\n', 4, "tail", "the head is the same span"),
        (b'3\t"A <e1>k\xe9y</e1> <e2>ring</e2>."\nOther\n', 4, "", "not UTF-8: byte 0xe9"),
        (b"3\t" + KEY.encode() + b"\nOther\nComment: caf\xe9\n", 6, "", "not UTF-8: byte 0xe9"),
    ],
)
def test_a_wrong_sentence_names_file_line_and_field(
    write_raw: WriteRaw, tmp_path: Path, text: str | bytes, line: int, field: str, reason: str
) -> None:
    start = block(f"1\t{KETTLE}", "Cause-Effect(e1,e2)").encode()
    write_raw(start + (text if isinstance(text, bytes) else text.encode()))
    place = f", field '{field}'" if field else ""
    with pytest.raises(InvalidRowError, match=rf"TRAIN_FILE\.TXT, line {line}{place}: .*{reason}"):
        load_records("semeval:raw", data_dir=tmp_path)
    skipped = SkippedRows()
    assert len(load_records("semeval:raw", data_dir=tmp_path, skip_invalid=True, skipped=skipped)) == 1
    assert [(error.row, error.field) for error in skipped] == [(line, field)]


pieces = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), max_size=12)


@given(before=pieces, first=pieces, between=pieces, second=pieces, after=pieces, swapped=st.booleans())
def test_taking_tags_out_gives_the_text_and_its_spans(
    before: str, first: str, between: str, second: str, after: str, swapped: bool
) -> None:
    names = ("e2", "e1") if swapped else ("e1", "e2")
    tagged = "{}<{n[0]}>{}</{n[0]}>{}<{n[1]}>{}</{n[1]}>{}"
    text, head, tail = split_tags(RowView("f", 1, {}), tagged.format(before, first, between, second, after, n=names))
    assert text == before + first + between + second + after
    entities = (second, first) if swapped else (first, second)
    assert (text[slice(*head)], text[slice(*tail)]) == entities
    starts = (len(before), len(before + first + between))
    assert (head[0], tail[0]) == (starts[::-1] if swapped else starts)


@given(st.lists(st.sampled_from(["<e1>", "</e1>", "<e2>", "</e2>", "word", " ", "<b>"]), max_size=9))
def test_tags_are_whole_or_refused(parts: list[str]) -> None:
    tags = [part for part in parts if part in ("<e1>", "</e1>", "<e2>", "</e2>")]
    whole = len(tags) == len(set(tags)) == 4 and all(
        tags.index(f"<{e}>") < tags.index(f"</{e}>") for e in ("e1", "e2")
    )
    if whole:
        text, head, tail = split_tags(RowView("f", 1, {}), "".join(parts))
        assert text == "".join(part for part in parts if part not in tags)
        assert 0 <= head[0] <= head[1] <= len(text) and 0 <= tail[0] <= tail[1] <= len(text)
    else:
        with pytest.raises(InvalidRowError, match="f, line 1, field 'e[12]': the tag "):
            split_tags(RowView("f", 1, {}), "".join(parts))


ROW = {
    "token": ["a", "ring", "of", "keys"],
    "h": {"name": "keys", "pos": [3, 4]},
    "t": {"name": "ring", "pos": [1, 2]},
    "relation": "Member-Collection(e1,e2)",
}


def test_json_lines_are_read_and_their_labels_checked(write_lines: Callable[..., Path], tmp_path: Path) -> None:
    write_lines(ROW, name="train.txt")
    write_lines(ROW, ROW | {"relation": NA_LABEL}, name="val.txt")
    assert load_records("semeval:opennre", data_dir=tmp_path, split="train")["id"][:] == ["train-1"]
    assert load_records("semeval:opennre", data_dir=tmp_path, split="validation")["relation"][1] == NA_LABEL
    write_lines(ROW, ROW | {"relation": "Member-Collection"}, name="train.txt")
    message = r"train\.txt, line 2, field 'relation': 'Member-Collection' is none of the task's 19 labels"
    with pytest.raises(InvalidRowError, match=message):
        load_records("semeval:opennre", data_dir=tmp_path, split="train")


def test_without_the_files_it_says_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(TkreError, match="opennre needs a data_dir: .*https://github.com/zjunlp/KnowPrompt; give as"):
        load_records("semeval:opennre")
    with pytest.raises(TkreError, match=f"{tmp_path} holds none of train.txt, val.txt, test.txt: SemEval-2010 Task 8"):
        load_records("semeval:opennre", data_dir=tmp_path)
    with pytest.raises(
        TkreError, match="holds none of TRAIN_FILE.TXT, TEST_FILE_FULL.TXT: .*SemEval2010_task8_all_data"
    ):
        load_records("semeval:raw", data_dir=tmp_path)
    with pytest.raises(TkreError, match="semeval:all is no source of records: .*semeval:opennre, semeval:raw"):
        load_records("semeval:all")
    with pytest.raises(
        TkreError, match="x.txt takes no data_dir; it is for fewrel:wiki, .*tacred:tacred, .*semeval:raw"
    ):
        load_records("x.txt", data_dir=tmp_path)


def test_labels_have_numbers(write_raw: WriteRaw, tmp_path: Path) -> None:
    write_raw(FILE)
    builder = records_builder("semeval:raw", data_dir=tmp_path)
    assert isinstance(builder, SemEval2010Task8)
    assert builder.label2id == {label: i for i, label in enumerate(LABELS)}
    own = {label: i for i, label in enumerate(reversed(LABELS))}
    (tmp_path / "rel2id.json").write_text(json.dumps(own))
    builder = records_builder("semeval:raw", data_dir=tmp_path)
    assert isinstance(builder, SemEval2010Task8) and builder.label2id == own


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Other": None}, r"row Other: the label is missing"),
        ({"Others": 3}, "row Others: this is none of the task's labels"),
        ({"Other": 19}, "row Other: expected a number below 19, found 19"),
        ({"Other": True}, "row Other: expected a number below 19, found true"),
        ({"Other": 3}, "line 1: two labels have the same number"),
    ],
)
def test_wrong_label_numbers_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    numbers = {label: i for i, label in enumerate(LABELS)} | change
    path = tmp_path / "rel2id.json"
    path.write_text(json.dumps({label: number for label, number in numbers.items() if number is not None}))
    with pytest.raises(InvalidRowError, match=rf"rel2id\.json, {reason}"):
        read_label_numbers(path)
    path.write_text("[]")
    with pytest.raises(InvalidRowError, match=r"expected an object of label: number, found \[\]"):
        read_label_numbers(path)


def test_real_files(data_dir: Path) -> None:
    folder = data_dir / "semeval2010"
    counts = {}
    for split, file in (("train", "train.txt"), ("validation", "val.txt"), ("test", "test.txt")):
        records = load_records("semeval:opennre", data_dir=folder, split=split)
        counts[split] = Counter(records["relation"])
        assert records.to_list() == load_records(folder / file).to_list(), "the builder adds nothing but the check"
    assert [count.total() for count in counts.values()] == [6507, 1493, 2717]
    assert sum(counts.values(), Counter()).keys() == set(LABELS)
    builder = records_builder("semeval:opennre", data_dir=folder)
    assert isinstance(builder, SemEval2010Task8)
    assert builder.label2id == json.loads((folder / "rel2id.json").read_text())
