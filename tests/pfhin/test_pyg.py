"""To HeteroData and back: the same nodes, edges, labels and features."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from tkre_hf.data.hin import EdgeTypeInfo, HINTables
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


def test_nothing_is_lost_on_the_way(tables: HINTables) -> None:
    pytest.importorskip("torch_geometric")
    tables.texts = ["", *(f"text {i}" for i in range(1, tables.num_nodes))]
    tables.edge_counts = np.arange(1, len(tables.src) + 1)
    tables.edge_scores = np.linspace(0, 1, len(tables.src), dtype=np.float32)
    tables.edge_scores[4] = np.nan
    # A type that no edge has; another scheme, which has a city and no validation.
    tables.edge_types.insert(0, "hates")
    tables.edge_type += 1
    tables.relations = {kind: EdgeTypeInfo(kind.title(), "person") for kind in tables.edge_types}
    tables.labels[62] = 1
    tables.splits["other"] = {"train": np.array([2, 62]), "test": np.array([5])}
    data = to_hetero_data(tables)
    person = data["person"]
    assert person.train_mask.shape == (60, 2) and person.train_mask.sum(0).tolist() == [20, 1]
    assert "val_mask" not in data["city"] and data["city"].train_mask[:, 1].nonzero().tolist() == [[2]]
    assert data.label_names == ["g0", "g1", "g2"] and data.schemes == ["few", "other"]
    again = from_hetero_data(data)
    order = np.array([again.node_ids.index(id) for id in tables.node_ids])
    assert [(again.texts or [])[i] for i in order] == tables.texts
    assert (again.edge_types, again.label_names) == (tables.edge_types, tables.label_names)
    assert again.relations == tables.relations
    for scheme, parts in tables.splits.items():
        assert set(again.splits[scheme]) == set(parts)
        for part, nodes in parts.items():
            np.testing.assert_array_equal(again.splits[scheme][part], np.sort(order[nodes]))

    def told(network: HINTables) -> dict[tuple[str, str, str], tuple[int, float]]:
        assert network.edge_counts is not None and network.edge_scores is not None
        ids, names = network.node_ids, network.edge_types
        ends = zip(network.src, network.dst, network.edge_type, strict=True)
        values = zip(network.edge_counts.tolist(), np.nan_to_num(network.edge_scores, nan=-1).tolist(), strict=True)
        return dict(zip([(ids[s], ids[d], names[e]) for s, d, e in ends], values, strict=True))

    assert told(again) == told(tables)


def test_masks_of_others_are_schemes(tables: HINTables) -> None:
    pytest.importorskip("torch_geometric")
    data = to_hetero_data(tables)
    assert data["person"].test_mask.shape == (60,)
    del data.schemes, data.label_names
    again = from_hetero_data(data)
    assert list(again.splits) == ["split"] and again.label_names == ["0", "1", "2"]
    # As in WikiCS: several splits, and one set of test nodes for all.
    train = data["person"].train_mask
    data["person"].train_mask = torch.stack([train, torch.zeros_like(train)], dim=1)
    splits = from_hetero_data(data).splits
    assert {name: sorted(parts) for name, parts in splits.items()} == {
        "split0": ["test", "train", "val"],
        "split1": ["test", "val"],
    }
    # A type without nodes has no node in any part.
    data["river"].num_nodes, data["river"].train_mask = 0, torch.zeros(0, dtype=torch.bool)
    assert set(from_hetero_data(data).splits) == set(splits)
    del data["river"]
    for change, message in (
        ({"val_mask": train}, "a node is in two parts of the scheme 'split0'"),
        ({"val_mask": train[:5]}, r"val_mask of 'person' is \(5, 1\), expected \(60, 2\) or \(60,\)"),
    ):
        wrong = data.clone()
        wrong["person"].update(change)
        with pytest.raises(TkreError, match=message):
            from_hetero_data(wrong)
    data.label_names = ["one"]
    with pytest.raises(TkreError, match="label 2 has no name"):
        from_hetero_data(data)
    data.label_names = ["one", "two", "three"]
    data["person", "lives", "city"].edge_count = torch.ones(60)
    with pytest.raises(TkreError, match="have no edge_count, though others have"):
        from_hetero_data(data)


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
