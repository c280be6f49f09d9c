from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.knowledge.servers import WORDS
from tkre_hf.knowledge.align import fold
from tkre_hf.knowledge.duplicates import NearDuplicateIndex, similarity


def text(choose: random.Random) -> str:
    return " ".join(choose.choice(WORDS) for _ in range(15))


@given(st.text(max_size=40), st.text(max_size=40))
def test_similarity_is_a_jaccard_index(left: str, right: str) -> None:
    assert similarity(left, left) == 1
    assert 0 <= similarity(left, right) == similarity(right, left) <= 1


WORD = st.text("abcXY .,-", max_size=12) | st.text(max_size=6)


@given(WORD, WORD)
def test_similarity_is_that_of_the_sets_of_five_letters(left: str, right: str) -> None:
    def shingles(text: str) -> set[bytes]:
        letters = "".join(filter(str.isalnum, fold(text))).encode().ljust(5, b"\0")
        return {letters[i : i + 5] for i in range(len(letters) - 4)}

    a, b = shingles(left), shingles(right)
    assert similarity(left, right) == pytest.approx(len(a & b) / len(a | b))


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


@pytest.mark.parametrize("threshold", [0.2, 0.3, 0.4, 0.5, 0.6])
def test_a_low_threshold_misses_as_little(threshold: float) -> None:
    choose = random.Random(2)
    texts = [text(choose) for _ in range(200)]
    index = NearDuplicateIndex(threshold)
    for i, each in enumerate(texts):
        index.add(each, str(i))
    missed = total = 0
    for each in texts:
        words = each.split()
        for place in choose.sample(range(15), 12):
            words[place] = choose.choice(WORDS)
            if threshold <= similarity(variant := " ".join(words), each) < threshold + 0.1:
                total += 1
                missed += index.find(variant) is None
    assert total > 100 and missed <= 0.03 * total


def test_what_may_not_come_back_is_found_within_a_longer_text() -> None:
    choose = random.Random(3)
    texts = [text(choose) for _ in range(400)]
    index = NearDuplicateIndex(0.7)
    for each in texts[:200]:
        index.add(each, "excluded")
    for each in texts[200:300]:
        index.add(each, "sample")
    for each in texts[:200]:
        longer = f"{text(choose)} {each.upper()}, {text(choose)}"
        match = index.find(longer)
        assert match is not None and match.label == "excluded" and match.similarity == 1
        assert similarity(longer, each) < 0.5
    # Of two samples one may hold the other's words; a row that was not added, and half of one, are no copies.
    assert index.find(f"{texts[250]} {text(choose)} {text(choose)}") is None
    assert all(index.find(each) is None for each in texts[300:])
    assert index.find(" ".join(texts[0].split()[:7] + text(choose).split())) is None
    # Rows may be added later, too.
    index.add(texts[399], "demonstration")
    assert index.find(f"{text(choose)} {texts[399]}") == ("demonstration", 1.0) and len(index) == 301


@given(st.lists(st.text(st.sampled_from("abc "), max_size=30), min_size=1, max_size=6), st.text("abc", max_size=30))
def test_rows_kept_out_are_compared_one_by_one(texts: list[str], asked: str) -> None:
    index = NearDuplicateIndex(0.5)
    for each in texts:
        index.add(each, "excluded")
    match = index.find(asked)
    grams = [{each[i : i + 5] for i in range(max(len(each) - 4, 1))} for each in ("".join(t.split()) for t in texts)]
    mine = {asked[i : i + 5] for i in range(max(len(asked) - 4, 1))}
    held = [len(mine & each) / len(each) for each in grams]
    like = [
        share
        for share, each in zip(held, grams, strict=True)
        if share >= 0.7 or 2 * len(mine & each) >= len(mine | each)
    ]
    assert match == (("excluded", max(like)) if like else None)


@pytest.mark.parametrize("threshold", [0, -1, 0.05, 1.1])
def test_a_threshold_is_a_share(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        NearDuplicateIndex(threshold)
