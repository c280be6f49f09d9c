"""SemEval-2010 Task 8, as OpenNRE's JSON lines or in the task's own files.

Source: Hendrickx et al., "SemEval-2010 Task 8: Multi-Way Classification of Semantic Relations Between Pairs of
Nominals", SemEval 2010 (CC BY 3.0). Nine relations, each in two directions, and ``Other``.

The task's own files hold, for each sentence, a line with its number and its text in quotes, a line with its label, a
line with a comment, and a blank line::

    17<tab>"The <e1>key</e1> hung on a <e2>ring</e2>."
    Other
    Comment:

The entity tagged ``e1`` is the head and ``e2`` the tail, whichever way the relation points. The text becomes tokens as
all text does, see :func:`~tkre_hf.data.schema.tokenize_text`; the JSON lines have other tokens, in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tkre_hf.data import jsonl
from tkre_hf.data.builder import PublishedConfig, RecordsBuilder
from tkre_hf.data.reading import (
    RowView,
    UniqueIds,
    decode,
    read_bytes,
    read_json,
    read_json_lines,
    record_or_error,
    shorten,
)
from tkre_hf.data.schema import CharSpan, Record
from tkre_hf.errors import InvalidRowError

NA_LABEL = "Other"
RELATIONS = (
    "Cause-Effect",
    "Component-Whole",
    "Content-Container",
    "Entity-Destination",
    "Entity-Origin",
    "Instrument-Agency",
    "Member-Collection",
    "Message-Topic",
    "Product-Producer",
)
LABELS = (NA_LABEL, *(f"{relation}({ends})" for relation in RELATIONS for ends in ("e1,e2", "e2,e1")))
LABEL_NUMBERS = "rel2id.json"

_TAG = re.compile(r"<(/?)e([12])>")
_FIRST_LINE = re.compile(r"(\d+)\t(.*)")
_COMMENT = "Comment:"


@dataclass
class SemEvalConfig(PublishedConfig):
    """Which files of the task to read, and whether they are the task's own.

    Args:
        raw: Whether they hold tagged text, where otherwise they are JSON lines.
    """

    raw: bool = False


class SemEval2010Task8(RecordsBuilder):
    """SemEval-2010 Task 8 as records; a label is one of ``LABELS``, and ``Other`` the class without a relation.

    Configurations: ``opennre`` (``train.txt``, ``val.txt`` and ``test.txt`` in OpenNRE's JSON lines; ``id`` is the
    file and line) and ``raw`` (the task's ``TRAIN_FILE.TXT`` and ``TEST_FILE_FULL.TXT``; ``id`` is the task's number).

    Example::

        builder = SemEval2010Task8(config_name="raw", data_dir="SemEval2010_task8_all_data")
        builder.download_and_prepare()
        test = builder.as_dataset("test")
    """

    VERSION = "1.0.0"
    BUILDER_CONFIG_CLASS = SemEvalConfig
    BUILDER_CONFIGS = [
        SemEvalConfig(
            name="opennre",
            split_files={"train": "train.txt", "validation": "val.txt", "test": "test.txt"},
            publisher="SemEval-2010 Task 8 as OpenNRE's JSON lines comes with https://github.com/zjunlp/KnowPrompt; "
            "give as data_dir the folder with its train.txt, val.txt and test.txt",
        ),
        SemEvalConfig(
            name="raw",
            raw=True,
            split_files={
                "train": "SemEval2010_task8_training/TRAIN_FILE.TXT",
                "test": "SemEval2010_task8_testing_keys/TEST_FILE_FULL.TXT",
            },
            publisher="these are files of SemEval-2010 Task 8's own archive, SemEval2010_task8_all_data; give as "
            "data_dir the unpacked archive, or the folder that holds the files themselves",
        ),
    ]
    config: SemEvalConfig

    def read(self, path: Path, ids: UniqueIds) -> Iterator[Record | InvalidRowError]:
        for row in read_tagged(path) if self.config.raw else read_json_lines(path):
            yield record_or_error(row, parse_row, ids)

    @cached_property
    def label2id(self) -> dict[str, int]:
        """The number of each label: ``rel2id.json``'s where the folder has one, otherwise its place in ``LABELS``.

        Raises:
            InvalidRowError: The file does not number the task's labels from 0 on, each once.
        """
        file = Path(self.config.data_dir or "", LABEL_NUMBERS)
        found = self.config.data_dir is not None and file.is_file()
        return read_label_numbers(file) if found else {label: i for i, label in enumerate(LABELS)}


def parse_row(row: RowView) -> Record:
    """Turns a row of either form into a record.

    Raises:
        InvalidRowError: A field is wrong, or the label is none of the task's.
    """
    label = row.get("relation", str)
    if label not in LABELS:
        raise row.error("relation", f"{label!r} is none of the task's {len(LABELS)} labels, such as {LABELS[1]!r}")
    return jsonl.parse_row(row)


def read_tagged(path: Path) -> Iterator[RowView | InvalidRowError]:
    """Reads a file of the task's own format; a row is known by the line of its sentence.

    Yields:
        For each sentence its row (``id``, ``text``, ``head``, ``tail``, ``relation``; spans in characters), or the
        error that stands in its place.
    """
    block: list[bytes] = []
    # A blank line more, so that the last sentence has one after it too.
    for number, raw in enumerate([*read_bytes(path).split(b"\n"), b""], 1):
        if line := raw.strip():
            block.append(line)
        elif block:
            try:
                yield _parse_block(path, number - len(block), block)
            except InvalidRowError as error:
                yield error
            block = []


def split_tags(row: RowView, text: str) -> tuple[str, CharSpan, CharSpan]:
    """Takes the tags out of a sentence.

    Args:
        row: The row, for the error.
        text: The sentence, with one ``<e1>...</e1>`` and one ``<e2>...</e2>``.

    Returns:
        The sentence without tags, and the character spans of ``e1`` and ``e2`` in it.

    Raises:
        InvalidRowError: A tag is missing, stands twice or is closed before it is opened.
    """
    places: dict[str, int] = {}
    parts: list[str] = []
    end = 0
    for tag in _TAG.finditer(text):
        if tag[0] in places:
            raise row.error(f"e{tag[2]}", f"the tag {tag[0]} stands twice")
        parts.append(text[end : tag.start()])
        end = tag.end()
        places[tag[0]] = sum(map(len, parts))
    spans = []
    for entity in ("e1", "e2"):
        opened, closed = f"<{entity}>", f"</{entity}>"
        for name in (opened, closed):
            if name not in places:
                raise row.error(entity, f"the tag {name} is missing")
        if text.index(closed) < text.index(opened):
            raise row.error(entity, f"the tag {closed} stands before {opened}")
        spans.append((places[opened], places[closed]))
    return "".join([*parts, text[end:]]), spans[0], spans[1]


def read_label_numbers(path: Path) -> dict[str, int]:
    """Reads ``rel2id.json``.

    Raises:
        InvalidRowError: It does not number the task's labels from 0 on, each once.
    """
    numbers = read_json(path)
    if not isinstance(numbers, dict):
        raise InvalidRowError(path, 1, "", f"expected an object of label: number, found {shorten(numbers)}")
    for label in LABELS:
        if label not in numbers:
            raise InvalidRowError(path, label, "", "the label is missing")
    for label, number in numbers.items():
        if label not in LABELS:
            raise InvalidRowError(path, label, "", "this is none of the task's labels")
        if type(number) is not int or not 0 <= number < len(LABELS):
            raise InvalidRowError(path, label, "", f"expected a number below {len(LABELS)}, found {shorten(number)}")
    if len(set(numbers.values())) < len(LABELS):
        raise InvalidRowError(path, 1, "", "two labels have the same number")
    return numbers


def _parse_block(path: Path, line: int, raw: list[bytes]) -> RowView:
    row = RowView(path, line, {})
    block = [decode(path, line + i, part) for i, part in enumerate(raw)]
    first = _FIRST_LINE.fullmatch(block[0])
    if first is None:
        raise row.error("", f"expected a number, a tab and a sentence, found {shorten(block[0])}")
    if len(block) < 2 or block[1].startswith(_COMMENT):
        raise row.error("relation", "the sentence has no label in the line below; TEST_FILE_FULL.TXT has the test's")
    if len(block) > 2 and not block[2].startswith(_COMMENT):
        raise row.error("", f"expected '{_COMMENT}' in its third line, found {shorten(block[2])}")
    if any(_FIRST_LINE.fullmatch(later) for later in block[1:]):
        raise row.error("", "the blank line before the next sentence is missing")
    sentence = first[2].strip()
    # Only the quotes around the whole sentence are the format's; those within are its own.
    if len(sentence) > 1 and sentence[0] == sentence[-1] == '"':
        sentence = sentence[1:-1]
    text, head, tail = split_tags(row, sentence)
    for entity, (start, end) in {"e1": head, "e2": tail}.items():
        if not text[start:end].strip():
            raise row.error(entity, "there is no word between its tags")
    return RowView(
        path, line, {"id": first[1], "text": text, "head": list(head), "tail": list(tail), "relation": block[1]}
    )
