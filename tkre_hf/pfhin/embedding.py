"""Embeddings of a graph's nodes: averaged over walks, written once as Parquet beside a faiss index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tkre_hf.errors import TkreError

from .blocks import check_blocks, default_blocks
from .graph import HeteroGraph
from .inputs import NodeReader, walker_for
from .modeling_pfhin import PFHINForPreTraining, PFHINModel, PFHINPreTrainedModel
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


def embed_nodes(
    model: PFHINPreTrainedModel,
    neighborhoods: Neighborhoods,
    nodes: NDArray[Any] | None = None,
    num_walks: int = 4,
    batch_size: int = 256,
    bf16: bool = False,
    blocks: Mapping[str, float] | None = None,
) -> FloatArray:
    """Embeds nodes: what each is known by, beside what its neighbourhood, walked anew several times, says of it.

    Args:
        model: Any of the family's models.
        neighborhoods: Of the graph.
        nodes: Node numbers; all by default.
        num_walks: Neighbourhoods of each.
        batch_size: Neighbourhoods at once.
        bf16: Compute in bfloat16 where that is done at all.
        blocks: What stands side by side (:func:`embed_blocks`), and its weight;
            :func:`~tkre_hf.pfhin.blocks.default_blocks` by default.

    Returns:
        ``(nodes, size)``, the sum of the blocks' sizes.

    Raises:
        ValueError: A block is unknown, or the model hasn't got it.
    """
    blocks = default_blocks(model.config) if blocks is None else blocks
    check_blocks(blocks, model.config)
    found = embed_blocks(model, neighborhoods, tuple(blocks), nodes, num_walks, batch_size, bf16)
    return np.concatenate([np.float32(weight) * found[name] for name, weight in blocks.items()], axis=-1)


@torch.inference_mode()
def embed_blocks(
    model: PFHINPreTrainedModel,
    neighborhoods: Neighborhoods,
    names: Sequence[str],
    nodes: NDArray[Any] | None = None,
    num_walks: int = 4,
    batch_size: int = 256,
    bf16: bool = False,
) -> dict[str, FloatArray]:
    """What embeddings consist of, each part by itself.

    A block's rows are brought to length one (those of ``profile`` on average: how many edges a node has stays told)
    and averaged over the walks:

    * ``ids``: the node's own embedding;
    * ``profile``: how many edges of each type it has, through the model's matrix, against the mean of its node type;
    * ``context``: what masked node modeling holds it to be from its neighbourhood alone, itself hidden (for a model
      without that head: its state then);
    * ``state``: its state, itself shown;
    * ``pooled``: what the pooler gives.

    Args:
        model: Any of the family's models, which has these blocks.
        neighborhoods: Of the graph.
        names: Of the blocks.
        nodes: Node numbers; all by default.
        num_walks: Neighbourhoods of each.
        batch_size: Neighbourhoods at once.
        bf16: Compute in bfloat16 where that is done at all.

    Returns:
        Each block, ``(nodes, its size)``.
    """
    if nodes is None:
        nodes = np.arange(neighborhoods.walker.graph.num_nodes)
    training = model.training
    model.eval()
    found: dict[str, Tensor] = {}
    if "ids" in names:
        rows = neighborhoods.reader.rows
        assert rows is not None
        weight = model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        found["ids"] = nn.functional.normalize(weight[torch.from_numpy(rows[nodes]).to(weight.device)].float(), dim=-1)
    if "profile" in names:
        found["profile"] = _profile_block(model, neighborhoods)[nodes]
    walked = [name for name in names if name not in found]
    for epoch in range(num_walks if walked else 0):
        parts: dict[str, list[Tensor]] = {name: [] for name in walked}
        for start in range(0, len(nodes), batch_size):
            inputs = neighborhoods.inputs(nodes[start : start + batch_size], epoch)
            inputs = {name: value.to(model.device) for name, value in inputs.items()}
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                for name, part in _walked_blocks(model, inputs, walked).items():
                    parts[name].append(nn.functional.normalize(part.float(), dim=-1).cpu())
        for name, each in parts.items():
            mean = torch.cat(each) / num_walks
            found[name] = found[name] + mean if name in found else mean
    model.train(training)
    return {name: found[name].cpu().numpy() for name in names}


def _walked_blocks(model: PFHINPreTrainedModel, inputs: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    base: PFHINModel = model if isinstance(model, PFHINModel) else model.pfhin  # type: ignore[assignment]
    parts = {}
    if "context" in names:
        hidden = torch.zeros_like(inputs["attention_mask"], dtype=torch.bool)
        hidden[:, 0] = True
        state = base(**inputs, node_mask=hidden).last_hidden_state[:, 0]
        parts["context"] = model.mnm_head.queries(state) if isinstance(model, PFHINForPreTraining) else state
    if "state" in names or "pooled" in names:
        outputs = base(**inputs)
        parts |= {"state": outputs.last_hidden_state[:, 0], "pooled": outputs.node_embeds}
    return {name: parts[name] for name in names}


def _profile_block(model: PFHINPreTrainedModel, neighborhoods: Neighborhoods) -> Tensor:
    """Of all nodes, whichever are asked for: each against the mean of its type, and by its type's mean length."""
    base: PFHINModel = model if isinstance(model, PFHINModel) else model.pfhin  # type: ignore[assignment]
    profiles, layer = neighborhoods.reader.profiles, base.embeddings.profile
    assert profiles is not None and layer is not None
    block = layer(torch.from_numpy(profiles).to(model.device)).float()
    types = neighborhoods.walker.graph.node_type
    for kind in np.unique(types):
        mine = torch.from_numpy(np.flatnonzero(types == kind)).to(model.device)
        apart = block[mine] - block[mine].mean(0)
        whole, length = (part.square().sum(-1).mean().sqrt() for part in (block[mine], apart))
        # Where all of a type are alike, what is left is rounding: it stays as small as it is.
        block[mine] = apart / length.clamp(min=max(1e-3 * whole.item(), 1e-12))
    return block


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
