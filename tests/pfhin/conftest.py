"""Small typed graphs, made here."""

from __future__ import annotations

import numpy as np
import pytest

from tkre_hf.data.hin import HINTables
from tkre_hf.pfhin.graph import HeteroGraph


def make_tables(people: int = 60, groups: int = 3, seed: int = 0, per_person: int = 4) -> HINTables:
    """People who know people of their group and live in its cities, and clubs of some of them; labelled by group."""
    rng = np.random.default_rng(seed)
    cities, clubs = 2 * groups, groups
    group = np.arange(people) % groups
    edges = []
    for person in range(people):
        mine = np.flatnonzero(group == group[person])
        for other in rng.choice(mine[mine != person], per_person, replace=False):
            edges.append((person, int(other), 1))
        edges.append((person, people + 2 * int(group[person]) + int(rng.integers(2)), 2))
        if person % 2:
            edges.append((person, people + cities + int(group[person]), 0))
    columns = np.array(edges, dtype=np.int64)
    node_type = np.repeat([2, 0, 1], [people, cities, clubs])
    ids = [f"n{i}" for i in range(len(node_type))]
    labels = np.full(len(ids), -1)
    labels[:people] = group
    order = rng.permutation(people)
    parts = np.split(order, [people // 3, people // 2])
    return HINTables(
        node_ids=ids,
        node_types=["city", "club", "person"],
        node_type=node_type,
        edge_types=["in", "knows", "lives"],
        src=columns[:, 0],
        dst=columns[:, 1],
        edge_type=columns[:, 2],
        names=[f"name {i}" for i in ids],
        labels=labels,
        label_names=[f"g{i}" for i in range(groups)],
        splits={"few": {name: np.sort(part) for name, part in zip(("train", "val", "test"), parts, strict=True)}},
    )


@pytest.fixture
def tables() -> HINTables:
    """69 nodes of three types."""
    return make_tables()


@pytest.fixture
def graph(tables: HINTables) -> HeteroGraph:
    """The graph of ``tables``."""
    return HeteroGraph.from_tables(tables)
