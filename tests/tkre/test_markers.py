"""Entity markers: what each strategy puts around an entity."""

from __future__ import annotations

import pytest

from tkre_hf.tkre.markers import MARKERS, get_marker


@pytest.mark.parametrize(
    ("name", "head", "tail", "untyped"),
    [
        ("entity_mask", (["[SUBJ-CITY]"], []), (["[OBJ-CITY]"], []), (["[SUBJ]"], [])),
        ("entity_marker", (["[E1]"], ["[/E1]"]), (["[E2]"], ["[/E2]"]), (["[E1]"], ["[/E1]"])),
        ("entity_marker_punct", (["@"], ["@"]), (["#"], ["#"]), (["@"], ["@"])),
        ("typed_entity_marker", (["<S:CITY>"], ["</S:CITY>"]), (["<O:CITY>"], ["</O:CITY>"]), (["<S>"], ["</S>"])),
        (
            "typed_entity_marker_punct",
            (["@", "*", "city", "*"], ["@"]),
            (["#", "^", "city", "^"], ["#"]),
            (["@"], ["@"]),
        ),
    ],
)
def test_pieces(
    name: str,
    head: tuple[list[str], list[str]],
    tail: tuple[list[str], list[str]],
    untyped: tuple[list[str], list[str]],
) -> None:
    marker = get_marker(name)
    assert marker.name == name
    for role, pieces in enumerate((head, tail)):
        assert (marker.before(role, "CITY"), marker.after(role, "CITY")) == pieces
    assert (marker.before(0), marker.after(0)) == untyped


@pytest.mark.parametrize("name", MARKERS)
def test_special_tokens_are_the_pieces_that_are_no_words(name: str) -> None:
    marker, types = get_marker(name), ["CITY", "PERSON"]
    pieces = {
        piece
        for type in ["", *types]
        for role in (0, 1)
        for piece in [*marker.before(role, type), *marker.after(role, type)]
    }
    assert set(marker.special_tokens(types)) == (pieces if marker.special else set())
    # Adding a type leaves the tokens before it where they are, so an older checkpoint's ids stay right.
    fewer, more = list(marker.special_tokens(types[:1])), list(marker.special_tokens(types))
    assert fewer == more[: len(fewer)]


def test_a_type_of_several_words_is_read_as_words() -> None:
    marker = get_marker("typed_entity_marker_punct")
    assert marker.before(0, "GEOPOLITICAL_ENTITY") == ["@", "*", "geopolitical", "entity", "*"]


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown marker strategy 'bold'; choose one of entity_mask, entity_marker"):
        get_marker("bold")
