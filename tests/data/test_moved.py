"""Rows without a relation, made by moving an entity's mark to another noun."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from tkre_hf.data.moved import move_marks, with_moved_marks
from tkre_hf.data.schema import RECORD_FEATURES, check_span, make_record
from tkre_hf.errors import TkreError


def row(id: str, text: str, head: int, tail: int, relation: str = "works") -> dict[str, Any]:
    return make_record(
        id=id, tokens=text.split(), head=(head, head + 1), tail=(tail, tail + 1), relation=relation, head_type="X"
    )


ROWS = [
    row("a", "the carpenter took the plane while a friend held the board", 1, 4),
    row("b", "A Friend of the board bought the carpenter a violin", 1, 7),
    row("c", "the board of no one sang", 1, 5, "other"),
]


def test_a_mark_is_moved_to_a_word_that_is_an_entity_elsewhere() -> None:
    made = move_marks(ROWS, "none", 100)
    pairs = {(r["id"].split("-")[0], r["head"]["name"], r["tail"]["name"]) for r in made}
    # "violin" is nobody's entity; what would turn the order around is left out.
    assert pairs == {
        ("a", "carpenter", "friend"),
        ("a", "carpenter", "board"),
        ("b", "board", "carpenter"),
        ("b", "Friend", "board"),
    }
    assert {r["relation"] for r in made} == {"none"} and not any(r["cues"] for r in made)
    assert len({r["id"] for r in made}) == len(made)
    moved = next(r for r in made if r["tail"]["name"] == "friend")
    assert moved["head"] == ROWS[0]["head"] and moved["tail"]["type"] == ""


def test_which_ones_depends_on_the_seed_and_not_on_the_order() -> None:
    some = move_marks(ROWS, "none", 2, seed=3)
    assert some == move_marks(ROWS[::-1], "none", 2, seed=3) == move_marks(ROWS, "none", 100, seed=3)[:2]
    assert len({tuple(r["id"] for r in move_marks(ROWS, "none", 2, seed)) for seed in range(20)}) > 1
    assert move_marks(ROWS, "none", 0) == []


def test_they_join_the_others() -> None:
    records = Dataset.from_list(ROWS, features=RECORD_FEATURES)
    joined = with_moved_marks(records, "none", 3)
    assert joined.features == RECORD_FEATURES and list(joined.select(range(3))) == list(records) and len(joined) == 6
    with pytest.raises(TkreError, match="say with na_label"):
        with_moved_marks(records, None, 3)


WORDS = st.sampled_from(["ant", "Ant", "bee", "cow", "is", "of", "3rd", "dog"])


@given(st.lists(st.tuples(st.lists(WORDS, min_size=2, max_size=8), st.data()), max_size=4), st.integers(0, 30))
def test_every_row_made_is_a_record_of_two_entities_apart(drawn: list[tuple[list[str], Any]], count: int) -> None:
    rows = []
    for i, (tokens, data) in enumerate(drawn):
        head, tail = data.draw(st.permutations(range(len(tokens))))[:2]
        rows.append(row(str(i), " ".join(tokens), head, tail))
    for made in move_marks(rows, "none", count):
        for role in ("head", "tail"):
            check_span(made[role]["start"], made[role]["end"], len(made["tokens"]))
        assert made["head"]["start"] != made["tail"]["start"]
        assert made["tokens"] == rows[int(made["id"].split("-")[0])]["tokens"]
