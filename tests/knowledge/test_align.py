from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tkre_hf.knowledge.align import clean_text, find_mentions, find_quote, fold, gap, nearest_pair, not_inside

TEXT = st.text(st.sampled_from("aAbBİßé'’\"“- .,\n\t\u00a0北京กिक\u0301\u200d_1"), max_size=60)


@given(st.text(max_size=80))
def test_folding_keeps_every_position(text: str) -> None:
    assert len(fold(text)) == len(text)


@given(TEXT, st.text(st.sampled_from("aAbBİßé'’- 北"), min_size=1, max_size=8))
def test_a_mention_slices_back_to_the_entity(text: str, entity: str) -> None:
    text = clean_text(text)
    spans = find_mentions(text, entity)
    for start, end in spans:
        assert fold(text[start:end]) == fold(clean_text(entity))
    assert all(left[1] <= right[0] for left, right in zip(spans, spans[1:], strict=False))


@given(TEXT, st.text(st.sampled_from("aAक北ि"), min_size=1, max_size=3))
def test_no_mention_ends_before_a_mark(text: str, entity: str) -> None:
    text = clean_text(text)
    for start, end in find_mentions(text, entity):
        for at in (start, end):
            assert at in (0, len(text)) or unicodedata.category(text[at])[0] != "M"


@given(st.lists(st.sampled_from(["ab", "Cd", "é", "x1", "北", "don't"]), min_size=1, max_size=12), st.data())
def test_words_of_a_text_are_found_where_they_stand(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    text, entity = " ".join(words), " ".join(words[start:end])
    at = len(" ".join(words[:start])) + bool(start)
    spans = find_mentions(text, entity.upper())
    assert spans and any(left <= at < right or left == at for left, right in spans)


@pytest.mark.parametrize(
    ("text", "entity", "found"),
    [
        ("Rome met Romeo in Rome.", "rome", ["Rome", "Rome"]),
        ("a concatenated cat", "cat", ["cat"]),
        ("snake_case case", "case", ["case"]),
        ("Marie  Curie\nand marie curie", "Marie Curie", ["Marie Curie", "marie curie"]),
        ("the ‘Iron Lady’ film", "'Iron Lady'", ["‘Iron Lady’"]),
        ("the Franco–German border", "Franco-German", ["Franco–German"]),
        ("他在北京工作", "北京", ["北京"]),
        ("İstanbul and Istanbul", "Istanbul", ["Istanbul"]),
        ("AT&T Inc. grew", "AT&T Inc.", ["AT&T Inc."]),
        # Vowel signs and joiners are parts of words: राम is no part of रामायण, nor ك of كِتاب, nor می of می‌خواهم.
        ("राम ने रामायण पढ़ी", "राम", ["राम"]),
        ("كِتاب", "ك", []),
        ("او می\u200cخواهم می گفت", "می", ["می"]),
        ("कि की", "क", []),
        ("e\u0323\u030c\u0331x e\u0323\u030c\u0331", "e\u0323\u030c\u0331", ["\u1eb9\u0331\u030c"]),
        ("नदी,राम।", "राम", ["राम"]),
        ("ที่กรุงเทพ", "กรุงเทพ", ["กรุงเทพ"]),
        ("๑๒ ๑", "๑", ["๑"]),
        ("nothing here", " ", []),
        ("a.b", "a*b", []),
    ],
)
def test_mentions_are_whole_words_in_any_case(text: str, entity: str, found: list[str]) -> None:
    text = clean_text(text)
    assert [text[start:end] for start, end in find_mentions(text, entity)] == found


def test_the_nearest_pair_does_not_overlap() -> None:
    assert nearest_pair([(0, 4), (50, 54)], [(20, 24), (56, 60)]) == ((50, 54), (56, 60))
    assert nearest_pair([(0, 8)], [(4, 8)]) is None
    assert nearest_pair([(0, 8), (9, 17)], [(4, 8)]) == ((9, 17), (4, 8))
    assert gap((0, 3), (3, 5)) == 0 and gap((3, 5), (0, 3)) == 0 and gap((0, 4), (3, 5)) < 0


def test_what_lies_inside_another_mention_is_no_mention() -> None:
    assert not_inside([(4, 8), (20, 24)], [(0, 8)]) == [(20, 24)]
    assert not_inside([(0, 8)], [(4, 8), (2, 9)]) == [(0, 8)] and not_inside([(4, 8)], [(4, 8)]) == []


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4)), min_size=1, max_size=5), st.data())
def test_no_pair_is_nearer_than_the_nearest(raw: list[tuple[int, int]], data: st.DataObject) -> None:
    spans = [(start, start + length) for start, length in raw]
    others = data.draw(st.lists(st.sampled_from(spans), min_size=1, max_size=5))
    pair = nearest_pair(spans, others)
    gaps = [gap(left, right) for left in spans for right in others if gap(left, right) >= 0]
    assert (pair is None) == (not gaps)
    if pair is not None:
        assert gap(*pair) == min(gaps)


TOKENS = "he did n't `` got out '' of the oven , then got out again .".split()


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("got out", [(4, 6), (12, 14)]),
        ("Got out, ", [(4, 6), (12, 14)]),
        ("didn't", [(1, 3)]),
        ("of the oven, then", [(7, 12)]),
        ("ot out", []),
        ("again!", [(14, 15)]),
        ("", []),
        ("...", []),
    ],
)
def test_a_quote_is_found_in_tokens(quote: str, found: list[tuple[int, int]]) -> None:
    assert find_quote(TOKENS, quote) == found


@given(
    st.lists(st.text(st.sampled_from("ab'., "), max_size=4), max_size=10),
    st.text(st.sampled_from("ab'., "), max_size=6),
)
def test_a_quote_found_slices_back_to_itself(tokens: list[str], quote: str) -> None:
    def bare(text: str) -> str:
        return "".join(text.split()).strip(".,;:!?'\" ")

    for start, end in find_quote(tokens, quote):
        assert 0 <= start < end <= len(tokens)
        assert bare("".join(tokens[start:end])) == bare(quote)
