from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.knowledge.servers import WORDS
from tkre_hf.knowledge.duplicates import NearDuplicateIndex, similarity


def text(choose: random.Random) -> str:
    return " ".join(choose.choice(WORDS) for _ in range(15))


@given(st.text(max_size=40), st.text(max_size=40))
def test_similarity_is_a_jaccard_index(left: str, right: str) -> None:
    assert similarity(left, left) == 1
    assert 0 <= similarity(left, right) == similarity(right, left) <= 1


@pytest.mark.parametrize(
    ("left", "right"),
    [("I don't know.", "I do n't know ."), ("Ann met Bob", "ANN  met, Bob!"), ("", " "), ("the “X”", 'the "X"')],
)
def test_case_spaces_and_punctuation_do_not_matter(left: str, right: str) -> None:
    assert similarity(left, right) == 1


def test_the_index_finds_what_comparing_all_pairs_finds() -> None:
    choose = random.Random(0)
    texts = [text(choose) for _ in range(300)]
    index = NearDuplicateIndex(0.7)
    for i, each in enumerate(texts):
        assert index.find_or_add(each, str(i)) is None
    missed = total = 0
    for i, each in enumerate(texts):
        words = each.split()
        for changed in range(4):
            words[changed * 3] = choose.choice(WORDS)
            variant = " ".join(words)
            expected = similarity(variant, each)
            match = index.find(variant)
            if expected >= 0.7:
                total += 1
                missed += match is None
            if match is not None:
                assert match.label == str(i) and match.similarity == expected >= 0.7
    assert total > 400 and missed <= 0.02 * total


def test_copies_are_always_found_however_many_there_are() -> None:
    choose = random.Random(1)
    texts = [text(choose) for _ in range(3_000)]
    index = NearDuplicateIndex(1.0)
    for i, each in enumerate(texts):
        index.add(each, str(i))
    assert len(index) == 3_000
    for i, each in enumerate(texts):
        match = index.find(each.upper())
        assert match is not None and match.similarity == 1 and texts[int(match.label)] == texts[i]


def test_the_seed_changes_the_hashes_and_not_the_meaning() -> None:
    for seed in range(5):
        index = NearDuplicateIndex(0.7, seed=seed)
        index.add("The old bridge crosses the river near the mill", "a")
        match = index.find("The old bridge crosses the river near the mills")
        assert match is not None and match.label == "a"
        assert index.find("Something else altogether, of no resemblance") is None


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_a_threshold_is_a_share(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        NearDuplicateIndex(threshold)
