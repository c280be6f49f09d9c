"""Embeddings of a graph's nodes: averaged over walks, written once as Parquet beside a faiss index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from torch import nn

from tkre_hf.errors import TkreError

from .graph import HeteroGraph
from .inputs import NodeReader, walker_for
from .modeling_pfhin import PFHINModel, PFHINPreTrainedModel
from .walks import Walker, WalkSettings

FloatArray = NDArray[np.float32]

EMBEDDINGS, INDEX = "embeddings.parquet", "embeddings.faiss"


class Neighborhoods:
    """A graph as a model reads it: walker and reader, made once for many calls.

    Args:
        model: Its configuration says how the graph is walked.
        graph: Without what is held out.
        seed: Of the walks.
        text_embeds: Each node's text vector, for a model that reads them.
        ranked: Walker and quantiles, where they are at hand already (of this graph, or of the one that edges were
            taken from).
    """

    def __init__(
        self,
        model: PFHINPreTrainedModel,
        graph: HeteroGraph,
        seed: int = 0,
        text_embeds: FloatArray | None = None,
        ranked: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> None:
        if ranked is None:
            self.walker, parts = walker_for(graph, model.config, seed)
        else:
            settings = {name: value for name, value in model.config.walk.items() if name != "rank"}
            self.walker, parts = Walker(graph, ranked[0], WalkSettings(**settings), seed), ranked[1]
        self.parts = parts
        self.reader = NodeReader(graph, parts, model.config, text_embeds)

    def inputs(self, nodes: NDArray[Any], epoch: int = 0, forbidden: NDArray[Any] | None = None) -> dict[str, Any]:
        """What ``PFHINModel`` reads of the nodes' neighbourhoods."""
        return self.reader(self.walker.sequences(np.asarray(nodes, np.int64), epoch, forbidden))


@torch.inference_mode()
def embed_nodes(
    model: PFHINPreTrainedModel,
    neighborhoods: Neighborhoods,
    nodes: NDArray[Any] | None = None,
    num_walks: int = 4,
    batch_size: int = 256,
    bf16: bool = False,
) -> FloatArray:
    """Embeds nodes, each by the mean over several neighbourhoods that were walked anew.

    Beside what the pooler gives stands the state of the node itself; both at length one, so that each counts.

    Args:
        model: Any of the family's models.
        neighborhoods: Of the graph.
        nodes: Node numbers; all by default.
        num_walks: Neighbourhoods of each.
        batch_size: Neighbourhoods at once.
        bf16: Compute in bfloat16 where that is done at all.

    Returns:
        ``(nodes, 2 · hidden)``.
    """
    base: PFHINModel = model if isinstance(model, PFHINModel) else model.pfhin  # type: ignore[assignment]
    if nodes is None:
        nodes = np.arange(neighborhoods.walker.graph.num_nodes)
    training = model.training
    model.eval()
    total = torch.zeros(len(nodes), 2 * model.config.hidden_size)
    for epoch in range(num_walks):
        for start in range(0, len(nodes), batch_size):
            inputs = neighborhoods.inputs(nodes[start : start + batch_size], epoch)
            inputs = {name: value.to(model.device) for name, value in inputs.items()}
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                outputs = base(**inputs)
            parts = (outputs.node_embeds, outputs.last_hidden_state[:, 0])
            both = torch.cat([nn.functional.normalize(part.float(), dim=-1) for part in parts], dim=-1)
            total[start : start + batch_size] += both.cpu()
    model.train(training)
    return (total / num_walks).numpy()


def export_embeddings(folder: str | Path, graph: HeteroGraph, vectors: FloatArray) -> Path:
    """Writes embeddings, with ids, types and names, and a faiss index of their cosines.

    Args:
        folder: Is made where it isn't there.
        graph: Whose nodes they are of.
        vectors: ``(nodes, size)``.

    Returns:
        The Parquet file; the index stands beside it.

    Raises:
        TkreError: faiss isn't installed.
        ValueError: There aren't as many as nodes.
    """
    if len(vectors) != graph.num_nodes:
        raise ValueError(f"{len(vectors)} vectors for {graph.num_nodes} nodes")
    faiss = import_faiss()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.ascontiguousarray(vectors, np.float32)
    size = vectors.shape[1]
    columns = {
        "node_id": pa.array(graph.node_ids or [str(i) for i in range(len(vectors))], pa.string()),
        "node_type": pa.array([graph.node_types[i] for i in graph.node_type], pa.string()),
        "name": pa.array(graph.names or [""] * len(vectors), pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), size),
    }
    pyarrow.parquet.write_table(pa.table(columns), folder / EMBEDDINGS)
    index = faiss.IndexFlatIP(size)
    index.add(unit_rows(vectors))
    faiss.write_index(index, str(folder / INDEX))
    return folder / EMBEDDINGS


class EmbeddingTable:
    """What :func:`export_embeddings` wrote, to be searched.

    Args:
        folder: Holds both files.

    Raises:
        TkreError: It doesn't, or faiss isn't installed.
    """

    def __init__(self, folder: str | Path) -> None:
        faiss = import_faiss()
        folder = Path(folder)
        for name in (EMBEDDINGS, INDEX):
            if not (folder / name).exists():
                raise TkreError(f"{folder} holds no {name}: write it with tkre hin embed")
        table = pyarrow.parquet.read_table(folder / EMBEDDINGS)
        self.node_ids, self.node_types, self.names = (
            table.column(name).to_pylist() for name in ("node_id", "node_type", "name")
        )
        column = table.column("embedding").combine_chunks()
        self.vectors = column.flatten().to_numpy().reshape(len(self.node_ids), -1)
        self._index = faiss.read_index(str(folder / INDEX))

    def similar(self, node_id: str, k: int = 10, same_type: bool = True) -> list[tuple[str, str, float]]:
        """The nodes most similar to one.

        Args:
            node_id: Its id, or its name where that is one node's alone.
            k: How many.
            same_type: Only nodes of its type.

        Returns:
            Id, name and cosine of each, the most similar first.

        Raises:
            TkreError: There is no such node, or several have the name.
        """
        number = find_node(self.node_ids, self.names, node_id)
        wanted = min(len(self.node_ids), k + 1)
        while True:
            cosines, nodes = self._index.search(unit_rows(self.vectors[number : number + 1]), wanted)
            rows = [
                (self.node_ids[i], self.names[i], float(cosine))
                for i, cosine in zip(nodes[0].tolist(), cosines[0].tolist(), strict=True)
                if i != number and (not same_type or self.node_types[i] == self.node_types[number])
            ]
            if len(rows) >= k or wanted == len(self.node_ids):
                return rows[:k]
            wanted = min(len(self.node_ids), 4 * wanted)


def find_node(node_ids: Sequence[str], names: Sequence[str], wanted: str) -> int:
    """The number of a node, by its id or by a name that is one node's alone.

    Raises:
        TkreError: There is no such node, or several have the name.
    """
    if wanted in node_ids:
        return node_ids.index(wanted)
    found = [i for i, name in enumerate(names) if name == wanted]
    if len(found) != 1:
        raise TkreError(f"{wanted!r} is {'no' if not found else 'the name of more than one'} node")
    return found[0]


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Rows at length one; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def import_faiss() -> Any:
    """faiss.

    Raises:
        TkreError: It isn't installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise TkreError("similarity search needs faiss: pip install 'tkre-hf[hin]'") from error
    return faiss
