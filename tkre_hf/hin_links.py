"""``tkre hin links``: which edges a network lacks that a node might have, by ComplEx and PF-HIN's embeddings."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from tkre_hf.errors import TkreError
from tkre_hf.hin_training import load_graph, load_model, neighborhoods_of
from tkre_hf.pfhin.embedding import embed_nodes, find_node, unit_rows
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.links import LINK_BLOCKS, ComplEx, LinkScorer, MixedScorer, out_of_fold, train_complex
from tkre_hf.training import settings_errors

logger = logging.getLogger(__name__)

LINKS = "links.safetensors"

# Nodes most like one, itself among them, that say which edges it may have.
_ALIKE = 20
# A batch holds at most so many edges, and of a small graph a fortieth.
_BATCH, _BATCHES = 512, 40
# The two scorers in the file.
_PARTS = ("own", "states")


@dataclass
class LinksArguments:
    """Which node's links are predicted; the scorer is trained by the first call, and kept beside the model."""

    model: str = field(metadata={"help": "Folder of a pre-trained PF-HIN, with its graph."})
    node: str = field(metadata={"help": "Id of a node, or a name that is one node's alone."})
    k: int = field(default=10, metadata={"help": "How many links."})
    edge_type: str | None = field(default=None, metadata={"help": "Only links of this type; of all by default."})
    size: int = field(default=64, metadata={"help": "Complex numbers of a node's vector in the scorer."})
    epochs: int = field(default=40, metadata={"help": "Passes over the edges that train the scorer."})
    weight: float = field(
        default=0.2, metadata={"help": "What embeddings count for, beside vectors of nodes' own (CodEx-S chose it)."}
    )
    seed: int = field(default=0, metadata={"help": "Of the scorer's training."})


@dataclass(frozen=True)
class PredictedLink:
    """An edge that the network hasn't.

    Args:
        head: Id of the node at its beginning.
        edge_type: Its type.
        tail: Id of the node at its end.
        probability: Share of the nodes most like this one that have such an edge, times how sure ComplEx is of the
            other end among all that such edges have there.
        other: Name of the other end.
    """

    head: str
    edge_type: str
    tail: str
    probability: float
    other: str


def predict_node_links(args: LinksArguments) -> list[PredictedLink]:
    """The likeliest edges from and to a node that the network hasn't, the likeliest first.

    A node may have the edges that nodes like it have, and at their other ends what stands there already: in a network
    of few facts ComplEx says anything of edge types that a node has nothing to do with. Like it are itself and, of the
    nodes that begin or end an edge of a type as it does, those nearest by embedding.

    Raises:
        TkreError: There is no such checkpoint, node or edge type, or a setting is out of its range.
    """
    for name in ("k", "size", "epochs"):
        if getattr(args, name) < 1:
            raise TkreError(f"{name} is {getattr(args, name)}: expected at least 1")
    if not args.weight >= 0:
        raise TkreError(f"weight is {args.weight}: expected at least 0")
    graph, *_ = load_graph(args.model)
    node = find_node(graph.node_ids, graph.names, args.node)
    kinds = range(len(graph.edge_types))
    if args.edge_type is not None:
        if args.edge_type not in graph.edge_types:
            raise TkreError(
                f"{args.edge_type!r} is no edge type of the graph, which has {', '.join(graph.edge_types)}"
            )
        kinds = range(number := graph.edge_types.index(args.edge_type), number + 1)
    scorer, embeds = link_scorer(args, graph)
    cosines = embeds @ embeds[node]
    src, dst, edge_type = graph.edges()
    cosines[graph.node_type != graph.node_type[node]] = -np.inf
    mine = [ends[edge_type == kind] for ends in (src, dst) for kind in np.unique(edge_type[ends == node])]
    if mine:
        cosines[np.setdiff1d(np.arange(len(cosines)), np.concatenate(mine))] = -np.inf
    alike = np.argsort(-cosines, kind="stable")[:_ALIKE]
    alike = alike[np.isfinite(cosines[alike])]
    found = []
    for kind in kinds:
        heads, tails = src[edge_type == kind], dst[edge_type == kind]
        for forward in (True, False):
            here, there = (heads, tails) if forward else (tails, heads)
            share = float(np.isin(alike, here).mean())
            if not share:
                continue
            others = np.setdiff1d(there, [node])
            scores = (scorer.tails if forward else scorer.heads)(np.array([node]), np.array([kind]))[0, others]
            likely = np.exp(scores.astype(np.float64) - scores.max(initial=-np.inf))
            likely *= share / likely.sum()
            new = ~np.isin(others, there[here == node])
            for other, probability in zip(others[new].tolist(), likely[new].tolist(), strict=True):
                head, tail = (graph.node_ids[end] for end in ((node, other) if forward else (other, node)))
                name = graph.names[other] if graph.names else ""
                found.append(PredictedLink(head, graph.edge_types[kind], tail, probability, name))
    return sorted(found, key=lambda link: -link.probability)[: args.k]


def link_scorer(args: LinksArguments, graph: HeteroGraph) -> tuple[MixedScorer, NDArray[np.float32]]:
    """The scorer beside a checkpoint; it is trained where there is none yet, or one of other settings.

    Returns:
        The scorer, and each node's embedding, ``(nodes, 2 · hidden)``, unit length.
    """
    path = Path(args.model, LINKS)
    settings = {"size": args.size, "epochs": args.epochs, "seed": args.seed, "edges": graph.num_edges, "of": _PARTS}
    known = json.dumps(settings)
    state: dict[str, torch.Tensor] = {}
    if path.exists():
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("settings") == known:
                state = {name: file.get_tensor(name) for name in file.keys()}
    if not state:
        state = _train(args, graph)
        part = path.with_name(f".{LINKS}.{os.getpid()}")
        save_file(state, part, {"settings": known})
        part.replace(path)
    scorers = []
    for scorer in _PARTS:
        model = ComplEx(graph.num_nodes, len(graph.edge_types), args.size)
        model.load_state_dict({f"{table}.weight": state[f"{scorer}.{table}"] for table in ("nodes", "types")})
        scorers.append(LinkScorer(model.eval()))
    own, on_top = scorers
    return MixedScorer(own, on_top, args.weight), state["embeds"].numpy()


def _train(args: LinksArguments, graph: HeteroGraph) -> dict[str, torch.Tensor]:
    """Vectors of nodes and edge types, of ComplEx by itself and of that on top of embeddings; and the embeddings."""
    logger.info("training the scorer of links on %d edges", graph.num_edges)
    pretrained = load_model(args.model)
    with settings_errors():
        neighborhoods = neighborhoods_of(args.model, pretrained, args.seed)
    triples: NDArray[np.int64] = np.stack([graph.edges()[i] for i in (0, 2, 1)], axis=1)
    folds = out_of_fold(pretrained, graph, triples, min(4, len(triples)), seed=args.seed)
    states = torch.from_numpy(embed_nodes(pretrained, neighborhoods, num_walks=2, blocks=LINK_BLOCKS))
    found = {"embeds": torch.from_numpy(unit_rows(embed_nodes(pretrained, neighborhoods, num_walks=2)))}
    how: dict[str, Any] = {
        "size": args.size,
        "epochs": args.epochs,
        "batch_size": min(_BATCH, max(1, len(triples) // _BATCHES)),
        "seed": args.seed,
    }
    own = train_complex(triples, graph.num_nodes, len(graph.edge_types), **how)
    on_top = train_complex(triples, graph.num_nodes, len(graph.edge_types), folds=folds, own=False, **how)
    for part, model, features in zip(_PARTS, (own, on_top), (None, states), strict=True):
        with torch.inference_mode():
            found[f"{part}.nodes"] = model.vectors(features).clone()
        found[f"{part}.types"] = model.types.weight.detach().clone()
    return found
