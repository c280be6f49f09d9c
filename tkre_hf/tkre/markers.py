"""Entity markers: how head and tail are shown to the encoder.

The five strategies of Zhou and Chen, "An Improved Baseline for Sentence-level Relation Extraction" (AACL 2022),
section 3.2. A strategy says which pieces stand before and after an entity's words, and whether the words stay; the
processor turns pieces into token ids. Copied beside a checkpoint with ``processing_tkre.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ROLES = ("head", "tail")
_SHORT = ("S", "O")
_MASK = ("SUBJ", "OBJ")
_PUNCT = ("@", "#")
_TYPE_PUNCT = ("*", "^")


@dataclass(frozen=True)
class MarkerStrategy:
    """How an entity is shown.

    Args:
        name: The name in configurations.
        keeps_words: Whether the entity's own words stay.
        typed: Whether the entity's type is shown.
        special: Whether the markers are new tokens of the vocabulary; punctuation otherwise.
    """

    name: str
    keeps_words: bool
    typed: bool
    special: bool

    def special_tokens(self, entity_types: Sequence[str] = ()) -> dict[str, str]:
        """The tokens to add to the vocabulary, in a fixed order, those without a type first.

        Returns:
            For each token the punctuation whose embedding it starts from, which the encoder's own pre-training knew.
        """
        if not self.special:
            return {}
        types = ["", *entity_types] if self.typed else [""]
        return {
            token: _PUNCT[role]
            for type in types
            for role in (0, 1)
            for pieces in self._pieces(role, type)
            for token in pieces
        }

    def before(self, role: int, type: str = "") -> list[str]:
        """The pieces before the words of the head (``role`` 0) or the tail (1)."""
        return self._pieces(role, type if self.typed else "")[0]

    def after(self, role: int, type: str = "") -> list[str]:
        """The pieces after the words of the head (``role`` 0) or the tail (1)."""
        return self._pieces(role, type if self.typed else "")[1]

    def _pieces(self, role: int, type: str) -> tuple[list[str], list[str]]:
        if not self.keeps_words:
            return [f"[{_MASK[role]}-{type}]" if type else f"[{_MASK[role]}]"], []
        if not self.special:
            mark = _PUNCT[role]
            # A type is read as plain words, so that any type will do: "GEOPOLITICAL_ENTITY" is two of them.
            words = [_TYPE_PUNCT[role], *type.lower().replace("_", " ").split(), _TYPE_PUNCT[role]] if type else []
            return [mark, *words], [mark]
        if self.typed:
            name = f"{_SHORT[role]}:{type}" if type else _SHORT[role]
            return [f"<{name}>"], [f"</{name}>"]
        return [f"[E{role + 1}]"], [f"[/E{role + 1}]"]


MARKERS = {
    strategy.name: strategy
    for strategy in (
        MarkerStrategy("entity_mask", keeps_words=False, typed=True, special=True),
        MarkerStrategy("entity_marker", keeps_words=True, typed=False, special=True),
        MarkerStrategy("entity_marker_punct", keeps_words=True, typed=False, special=False),
        MarkerStrategy("typed_entity_marker", keeps_words=True, typed=True, special=True),
        MarkerStrategy("typed_entity_marker_punct", keeps_words=True, typed=True, special=False),
    )
}


def get_marker(name: str) -> MarkerStrategy:
    """The strategy of that name.

    Raises:
        ValueError: There is none.
    """
    if name not in MARKERS:
        raise ValueError(f"unknown marker strategy {name!r}; choose one of {', '.join(MARKERS)}")
    return MARKERS[name]
