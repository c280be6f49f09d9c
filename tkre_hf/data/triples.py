"""From triples to a network: which mentions are one node, and which triples one edge.

Two mentions are one node if their ``kb_id`` is the same; or, without one, their type and their name are, where names
that differ in case, in white space, or in how Unicode spells them (NFKC) are the same. Triples with the same ends and
relation are one edge, which counts them and keeps the best of their scores.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tkre_hf.data.hin import HINTables
from tkre_hf.errors import InvalidRowError

# The type of a node of which nothing but its name is known.
UNTYPED = "entity"

Key = tuple[str, str, str]


def node_key(entity: Mapping[str, Any]) -> Key:
    """What two mentions have in common if, and only if, they are one node.

    Args:
        entity: With ``kb_id``, or ``name`` and perhaps ``type``.
    """
    if kb_id := str(entity.get("kb_id") or ""):
        return kb_id, "", ""
    name = " ".join(unicodedata.normalize("NFKC", str(entity.get("name") or "")).casefold().split())
    return "", name, str(entity.get("type") or "")


@dataclass
class _Node:
    """What the mentions of a node said of it, how often each."""

    number: int
    id: str
    names: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)


class NetworkBuilder:
    """Takes triples one at a time, and keeps of them no more than the network."""

    def __init__(self) -> None:
        self._nodes: dict[Key, _Node] = {}
        self._ids: set[str] = set()
        self._edges: dict[tuple[int, int, str], tuple[int, float]] = {}

    def add(self, triple: Mapping[str, Any], file: str = "triples", row: int | str = "") -> tuple[str, str]:
        """Adds a triple.

        Args:
            triple: ``head``, ``relation``, ``tail`` and perhaps ``score``; head and tail are a name, or a mapping with
                ``name`` and perhaps ``type`` and ``kb_id``.
            file: Where it comes from, for the error. ``row`` likewise.

        Returns:
            The ids of the nodes that are its head and its tail: the ``kb_id``; or the name as the first mention spells
            it, with the type in brackets if there is one.

        Raises:
            InvalidRowError: It lacks a field.
        """
        head, tail = (self._node(triple, role, file, row) for role in ("head", "tail"))
        relation, score = triple.get("relation"), triple.get("score")
        if not isinstance(relation, str) or not relation:
            raise InvalidRowError(file, row, "relation", f"expected a name, found {relation!r}")
        edge = head.number, tail.number, relation
        count, best = self._edges.get(edge, (0, np.nan))
        self._edges[edge] = count + 1, float(np.fmax(best, np.nan if score is None else score))
        return head.id, tail.id

    def tables(self) -> HINTables:
        """The network so far; a node has the name and the type that its mentions gave it most often."""
        nodes = list(self._nodes.values())
        types = [_most_common(node.types) or UNTYPED for node in nodes]
        node_types = sorted(set(types))
        edge_types = sorted({relation for *_, relation in self._edges})
        place = {name: i for i, name in enumerate(edge_types)}
        columns = np.array([(src, dst, place[kind]) for src, dst, kind in self._edges], dtype=np.int64).reshape(-1, 3)
        scores = np.array([score for _, score in self._edges.values()], dtype=np.float32)
        return HINTables(
            node_ids=[node.id for node in nodes],
            node_types=node_types,
            node_type=np.array([node_types.index(type) for type in types], dtype=np.int64),
            edge_types=edge_types,
            src=columns[:, 0],
            dst=columns[:, 1],
            edge_type=columns[:, 2],
            names=[_most_common(node.names) for node in nodes],
            edge_counts=np.array([count for count, _ in self._edges.values()], dtype=np.int64),
            edge_scores=None if np.isnan(scores).all() else scores,
        )

    def _node(self, triple: Mapping[str, Any], role: str, file: str, row: int | str) -> _Node:
        entity = triple.get(role)
        entity = {"name": entity} if isinstance(entity, str) else entity
        if not isinstance(entity, Mapping) or not (entity.get("kb_id") or entity.get("name")):
            raise InvalidRowError(file, row, role, f"expected a name or an entity with one, found {entity!r}")
        # A name that spans lines of its text is a name in one line.
        name, type = " ".join(str(entity.get("name") or "").split()), str(entity.get("type") or "")
        key = node_key(entity)
        node = self._nodes.get(key)
        if node is None:
            id = unique = key[0] or (f"{name} ({type})" if type else name)
            number = 2
            while unique in self._ids:  # somebody's name may be another's kb_id
                unique, number = f"{id} #{number}", number + 1
            self._ids.add(unique)
            node = self._nodes[key] = _Node(len(self._nodes), unique)
        node.names[name] += bool(name)
        node.types[type] += bool(type)
        return node


def from_triples(triples: Iterable[Mapping[str, Any]]) -> HINTables:
    """A network from triples as the text family has them: records, or what relations were found in a text.

    A triple is as :meth:`NetworkBuilder.add` takes it. A node's type is ``entity`` where it isn't said.

    Raises:
        InvalidRowError: A triple lacks a field.
    """
    builder = NetworkBuilder()
    for row, triple in enumerate(triples):
        builder.add(triple, row=str(row))
    return builder.tables()


def _most_common(counts: Counter[str]) -> str:
    """Of several the first that came."""
    return max(counts, key=lambda value: counts[value]) if counts else ""
