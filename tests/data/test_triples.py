"""Which mentions are one node, and which triples one edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tkre_hf.data import NetworkBuilder, from_triples, load_sample, node_key, read_hin, write_hin
from tkre_hf.data.hin import HINTables
from tkre_hf.errors import InvalidRowError


def edges_of(tables: HINTables) -> list[tuple[int, int, int]]:
    return list(zip(tables.src.tolist(), tables.dst.tolist(), tables.edge_type.tolist(), strict=True))


def test_mentions_with_one_id_or_one_name_and_type_are_one_node() -> None:
    ada = {"name": "Ada", "type": "PERSON", "kb_id": "Q7259"}
    tables = from_triples(
        [
            {"head": ada, "relation": "born in", "tail": {"name": "London", "type": "", "kb_id": ""}},
            {"head": {**ada, "name": "Ada Lovelace"}, "relation": "born in", "tail": "LONDON"},
            {"head": "London", "relation": "part of", "tail": {"name": "London", "type": "REGION"}},
        ]
    )
    assert tables.node_ids == ["Q7259", "London", "London (REGION)"]
    assert tables.names == ["Ada", "London", "London"]
    assert [tables.node_types[i] for i in tables.node_type] == ["PERSON", "entity", "REGION"]
    assert edges_of(tables) == [(0, 1, 0), (1, 2, 1)]
    assert tables.edge_counts is not None and tables.edge_counts.tolist() == [2, 1] and tables.edge_scores is None


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("New  York\n", "new york", True),
        ("ﬁve", "FIVE", True),
        ("Straße", "STRASSE", True),
        ("New York", "NewYork", False),
        ({"name": "Paris", "type": "city"}, {"name": "paris", "type": "city"}, True),
        ({"name": "Paris", "type": "city"}, {"name": "Paris", "type": "person"}, False),
        ({"name": "Paris", "type": "city", "kb_id": "Q90"}, {"name": "Lutetia", "type": "", "kb_id": "Q90"}, True),
        ({"name": "Paris", "kb_id": "Q90"}, {"name": "Paris", "kb_id": "Q167646"}, False),
        ({"name": "Paris", "kb_id": "Q90"}, {"name": "Paris"}, False),
    ],
)
def test_the_rule(first: Any, second: Any, same: bool) -> None:
    entities = [{"name": entity} if isinstance(entity, str) else entity for entity in (first, second)]
    assert (node_key(entities[0]) == node_key(entities[1])) is same
    tables = from_triples([{"head": entity, "relation": "r", "tail": "other"} for entity in (first, second)])
    assert tables.num_nodes == 3 - same


def test_a_node_is_what_most_of_its_mentions_say() -> None:
    said = [("Lutetia", ""), ("Paris", "city"), ("Paris", "town"), ("", "city")]
    heads = [{"name": name, "type": type, "kb_id": "Q90"} for name, type in said]
    tables = from_triples([{"head": head, "relation": "r", "tail": "x"} for head in heads])
    assert tables.node_ids[0] == "Q90" and tables.names[0] == "Paris"
    assert tables.node_types[tables.node_type[0]] == "city"


def test_an_edge_keeps_its_best_score_and_goes_through_files(tmp_path: Path) -> None:
    builder = NetworkBuilder()
    for tail, score in (("b", 0.5), ("b", 0.75), ("B", None), ("c", None)):
        builder.add({"head": "a", "relation": "r", "tail": tail, "score": score})
    write_hin(builder.tables(), tmp_path)
    assert (tmp_path / "edges.csv").read_text() == "src,dst,edge_type,count,score\na,b,r,3,0.75\na,c,r,1,\n"
    tables = read_hin(tmp_path)
    assert tables.edge_counts is not None and tables.edge_counts.tolist() == [3, 1]
    assert tables.edge_scores is not None and np.array_equal(tables.edge_scores, [0.75, np.nan], equal_nan=True)
    (tmp_path / "edges.csv").write_text("src,dst,edge_type,count\na,b,r,1\na,c,r,-1\n")
    with pytest.raises(InvalidRowError, match=r"edges.csv, line 3, field 'count': expected a whole number"):
        read_hin(tmp_path)


def test_a_name_that_is_anothers_id_is_another_node() -> None:
    builder = NetworkBuilder()
    assert builder.add({"head": {"kb_id": "Q90"}, "relation": "r", "tail": "Q90"}) == ("Q90", "Q90 #2")
    assert builder.tables().num_nodes == 2


@pytest.mark.parametrize(
    ("triple", "message"),
    [
        ({"head": "a", "relation": "r"}, "row 0, field 'tail': expected a name"),
        ({"head": "a", "tail": "b"}, "row 0, field 'relation': expected a name"),
        ({"head": {"type": "city"}, "relation": "r", "tail": "b"}, "row 0, field 'head': expected a name"),
    ],
)
def test_a_triple_that_lacks_a_field_is_refused(triple: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRowError, match=message):
        from_triples([triple])


def test_records_are_triples() -> None:
    records = list(load_sample())[:50]
    tables = from_triples(records)
    assert {tables.edge_types[i] for i in tables.edge_type} == {row["relation"] for row in records}
