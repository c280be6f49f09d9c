"""To PyTorch Geometric's ``HeteroData`` and back (extra ``[pyg]``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tkre_hf.data.hin import HINTables
from tkre_hf.errors import TkreError


def to_hetero_data(tables: HINTables) -> Any:
    """A network as ``HeteroData``: nodes by type, edges by (type, edge type, type).

    Each type's nodes come in the order of their numbers and carry ``node_id``, and where there are any ``x`` (features
    NaN where a node has none) and ``y`` (labels, -1 where a node has none).

    Raises:
        TkreError: torch_geometric isn't installed.
    """
    data = _hetero_data()()
    place = np.empty(tables.num_nodes, np.int64)
    for kind, name in enumerate(tables.node_types):
        mine = np.flatnonzero(tables.node_type == kind)
        place[mine] = np.arange(len(mine))
        data[name].num_nodes = len(mine)
        data[name].node_id = [tables.node_ids[i] for i in mine]
        data[name].name = [tables.names[i] for i in mine]
        if tables.features is not None:
            data[name].x = torch.from_numpy(tables.features[mine])
        if (tables.labels[mine] >= 0).any():
            data[name].y = torch.from_numpy(tables.labels[mine])
    kinds = len(tables.node_types)
    code = (tables.edge_type * kinds + tables.node_type[tables.src]) * kinds + tables.node_type[tables.dst]
    for value in np.unique(code).tolist():
        mine = np.flatnonzero(code == value)
        edge, (head, tail) = value // kinds**2, divmod(value % kinds**2, kinds)
        key = (tables.node_types[head], tables.edge_types[edge], tables.node_types[tail])
        data[key].edge_index = torch.from_numpy(np.stack([place[tables.src[mine]], place[tables.dst[mine]]]))
    return data


def from_hetero_data(data: Any) -> HINTables:
    """A network from ``HeteroData``, whoever made it; a node without ``node_id`` is called ``TYPE:NUMBER``.

    Raises:
        TkreError: A type's nodes can't be counted, an id comes twice, an edge's end is no node, or some types have
            features and others of another width.
    """
    _hetero_data()
    ids: list[str] = []
    names: list[str] = []
    offsets, counts = {}, {}
    types = list(data.node_types)
    for kind in types:
        count = data[kind].num_nodes
        if count is None:
            raise TkreError(f"HeteroData: how many nodes are there of type {kind!r}? Set num_nodes")
        offsets[kind], counts[kind] = len(ids), int(count)
        ids += list(data[kind].get("node_id", [f"{kind}:{i}" for i in range(count)]))
        names += list(data[kind].get("name", [""] * count))
    if len(set(ids)) != len(ids):
        raise TkreError("HeteroData: a node_id comes twice")
    node_type = np.repeat(np.arange(len(types)), [counts[kind] for kind in types])
    edge_types = sorted({key[1] for key in data.edge_types})
    columns: list[np.ndarray] = [np.zeros((3, 0), np.int64)]
    for key in data.edge_types:
        head, edge, tail = key
        index = data[key].edge_index.numpy().astype(np.int64)
        for row, end in ((index[0], head), (index[1], tail)):
            if len(row) and not (row.min() >= 0 and row.max() < counts[end]):
                raise TkreError(f"HeteroData: an edge of {key} ends at no node of type {end!r}")
        kind = np.full(index.shape[1], edge_types.index(edge))
        columns.append(np.stack([index[0] + offsets[head], index[1] + offsets[tail], kind]))
    src, dst, edge_type = np.concatenate(columns, axis=1)
    labels = np.full(len(ids), -1)
    for kind in types:
        if "y" in data[kind]:
            labels[offsets[kind] : offsets[kind] + counts[kind]] = data[kind].y.numpy()
    return HINTables(
        node_ids=ids,
        node_types=types,
        node_type=node_type,
        edge_types=edge_types,
        src=src,
        dst=dst,
        edge_type=edge_type,
        names=names,
        features=_features(data, types, counts),
        labels=labels,
        label_names=[str(i) for i in range(int(labels.max(initial=-1)) + 1)],
    )


def _features(data: Any, types: list[str], counts: dict[str, int]) -> np.ndarray | None:
    widths = {data[kind].x.shape[1] for kind in types if "x" in data[kind]}
    if not widths:
        return None
    if len(widths) > 1:
        raise TkreError(f"HeteroData: features of {' and '.join(map(str, sorted(widths)))} numbers; one width is read")
    (width,) = widths
    absent = [np.full((counts[kind], width), np.nan, np.float32) for kind in types]
    return np.concatenate(
        [
            data[kind].x.numpy().astype(np.float32) if "x" in data[kind] else empty
            for kind, empty in zip(types, absent, strict=True)
        ]
    )


def _hetero_data() -> Any:
    try:
        from torch_geometric.data import HeteroData
    except ImportError as error:
        raise TkreError("HeteroData needs torch_geometric: pip install 'tkre-hf[pyg]'") from error
    return HeteroData
