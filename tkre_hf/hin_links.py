"""``tkre hin links``: which edges a network lacks that a node might have, by ComplEx on top of PF-HIN's embeddings."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from tkre_hf.errors import TkreError
from tkre_hf.hin_training import load_graph, load_model, neighborhoods_of
from tkre_hf.pfhin.embedding import embed_nodes, find_node
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.links import ComplEx, LinkScorer, out_of_fold, train_complex
from tkre_hf.training import settings_errors

logger = logging.getLogger(__name__)

LINKS = "links.safetensors"


@dataclass
class LinksArguments:
    """Which node's links are predicted; the scorer is trained by the first call, and kept beside the model."""

    model: str = field(metadata={"help": "Folder of a pre-trained PF-HIN, with its graph."})
    node: str = field(metadata={"help": "Id of a node, or a name that is one node's alone."})
    k: int = field(default=10, metadata={"help": "How many links."})
    edge_type: str | None = field(default=None, metadata={"help": "Only links of this type; of all by default."})
    size: int = field(default=64, metadata={"help": "Complex numbers of a node's vector in the scorer."})
    epochs: int = field(default=20, metadata={"help": "Passes over the edges that train the scorer."})
    seed: int = field(default=0, metadata={"help": "Of the scorer's training."})


@dataclass(frozen=True)
class PredictedLink:
    """An edge that the network hasn't.

    Args:
        head: Id of the node at its beginning.
        edge_type: Its type.
        tail: Id of the node at its end.
        probability: Of the other end, among all nodes of the types that edges of this type end at there.
        other: Name of the other end.
    """

    head: str
    edge_type: str
    tail: str
    probability: float
    other: str


def predict_node_links(args: LinksArguments) -> list[PredictedLink]:
    """The likeliest edges from and to a node that the network hasn't, the likeliest first.

    An edge type is asked for where the node's type is one that such edges begin (or end) at.

    Raises:
        TkreError: There is no such checkpoint, node or edge type, or a setting is out of its range.
    """
    for name in ("k", "size", "epochs"):
        if getattr(args, name) < 1:
            raise TkreError(f"{name} is {getattr(args, name)}: expected at least 1")
    graph, *_ = load_graph(args.model)
    node = find_node(graph.node_ids, graph.names, args.node)
    kinds = range(len(graph.edge_types))
    if args.edge_type is not None:
        if args.edge_type not in graph.edge_types:
            raise TkreError(
                f"{args.edge_type!r} is no edge type of the graph, which has {', '.join(graph.edge_types)}"
            )
        kinds = range(number := graph.edge_types.index(args.edge_type), number + 1)
    scorer = link_scorer(args, graph)
    src, dst, edge_type = graph.edges()
    found = []
    for kind in kinds:
        mine = edge_type == kind
        for forward in (True, False):
            here, there = (src[mine], dst[mine]) if forward else (dst[mine], src[mine])
            if graph.node_type[node] not in graph.node_type[here]:
                continue
            score = scorer.tails if forward else scorer.heads
            scores = score(np.array([node]), np.array([kind]))[0].astype(np.float64)
            scores[~np.isin(graph.node_type, graph.node_type[there])] = -np.inf
            scores[node] = -np.inf
            probability = np.exp(scores - scores.max())
            probability /= probability.sum()
            probability[there[here == node]] = 0  # these it has
            for other in np.argsort(-probability, kind="stable")[: args.k].tolist():
                if probability[other] > 0:
                    head, tail = (graph.node_ids[end] for end in ((node, other) if forward else (other, node)))
                    name = graph.names[other] if graph.names else ""
                    found.append(PredictedLink(head, graph.edge_types[kind], tail, float(probability[other]), name))
    return sorted(found, key=lambda link: -link.probability)[: args.k]


def link_scorer(args: LinksArguments, graph: HeteroGraph) -> LinkScorer:
    """The scorer beside a checkpoint; it is trained where there is none yet, or one of other settings."""
    path = Path(args.model, LINKS)
    settings = {"size": args.size, "epochs": args.epochs, "seed": args.seed, "edges": graph.num_edges}
    known = json.dumps(settings)
    model = ComplEx(graph.num_nodes, len(graph.edge_types), args.size)
    if path.exists():
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("settings") == known:
                model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
                return LinkScorer(model.eval())
    vectors, types = _train(args, graph)
    state = {"nodes.weight": vectors, "types.weight": types}
    part = path.with_name(f".{LINKS}.{os.getpid()}")
    save_file(state, part, {"settings": known})
    part.replace(path)
    model.load_state_dict(state)
    return LinkScorer(model.eval())


def _train(args: LinksArguments, graph: HeteroGraph) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of nodes, in which their embeddings are already, and of edge types in both directions."""
    logger.info("training the scorer of links on %d edges", graph.num_edges)
    pretrained = load_model(args.model)
    with settings_errors():
        neighborhoods = neighborhoods_of(args.model, pretrained, args.seed)
    triples: NDArray[np.int64] = np.stack([graph.edges()[i] for i in (0, 2, 1)], axis=1)
    folds = out_of_fold(pretrained, graph, triples, min(4, len(triples)), seed=args.seed)
    scorer = train_complex(
        triples, graph.num_nodes, len(graph.edge_types), args.size, args.epochs, folds=folds, seed=args.seed
    )
    with torch.inference_mode():
        vectors = scorer.vectors(torch.from_numpy(embed_nodes(pretrained, neighborhoods, num_walks=2)))
    return vectors.clone(), scorer.types.weight.detach().clone()
