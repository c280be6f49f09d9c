"""To HeteroData and back: the same nodes, edges, labels and features."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tkre_hf.data.hin import HINTables
from tkre_hf.errors import TkreError
from tkre_hf.pfhin.pyg import from_hetero_data, to_hetero_data


def edges(tables: HINTables) -> list[tuple[str, str, str]]:
    ids, names = tables.node_ids, tables.edge_types
    columns = zip(tables.src, tables.dst, tables.edge_type, strict=True)
    return sorted((ids[s], ids[d], names[e]) for s, d, e in columns)


def test_there_and_back(tables: HINTables) -> None:
    pytest.importorskip("torch_geometric")
    tables.features = np.full((tables.num_nodes, 2), np.nan, np.float32)
    tables.features[:60] = 1.5
    # One edge type between nodes of several types is several in HeteroData, and one again.
    tables.edge_type[0], tables.dst[0] = 0, 3
    data = to_hetero_data(tables)
    assert data["person"].num_nodes == 60 and data["city"].num_nodes == 6
    assert {key for key in data.edge_types if key[1] == "in"} == {("person", "in", "club"), ("person", "in", "person")}
    again = from_hetero_data(data)
    assert edges(again) == edges(tables)
    order = [again.node_ids.index(id) for id in tables.node_ids]
    assert [again.names[i] for i in order] == tables.names
    assert [again.node_types[again.node_type[i]] for i in order] == [tables.node_types[i] for i in tables.node_type]
    np.testing.assert_array_equal(again.labels[order], tables.labels)
    assert again.features is not None
    np.testing.assert_array_equal(again.features[order], tables.features)


def test_what_is_wrong_in_it_is_said(tables: HINTables) -> None:
    pytest.importorskip("torch_geometric")
    data = to_hetero_data(tables)
    data["person", "lives", "city"].edge_index[1, 0] = 99
    with pytest.raises(TkreError, match="ends at no node of type 'city'"):
        from_hetero_data(data)
    data = to_hetero_data(tables)
    data["city"].node_id[0] = data["city"].node_id[1]
    with pytest.raises(TkreError, match="a node_id comes twice"):
        from_hetero_data(data)


def test_without_torch_geometric_the_error_says_what_to_do(tables: HINTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(TkreError, match=r"pip install 'tkre-hf\[pyg\]'"):
        to_hetero_data(tables)
