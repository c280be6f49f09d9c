"""What a training set repeats of a test set."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tkre_hf.knowledge.overlap import Overlap, find_overlap

TEXT = "the old bridge over the river was built by a company from the north in the last century"


def rows(*texts: str) -> list[dict[str, Any]]:
    return [{"tokens": text.split()} for text in texts]


def test_copies_near_duplicates_and_phrases() -> None:
    near = TEXT.replace("company", "firm").replace("last", "past")
    phrase = "it is said that The old bridge over the river was built again while people were asleep in their beds"
    other = "a violin teacher explained to her pupils how the bow is held and why it must be tightened"
    found = find_overlap(rows(TEXT.upper() + " .", near, phrase, other), rows("something else", TEXT))
    assert found == Overlap(rows=4, copies=1, near_duplicates=2, phrases=3)


def test_a_phrase_is_of_words_that_follow_each_other() -> None:
    words = TEXT.split()[:8]
    assert find_overlap(rows(" ".join(words)), rows(TEXT)).phrases == 1
    assert find_overlap(rows(" , ".join(words)), rows(TEXT)).phrases == 1  # signs are no words
    assert find_overlap(rows(" ".join(words[:7])), rows(TEXT)).phrases == 0
    assert find_overlap(rows(" ".join(words[:7])), rows(TEXT), words=7).phrases == 1


@given(st.lists(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12), max_size=5))
def test_any_words_are_a_copy_of_themselves_or_of_nothing(texts: list[list[str]]) -> None:
    records = [{"tokens": tokens} for tokens in texts]
    found = find_overlap(records, records)
    assert found.rows == len(records) and found.copies <= found.near_duplicates <= found.rows
    assert find_overlap(records, []) == Overlap(len(records), 0, 0, 0)
