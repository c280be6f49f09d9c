from __future__ import annotations

import json
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from tkre_hf.data import RECORD_FEATURES, make_record, tokenize_text
from tkre_hf.errors import InvalidRowError

# No lone surrogates: they are no text (and are refused, see below).
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)


@st.composite
def text_and_spans(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    text = draw(texts)
    edges = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    spans = st.lists(edges.map(sorted).map(tuple).filter(lambda span: text[slice(*span)].strip() != ""), max_size=4)
    return text, draw(spans)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    tokens = draw(st.lists(words, min_size=2, max_size=12))

    def span() -> tuple[int, int]:
        start = draw(st.integers(0, len(tokens) - 1))
        return start, draw(st.integers(start + 1, len(tokens)))

    head, tail = span(), span()
    if head == tail:
        head, tail = (0, 1), (1, 2)
    return make_record(
        id=draw(words),
        tokens=tokens,
        head=head,
        tail=tail,
        relation=draw(words),
        cues=[span() for _ in range(draw(st.integers(0, 3)))],
        source=draw(st.sampled_from(["gold", "edkg", "scdg"])),
        head_type=draw(st.sampled_from(["", "PERSON"])),
        tail_kb_id=draw(st.sampled_from(["", "Q42"])),
    )


@given(text_and_spans())
def test_every_span_of_a_text_is_a_whole_number_of_tokens(case: tuple[str, list[tuple[int, int]]]) -> None:
    text, spans = case
    tokens, offsets, token_spans = tokenize_text(text, spans)
    assert [text[start:end] for start, end in offsets] == tokens
    for (start, end), (first, last) in zip(spans, token_spans, strict=True):
        assert text[offsets[first][0] : offsets[last - 1][1]] == text[start:end].strip()


@given(text_and_spans())
def test_tokens_are_all_that_is_not_white_space_and_in_order(case: tuple[str, list[tuple[int, int]]]) -> None:
    text, spans = case
    tokens, offsets, _ = tokenize_text(text, spans)
    assert "".join(tokens) == "".join(text.split())
    assert all(left[1] <= right[0] for left, right in zip(offsets, offsets[1:], strict=False))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("दिल्ली भारत की राजधानी है", ["दिल्ली", "भारत", "की", "राजधानी", "है"]),
        ("می\u200cخواهم برود", ["می\u200cخواهم", "برود"]),
        ("cafe\u0301s!", ["cafe\u0301s", "!"]),
        ("(\u0301a) 12% x_y", ["(", "\u0301", "a", ")", "12", "%", "x_y"]),
        ("9×19mm – don’t", ["9", "×", "19mm", "–", "don", "’", "t"]),
    ],
)
def test_a_letter_keeps_its_marks(text: str, tokens: list[str]) -> None:
    assert tokenize_text(text)[0] == tokens


def test_a_span_may_cut_marks_off() -> None:
    tokens, offsets, spans = tokenize_text("दिल्ली", [(0, 3)])
    assert (tokens, spans) == (["दिल", "\u094d", "ली"], [(0, 1)])
    assert offsets == [(0, 3), (3, 4), (4, 6)]


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ((2, 2), "empty"),
        ((3, 1), "reversed"),
        ((-1, 2), "outside"),
        ((2, 9), "outside"),
        ((2, 3), "white space"),
        ((True, 2), "whole numbers"),
        ((0.0, 2), "whole numbers"),
    ],
)
def test_a_wrong_character_span_is_refused(span: tuple[Any, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tokenize_text("ab cd ef", [span])


@given(records())
def test_a_record_survives_arrow_and_json(record: dict[str, Any]) -> None:
    stored = Dataset.from_list([record], features=RECORD_FEATURES)[0]
    assert stored == record
    assert json.loads(json.dumps(record)) == record


GOOD: dict[str, Any] = {"id": "1", "tokens": ["a", " ", "b"], "head": (0, 1), "tail": (2, 3), "relation": "r"}


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"head": (0, 4)}, "head", "outside"),
        ({"head": (-1, 1)}, "head", "outside"),
        ({"tail": (2, 2)}, "tail", "empty"),
        ({"tail": (2, 1)}, "tail", "reversed"),
        ({"tail": (1, 2)}, "tail", "white space"),
        ({"tail": (0, 1)}, "tail", "same span"),
        ({"tail": ("0", 1)}, "tail", "whole numbers"),
        ({"cues": [(0, 1), (3, 4)]}, r"cues\[1\]", "outside"),
        ({"tokens": []}, "tokens", "at least one word"),
        ({"tokens": ["a", 1, "b"]}, "tokens", "at least one word"),
        ({"tokens": ["a", " ", "\ud800"]}, "tokens", "surrogate"),
        ({"relation": ""}, "relation", "non-empty"),
        ({"relation": None}, "relation", "non-empty"),
        ({"source": "me"}, "source", "gold, edkg, scdg"),
        ({"head_name": "\udfff"}, "head", "surrogate"),
    ],
)
def test_a_wrong_record_names_file_row_and_field(change: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidRowError, match=rf"f\.txt, line 7, field '{field}': .*{reason}"):
        make_record(**(GOOD | change), file="f.txt", row=7)


def test_a_name_defaults_to_the_span_s_own_words() -> None:
    record = make_record(id="1", tokens=["New", "York", "is", "big"], head=(0, 2), tail=(3, 4), relation="r")
    assert record["head"]["name"] == "New York"
