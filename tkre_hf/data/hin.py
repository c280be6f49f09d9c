"""Typed networks as tables: nodes, edges, labels, splits and relations, read from a folder of CSV or Parquet files.

==================  ==========================================  ==================================================
file                columns                                     what
==================  ==========================================  ==================================================
``nodes``           node_id, node_type[, name, text, feature…]  every node once; columns that begin with ``feature``
                                                                hold numbers, all or none of a row's
``edges``           src, dst, edge_type[, count, score]         directed; both ends are node ids; how often an edge was
                                                                found in a text, and how sure the best of these is
``labels``          node_id, label                              optional; a node has one label or none
``splits``          scheme, part, node_id                       optional; a node is in one part of a scheme
``relations``       edge_type, label[, head_type, tail_type …]  optional; names of the edge types, and all there are
``links_…``         src, dst, edge_type, label                  optional; pairs to judge, 1 true, 0 false
==================  ==========================================  ==================================================

What is wrong is an error with file, row and field: a duplicate id, an edge whose end is no node, an unknown type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tkre_hf.data.hin_tables import Table, find_table, read_table, sorted_names, write_table
from tkre_hf.errors import TkreError

# A column of nodes that begins so holds numbers.
FEATURE = "feature"
# Tables that a network may lack.
_OPTIONAL = ("labels", "splits", "relations")


@dataclass(frozen=True)
class EdgeTypeInfo:
    """What ``relations`` says of an edge type.

    Args:
        label: Its name.
        head_type: The node type at the beginning of most of its edges; "" where that isn't said. It is no rule: of
            CodEx's edges one in twenty begins or ends elsewhere.
        tail_type: Likewise, at its end.
    """

    label: str
    head_type: str = ""
    tail_type: str = ""


@dataclass
class HINTables:
    """A typed network as plain arrays; nodes and types are numbered from 0 in the order of their lists.

    Args:
        node_ids: What the files call the nodes, each once.
        node_types: Names of the node types.
        node_type: Each node's type, ``(nodes,)``.
        edge_types: Names of the edge types.
        src: Where each edge begins, ``(edges,)``.
        dst: Where it ends.
        edge_type: Its type.
        names: Each node's name; "" where it has none.
        texts: Each node's text; ``None`` where no node has one.
        features: ``(nodes, features)``, NaN in the rows of nodes without; ``None`` where no node has any.
        label_names: Names of the labels.
        labels: Each node's label, ``(nodes,)``, -1 where it has none.
        splits: Scheme, then part: the nodes in it, ascending.
        relations: What is known of edge types.
        edge_counts: How often each edge was found, ``(edges,)``; ``None`` where that isn't known.
        edge_scores: The best score of each, ``(edges,)``, NaN where it has none; ``None`` where no edge has one.
    """

    node_ids: list[str]
    node_types: list[str]
    node_type: NDArray[np.int64]
    edge_types: list[str]
    src: NDArray[np.int64]
    dst: NDArray[np.int64]
    edge_type: NDArray[np.int64]
    names: list[str] = field(default_factory=list)
    texts: list[str] | None = None
    features: NDArray[np.float32] | None = None
    label_names: list[str] = field(default_factory=list)
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    splits: dict[str, dict[str, NDArray[np.int64]]] = field(default_factory=dict)
    relations: dict[str, EdgeTypeInfo] = field(default_factory=dict)
    edge_counts: NDArray[np.int64] | None = None
    edge_scores: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not self.names:
            self.names = [""] * len(self.node_ids)
        if not len(self.labels):
            self.labels = np.full(len(self.node_ids), -1, np.int64)

    @property
    def num_nodes(self) -> int:
        return len(self.node_ids)


@dataclass(frozen=True)
class Links:
    """Pairs of nodes to judge, each array ``(links,)``.

    Args:
        src: Where each link begins, by node number.
        dst: Where it ends.
        edge_type: Its type's number.
        label: 1 where it is true, 0 where not.
    """

    src: NDArray[np.int64]
    dst: NDArray[np.int64]
    edge_type: NDArray[np.int64]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.src)

    @property
    def triples(self) -> NDArray[np.int64]:
        """Head, edge type, tail, ``(links, 3)``."""
        return np.stack([self.src, self.edge_type, self.dst], axis=1)


def read_hin(
    folder: str | Path, node_types: Sequence[str] | None = None, edge_types: Sequence[str] | None = None
) -> HINTables:
    """Reads a folder of tables; which files and columns there may be is told above.

    Args:
        folder: Holds ``nodes`` and ``edges``, and perhaps the others, each as ``.csv`` or ``.parquet``.
        node_types: The node types that there may be, in the order of their numbers; those that occur by default.
        edge_types: Likewise; by default those of ``relations``, or without that file those that occur.

    Raises:
        InvalidRowError: A row is wrong; it says which, and in which file and field.
        TkreError: A table is missing, or isn't of its format.
    """
    folder = Path(folder)
    tables = {name: find_table(folder, name) for name in ("nodes", "edges", *_OPTIONAL)}
    for name in ("nodes", "edges"):
        if tables[name] is None:
            raise TkreError(f"{folder} holds neither {name}.csv nor {name}.parquet")
    nodes = read_table(_there(tables["nodes"]), ["node_id", "node_type"], ["name", "text"], FEATURE)
    nodes.filled("node_id")
    nodes.unique("node_id")
    ids = nodes.columns["node_id"]
    node_type, type_names = _types(nodes, "node_type", node_types)
    features = _read_features(nodes)

    relations: dict[str, EdgeTypeInfo] = {}
    if tables["relations"] is not None:
        relations = _read_relations(tables["relations"], type_names)
        if edge_types is None:
            edge_types = sorted_names(list(relations))
    edges = read_table(_there(tables["edges"]), ["src", "dst", "edge_type"], ["count", "score"])
    src, dst = edges.numbered("src", ids, "node id"), edges.numbered("dst", ids, "node id")
    edge_type, edge_names = _types(edges, "edge_type", edge_types)

    result = HINTables(
        node_ids=ids.to_pylist(),
        node_types=type_names,
        node_type=node_type,
        edge_types=edge_names,
        src=src,
        dst=dst,
        edge_type=edge_type,
        names=nodes.columns["name"].to_pylist() if "name" in nodes.columns else [],
        texts=nodes.columns["text"].to_pylist() if "text" in nodes.columns else None,
        features=features,
        relations=relations,
        edge_counts=_read_counts(edges) if "count" in edges.columns else None,
        edge_scores=edges.floats("score") if "score" in edges.columns else None,
    )
    if tables["labels"] is not None:
        rows = read_table(tables["labels"], ["node_id", "label"])
        rows.unique("node_id")
        place = rows.numbered("node_id", ids, "node id")
        result.labels[place], result.label_names = rows.encoded("label")
    if tables["splits"] is not None:
        rows = read_table(tables["splits"], ["scheme", "part", "node_id"])
        rows.unique("node_id", within="scheme")
        place = rows.numbered("node_id", ids, "node id")
        scheme, schemes = rows.encoded("scheme")
        part, parts = rows.encoded("part")
        for s, p in sorted(set(zip(scheme.tolist(), part.tolist(), strict=True))):
            mine = np.sort(place[(scheme == s) & (part == p)])
            result.splits.setdefault(schemes[s], {})[parts[p]] = mine
    return result


def read_links(path: str | Path, tables: HINTables) -> Links:
    """Reads pairs to judge, such as CodEx's ``links_test.csv``.

    Args:
        path: A ``.csv`` or ``.parquet`` with the columns src, dst, edge_type and label.
        tables: The network that they are of.

    Raises:
        InvalidRowError: An end is no node, the type no edge type, or the label neither 1 nor 0.
        TkreError: There is no such file, or it isn't of its format.
    """
    rows = read_table(Path(path), ["src", "dst", "edge_type", "label"])
    ids = pa.array(tables.node_ids, pa.string())
    return Links(
        src=rows.numbered("src", ids, "node id"),
        dst=rows.numbered("dst", ids, "node id"),
        edge_type=rows.numbered("edge_type", pa.array(tables.edge_types, pa.string()), "known edge type"),
        label=rows.numbered("label", pa.array(["0", "1"]), "label of a link: expected 1 or 0"),
    )


def write_hin(tables: HINTables, folder: str | Path, format: str = "csv") -> None:
    """Writes a network as :func:`read_hin` reads it, in place of one that the folder may hold in this format.

    Args:
        tables: The network.
        folder: Is made where it isn't there.
        format: ``csv`` or ``parquet``.

    Raises:
        TkreError: The format is another, or a cell has a line break, which CSV can't hold here.
    """
    if format not in ("csv", "parquet"):
        raise TkreError(f"format is {format!r}: expected csv or parquet")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.array(tables.node_ids, dtype=object)
    nodes: dict[str, Sequence[str]] = {
        "node_id": tables.node_ids,
        "node_type": [tables.node_types[i] for i in tables.node_type],
        "name": tables.names,
    }
    if tables.texts is not None:
        nodes["text"] = tables.texts
    if tables.features is not None:
        for i, column in enumerate(tables.features.T):
            nodes[f"{FEATURE}_{i}"] = _numbers(column)
    types = [tables.edge_types[i] for i in tables.edge_type]
    edges: dict[str, Sequence[str]] = {"src": list(ids[tables.src]), "dst": list(ids[tables.dst]), "edge_type": types}
    if tables.edge_counts is not None:
        edges["count"] = [str(count) for count in tables.edge_counts]
    if tables.edge_scores is not None:
        edges["score"] = _numbers(tables.edge_scores)
    written: dict[str, dict[str, Sequence[str]]] = {
        "nodes": nodes,
        "edges": edges,
    }
    labelled = np.flatnonzero(tables.labels >= 0)
    if len(labelled):
        names = [tables.label_names[i] for i in tables.labels[labelled]]
        written["labels"] = {"node_id": list(ids[labelled]), "label": names}
    rows = [(s, p, ids[i]) for s, parts in tables.splits.items() for p, nodes_ in parts.items() for i in nodes_]
    if rows:
        written["splits"] = dict(zip(("scheme", "part", "node_id"), map(list, zip(*rows, strict=True)), strict=True))
    if tables.relations:
        known = tables.relations
        written["relations"] = {
            "edge_type": list(known),
            **{key: [getattr(info, key) for info in known.values()] for key in ("label", "head_type", "tail_type")},
        }
    for name, columns in written.items():
        write_table(folder / f"{name}.{format}", columns)
    for name in set(_OPTIONAL).difference(written):
        # An earlier network's would be read as this one's.
        (folder / f"{name}.{format}").unlink(missing_ok=True)


def _numbers(column: NDArray[np.float32]) -> list[str]:
    """The shortest text that gives each float32 again; none of one that isn't there."""
    return ["" if np.isnan(value) else str(value) for value in column]


def _read_counts(edges: Table) -> NDArray[np.int64]:
    for row, cell in enumerate(edges.columns["count"].to_pylist()):
        if not (cell.isascii() and cell.isdigit() and int(cell)):
            raise edges.error(row, "count", f"expected a whole number, at least 1, found {cell!r}")
    return edges.columns["count"].cast(pa.int64()).to_numpy(zero_copy_only=False)


def _there(path: Path | None) -> Path:
    assert path is not None
    return path


def _types(table: Table, column: str, known: Sequence[str] | None) -> tuple[NDArray[np.int64], list[str]]:
    if known is None:
        return table.encoded(column)
    return table.numbered(column, pa.array(known, pa.string()), f"known {column.replace('_', ' ')}"), list(known)


def _read_relations(path: Path, node_types: Sequence[str]) -> dict[str, EdgeTypeInfo]:
    rows = read_table(path, ["edge_type", "label"], ["head_type", "tail_type", "count"])
    rows.filled("edge_type")
    rows.unique("edge_type")
    columns = {name: rows.columns[name].to_pylist() for name in rows.columns if name != "count"}
    for end in ("head_type", "tail_type"):
        for row, type in enumerate(columns.setdefault(end, [""] * len(rows))):
            if type and type not in node_types:
                raise rows.error(row, end, f"{type!r} is no known node type")
    found = zip(*(columns[name] for name in ("edge_type", "label", "head_type", "tail_type")), strict=True)
    return {name: EdgeTypeInfo(*info) for name, *info in found}


def _read_features(nodes: Table) -> NDArray[np.float32] | None:
    names = [name for name in nodes.columns if name.startswith(FEATURE)]
    if not names:
        return None
    features = np.stack([nodes.floats(name) for name in names], axis=1)
    absent = np.isnan(features)
    ragged = np.flatnonzero(absent.any(1) & ~absent.all(1))
    if len(ragged):
        row = int(ragged[0])
        raise nodes.error(row, names[int(absent[row].argmax())], "is empty, though other features of this node aren't")
    return features
