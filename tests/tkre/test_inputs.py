"""What the pipeline reads: every form of the same sentence is the same pair, and what is wrong is named."""

from __future__ import annotations

from typing import Any

import pytest

from tkre_hf.errors import InvalidRowError
from tkre_hf.tkre.inputs import Sentence, read_input, read_support

TEXT = "Oslo is the capital of Norway."
WORDS = ["Oslo", "is", "the", "capital", "of", "Norway", "."]


def pairs(value: Any) -> list[tuple[Any, ...]]:
    sentence = read_input(value, "inputs", 0)
    assert sentence.pairs is not None
    return [tuple((end.start, end.end, end.text, end.type) for end in pair) for pair in sentence.pairs]


@pytest.mark.parametrize(
    "value",
    [
        "[E1]Oslo[/E1] is the capital of [E2]Norway[/E2].",
        "<e1>Oslo</e1> is the capital of <e2>Norway</e2>.",
        {"text": "<e1>Oslo</e1> is the capital of <e2>Norway</e2>."},
        {"text": TEXT, "head": [0, 4], "tail": (23, 29)},
        {"text": TEXT, "head": {"start": 0, "end": 4}, "tail": {"start": 23, "end": 29}},
    ],
)
def test_a_text_says_its_pair_in_many_ways(value: Any) -> None:
    assert pairs(value) == [((0, 4, "Oslo", ""), (23, 29, "Norway", ""))]
    assert read_input(value, "inputs", 0).text == TEXT


@pytest.mark.parametrize(
    "value",
    [
        {"words": WORDS, "head": [0, 1], "tail": [5, 6]},
        {"tokens": WORDS, "head": {"start": 0, "end": 1, "type": ""}, "tail": {"start": 5, "end": 6}},
        {"token": WORDS, "h": {"name": "Oslo", "pos": [0, 1]}, "t": {"name": "Norway", "pos": [5, 6]}},
    ],
)
def test_words_do_too(value: Any) -> None:
    assert pairs(value) == [((0, 1, "Oslo", ""), (5, 6, "Norway", ""))]


def test_the_tail_may_come_first_and_marks_may_hold_spaces() -> None:
    assert pairs("[E2] Norway [/E2] is ruled from [E1] Oslo[/E1]") == [((24, 28, "Oslo", ""), (1, 7, "Norway", ""))]
    assert pairs("[E1]the [E2]Oslo[/E2] Opera[/E1]") == [((0, 14, "the Oslo Opera", ""), (4, 8, "Oslo", ""))]


def test_of_entities_all_ordered_pairs_are_meant() -> None:
    entities = [[0, 4], {"start": 12, "end": 19, "entity_group": "ROLE"}, {"start": 23, "end": 29, "type": "LOC"}]
    found = [(head[2], tail[2]) for head, tail in pairs({"text": TEXT, "entities": entities})]
    names = ["Oslo", "capital", "Norway"]
    assert found == [(head, tail) for head in names for tail in names if head != tail]
    assert pairs({"text": TEXT, "entities": entities})[-1][0][3] == "LOC"
    assert pairs({"text": TEXT, "entities": [[0, 4]]}) == pairs({"text": TEXT, "entities": []}) == []


def test_types_are_kept() -> None:
    typed = {"text": TEXT, "head": [0, 4], "tail": [23, 29], "head_type": "CITY", "tail_type": "COUNTRY"}
    assert [end[3] for end in pairs(typed)[0]] == ["CITY", "COUNTRY"]


def test_what_ner_finds_has_a_place_and_no_space() -> None:
    sentence = read_input(TEXT, "inputs", 0)
    assert sentence.pairs is None
    found = sentence.with_entities(
        [{"start": 0, "end": 4, "entity_group": "LOC"}, {"start": 22, "end": 29, "entity_group": "LOC"}]
    )
    assert found.pairs is not None
    assert [(h.text, t.text, h.type) for h, t in found.pairs] == [("Oslo", "Norway", "LOC"), ("Norway", "Oslo", "LOC")]
    for wrong in ({"start": None, "end": None, "word": "Oslo"}, {"start": 40, "end": 44}):
        with pytest.raises(InvalidRowError, match="which has no place in it"):
            sentence.with_entities([wrong])


@pytest.mark.parametrize(
    ("value", "where", "reason"),
    [
        (5, "", "expected a text, or a mapping"),
        ({}, "", "expected either 'text' or 'words', found nothing"),
        ({"text": TEXT, "words": WORDS}, "", "found text, words"),
        ({"text": 7}, "text", "expected a string"),
        ({"text": " "}, "text", "expected a sentence"),
        ({"words": [], "head": [0, 1], "tail": [1, 2]}, "words", "at least one word"),
        ({"words": "Oslo", "head": [0, 1], "tail": [1, 2]}, "words", "at least one word"),
        ({"words": WORDS}, "", "words come with head and tail"),
        ({"text": TEXT, "head": [0, 4]}, "tail", "missing"),
        ({"text": TEXT, "tail": [0, 4]}, "head", "missing"),
        ({"text": TEXT, "head": [0, 4], "tail": [0, 4]}, "tail", "the head is the same span"),
        ({"text": TEXT, "head": [0, 4], "tail": [23, 31]}, "tail", "lies outside the sentence's 30 characters"),
        ({"text": TEXT, "head": [0, 4], "tail": [4, 5]}, "tail", "only white space"),
        ({"text": TEXT, "head": [4, 0], "tail": [23, 29]}, "head", "reversed"),
        ({"text": TEXT, "head": 4, "tail": [23, 29]}, "head", r"expected \[start, end\]"),
        ({"text": TEXT, "head": [0.0, 4.0], "tail": [23, 29]}, "head", "not two whole numbers"),
        ({"text": TEXT, "head": {"begin": 0}, "tail": [23, 29]}, "head", "not two whole numbers"),
        ({"text": TEXT, "head": [0, 4], "tail": [23, 29], "entities": []}, "entities", "either head and tail, or"),
        ({"text": TEXT, "entities": "Oslo"}, "entities", "expected a list of spans"),
        ({"text": TEXT, "entities": [[0, 4], [0, 4]]}, r"entities\[1\]", "stands there before"),
        ({"text": TEXT, "head": [0, 4], "tail": [23, 29], "head_type": 3}, "head_type", "expected a string"),
        ("[E1]Oslo[/E1] is big", "text", r"the marks of the tail, \[E2\] and \[/E2\], enclose no words"),
        ("[E1]Oslo is in [E2]Norway[/E2]", "text", "the marks of the head"),
        ("[/E1]Oslo[E1] is in [E2]Norway[/E2]", "text", "the marks of the head"),
        ("[E1]Oslo[/E1] [E2] [/E2]", "text", "the marks of the tail"),
        ("[E1]Oslo[/E1] [E1]is[/E1] [E2]Norway[/E2]", "text", r"the mark \[E1\] stands there twice"),
        ("[E1][E2]Oslo[/E2][/E1]", "text", "the head is the same span"),
    ],
)
def test_what_is_wrong_is_named(value: Any, where: str, reason: str) -> None:
    field = f", field '{where}'" if where else ""
    with pytest.raises(InvalidRowError, match=rf"^inputs, row \[3\]{field}: .*{reason}"):
        read_input(value, "inputs", 3)


def test_a_sentence_without_entities_is_told_what_to_do() -> None:
    with pytest.raises(InvalidRowError, match=r"row \[0\]: no entities are given: give head and tail.*\(ner\)"):
        read_input(TEXT, "inputs", 0).records()


def test_a_support_has_a_label_and_one_pair() -> None:
    marked = "[E1]Oslo[/E1] is the capital of [E2]Norway[/E2]."
    label, sentence = read_support({"text": marked, "relation": "capital"}, 0)
    assert label == "capital" and isinstance(sentence, Sentence)
    assert read_support(marked, 0, "capital")[0] == "capital"
    for value, given, reason in [
        (marked, None, r"supports, row \[2\], field 'relation': missing"),
        ({"text": marked, "relation": "spouse"}, "capital", "it is 'spouse', in a list of 'capital'"),
        ({"text": TEXT, "relation": "capital"}, None, "one head and one tail"),
        ({"text": TEXT, "entities": [[0, 4], [23, 29]], "relation": "capital"}, None, "one head and one tail"),
    ]:
        with pytest.raises(InvalidRowError, match=reason):
            read_support(value, 2, given)
