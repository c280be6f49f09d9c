"""To PyTorch Geometric's ``HeteroData`` and back (extra ``[pyg]``)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from tkre_hf.data.hin import EdgeTypeInfo, HINTables
from tkre_hf.data.hin_tables import sorted_names
from tkre_hf.errors import TkreError

# What a part of a scheme of splits is called: train_mask, val_mask, test_mask.
_MASK = "_mask"


def to_hetero_data(tables: HINTables) -> Any:
    """A network as ``HeteroData``: nodes by type, edges by (type, edge type, type); nothing is left out.

    Each type's nodes come in the order of their numbers and carry ``node_id`` and ``name``, and where there are any
    ``text``, ``x`` (features, NaN where a node has none), ``y`` (labels, -1 where a node has none) and ``train_mask``,
    ``val_mask``, ``test_mask``, ``(nodes,)``; of several schemes of splits ``(nodes, schemes)``. Edges carry
    ``edge_count`` and ``edge_score`` where these are known. The whole has ``label_names``, ``schemes`` (names of the
    masks' columns) and ``relations`` (of each edge type label, head_type and tail_type), where there are any.

    Raises:
        TkreError: torch_geometric isn't installed.
    """
    data = _hetero_data()()
    masks = {
        part: np.zeros((tables.num_nodes, len(tables.splits)), bool)
        for parts in tables.splits.values()
        for part in parts
    }
    for column, parts in enumerate(tables.splits.values()):
        for part, nodes in parts.items():
            masks[part][nodes, column] = True
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
        if tables.texts is not None:
            data[name].text = [tables.texts[i] for i in mine]
        for part, mask in masks.items():
            if mask[mine].any():
                data[name][f"{part}{_MASK}"] = torch.from_numpy(
                    mask[mine] if len(tables.splits) > 1 else mask[mine, 0]
                )
    for attribute, told in (
        ("label_names", list(tables.label_names)),
        ("schemes", list(tables.splits)),
        ("relations", {kind: asdict(info) for kind, info in tables.relations.items()}),
    ):
        if told:
            data[attribute] = told
    kinds = len(tables.node_types)
    code = (tables.edge_type * kinds + tables.node_type[tables.src]) * kinds + tables.node_type[tables.dst]
    for value in np.unique(code).tolist():
        mine = np.flatnonzero(code == value)
        edge, (head, tail) = value // kinds**2, divmod(value % kinds**2, kinds)
        key = (tables.node_types[head], tables.edge_types[edge], tables.node_types[tail])
        data[key].edge_index = torch.from_numpy(np.stack([place[tables.src[mine]], place[tables.dst[mine]]]))
        if tables.edge_counts is not None:
            data[key].edge_count = torch.from_numpy(tables.edge_counts[mine])
        if tables.edge_scores is not None:
            data[key].edge_score = torch.from_numpy(tables.edge_scores[mine])
    return data


def from_hetero_data(data: Any) -> HINTables:
    """A network from ``HeteroData``, whoever made it; what it may carry, :func:`to_hetero_data` says.

    A node without ``node_id`` is called ``TYPE:NUMBER``, a label without ``label_names`` by its number, and a scheme
    of splits without ``schemes`` ``split``, or ``split0``, ``split1`` …; a mask ``(nodes,)`` is
    that of all schemes.

    Raises:
        TkreError: A type's nodes can't be counted, an id comes twice, an edge's end is no node, a label has no name,
            masks aren't of a type's nodes or have a node in two parts, only some edges have counts, or some types have
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
    relations = {kind: EdgeTypeInfo(**info) for kind, info in getattr(data, "relations", {}).items()}
    edge_types = sorted_names(list({key[1] for key in data.edge_types} | set(relations)))
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
    numbers = range(int(labels.max(initial=-1)) + 1)
    label_names = getattr(data, "label_names", [str(i) for i in numbers])
    if len(label_names) < len(numbers):
        raise TkreError(f"HeteroData: label {len(numbers) - 1} has no name; label_names has {len(label_names)}")
    has_text = any("text" in data[kind] for kind in types)
    texts = [text for kind in types for text in data[kind].get("text", [""] * counts[kind])]
    return HINTables(
        node_ids=ids,
        node_types=types,
        node_type=node_type,
        edge_types=edge_types,
        src=src,
        dst=dst,
        edge_type=edge_type,
        names=names,
        texts=texts if has_text else None,
        features=_features(data, types, counts),
        labels=labels,
        label_names=list(label_names),
        splits=_splits(data, types, offsets, counts),
        relations=relations,
        edge_counts=_edge_column(data, "edge_count", np.int64),
        edge_scores=_edge_column(data, "edge_score", np.float32),
    )


def _splits(
    data: Any, types: list[str], offsets: dict[str, int], counts: dict[str, int]
) -> dict[str, dict[str, np.ndarray]]:
    """Schemes of splits from masks: by scheme and part the nodes, ascending."""
    masks = [
        (kind, name.removesuffix(_MASK), mask.numpy() if mask.dim() == 2 else mask.numpy()[:, None])
        for kind in types
        for name, mask in data[kind].items()
        if name.endswith(_MASK) and torch.is_tensor(mask) and mask.dtype == torch.bool
    ]
    width = max((mask.shape[1] for *_, mask in masks), default=0)
    names = getattr(data, "schemes", ["split"] if width == 1 else [f"split{i}" for i in range(width)])
    if len(names) != width:
        raise TkreError(f"HeteroData: schemes has {len(names)} names, and masks have {width} columns")
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for kind, part, mask in masks:
        if len(mask) != counts[kind] or mask.shape[1] not in (1, width):
            raise TkreError(
                f"HeteroData: {part}{_MASK} of {kind!r} is {mask.shape}, expected {(counts[kind], width)} or "
                f"{(counts[kind],)}"
            )
        for scheme, column in zip(names, np.broadcast_to(mask, (len(mask), width)).T, strict=True):
            if column.any():
                found.setdefault(scheme, {}).setdefault(part, []).append(offsets[kind] + np.flatnonzero(column))
    splits = {}
    for scheme, parts in found.items():
        splits[scheme] = {part: np.sort(np.concatenate(nodes)) for part, nodes in parts.items()}
        every = np.concatenate(list(splits[scheme].values()))
        if len(np.unique(every)) != len(every):
            raise TkreError(f"HeteroData: a node is in two parts of the scheme {scheme!r}")
    return splits


def _edge_column(data: Any, name: str, dtype: type) -> np.ndarray | None:
    """What each edge carries, in the order of the edges; ``None`` where none does."""
    has = [name in data[key] for key in data.edge_types]
    if not any(has):
        return None
    if not all(has):
        without = list(data.edge_types)[has.index(False)]
        raise TkreError(f"HeteroData: the edges of {without} have no {name}, though others have")
    return np.concatenate([data[key][name].numpy().astype(dtype) for key in data.edge_types])


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
