"""``tkre hin links``: which edges a network lacks that a node might have, by ComplEx and PF-HIN's embeddings."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from tkre_hf.data.hin import Links
from tkre_hf.errors import TkreError
from tkre_hf.hin_training import checkpoint_folder, load_graph, load_model, neighborhoods_of, output_folder
from tkre_hf.hub.facts import weight_files
from tkre_hf.pfhin.embedding import embed_nodes, find_node, unit_rows
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.links import (
    EPOCHS,
    LINK_BLOCKS,
    SAMPLED_ABOVE,
    SIZE,
    STATES_EPOCHS,
    ComplEx,
    LinkScorer,
    MixedScorer,
    out_of_fold,
    train_complex,
)
from tkre_hf.pfhin.tasks import link_scores, ranking_scores
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

    model: str = field(metadata={"help": "Folder or Hub id of a PF-HIN, with its graph."})
    node: str = field(metadata={"help": "Id of a node, or a name that is one node's alone."})
    k: int = field(default=10, metadata={"help": "How many links."})
    edge_type: str | None = field(default=None, metadata={"help": "Only links of this type; of all by default."})
    size: int = field(default=SIZE, metadata={"help": "Complex numbers of a node's vector in the scorer."})
    epochs: int = field(default=EPOCHS, metadata={"help": "Passes over the edges that train vectors of nodes' own."})
    states_epochs: int = field(
        default=STATES_EPOCHS, metadata={"help": "Passes over the edges that train the scorer on top of embeddings."}
    )
    weight: float = field(
        default=0.2, metadata={"help": "What embeddings count for, beside vectors of nodes' own (CodEx-S chose it)."}
    )
    seed: int = field(default=0, metadata={"help": "Of the scorer's training."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Where the scorer is kept; beside the model by default, if that is a folder."}
    )


@dataclass(frozen=True)
class PredictedLink:
    """An edge that the network hasn't.

    Args:
        head: Id of the node at its beginning.
        edge_type: Its type.
        tail: Id of the node at its end.
        probability: Share of the nodes most like this one that have such an edge, times how sure ComplEx is of the
            other end among all that such edges have there and this node hasn't.
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
    for name in ("k", "size", "epochs", "states_epochs"):
        if getattr(args, name) < 1:
            raise TkreError(f"{name} is {getattr(args, name)}: expected at least 1")
    if not 0 <= args.weight < math.inf:
        raise TkreError(f"weight is {args.weight}: expected a number from 0 on")
    graph, *_ = load_graph(args.model)
    node = find_node(graph.node_ids, graph.names, args.node)
    kinds = range(len(graph.edge_types))
    if args.edge_type is not None:
        if args.edge_type not in graph.edge_types:
            raise TkreError(
                f"{args.edge_type!r} is no edge type of the graph, which has {', '.join(graph.edge_types)}"
            )
        kinds = range(number := graph.edge_types.index(args.edge_type), number + 1)
    own, on_top, embeds = link_scorers(
        args.model, graph, args.size, args.epochs, args.states_epochs, args.seed, args.output_dir
    )
    scorer = MixedScorer(own, on_top, args.weight)
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
            # What the node has is no question, and would take nearly all that is shared out among the others.
            others = np.setdiff1d(there, [node, *there[here == node]])
            if not len(others):
                continue
            scores = (scorer.tails if forward else scorer.heads)(np.array([node]), np.array([kind]))[0, others]
            likely = np.exp(scores.astype(np.float64) - scores.max(initial=-np.inf))
            likely *= share / likely.sum()
            for other, probability in zip(others.tolist(), likely.tolist(), strict=True):
                head, tail = (graph.node_ids[end] for end in ((node, other) if forward else (other, node)))
                name = graph.names[other] if graph.names else ""
                found.append(PredictedLink(head, graph.edge_types[kind], tail, probability, name))
    return sorted(found, key=lambda link: -link.probability)[: args.k]


def link_scorers(
    model: str,
    graph: HeteroGraph,
    size: int = SIZE,
    epochs: int = EPOCHS,
    states_epochs: int = STATES_EPOCHS,
    seed: int = 0,
    output_dir: str | None = None,
) -> tuple[LinkScorer, LinkScorer, NDArray[np.float32]]:
    """The scorers of a checkpoint's links; they are trained where there are none yet, or some of other settings.

    Args:
        model: Folder or Hub id.
        graph: Beside the checkpoint.
        size: Complex numbers of a node's vector.
        epochs: Passes over the edges, of ComplEx by itself.
        states_epochs: Passes over the edges, of that on top of PF-HIN's states.
        seed: Of their training.
        output_dir: Where they are kept; beside the model by default.

    Returns:
        ComplEx by itself, that on top of PF-HIN's states, and each node's embedding, ``(nodes, 2 · hidden)``, unit
        length.

    Raises:
        TkreError: They must be trained, and there is no place to keep them.
    """
    settings = {"size": size, "epochs": epochs, "states_epochs": states_epochs, "seed": seed, "of": _PARTS}
    settings |= {"sampled_above": SAMPLED_ABOVE, "checkpoint": _digest(model, graph)}
    known = json.dumps(settings)
    places = [Path(output_dir)] if output_dir is not None else []
    state: dict[str, torch.Tensor] = {}
    for folder in [*places, checkpoint_folder(model)]:
        state = state or _read(folder / LINKS, known)
    if not state:
        path = output_folder(model, output_dir) / LINKS
        path.parent.mkdir(parents=True, exist_ok=True)
        state = _train(model, graph, size, dict(zip(_PARTS, (epochs, states_epochs), strict=True)), seed)
        unfinished = path.with_name(f".{LINKS}.{os.getpid()}")
        save_file(state, unfinished, {"settings": known})
        unfinished.replace(path)
    scorers = []
    for part in _PARTS:
        vectors = ComplEx(graph.num_nodes, len(graph.edge_types), size)
        vectors.load_state_dict({f"{table}.weight": state[f"{part}.{table}"] for table in ("nodes", "types")})
        scorers.append(LinkScorer(vectors.eval()))
    own, on_top = scorers
    return own, on_top, state["embeds"].numpy()


def _digest(model: str, graph: HeteroGraph) -> str:
    """Of a checkpoint's weights and its graph's edges: another one's scorers are none of its own."""
    digest = hashlib.sha256()
    for file in weight_files(checkpoint_folder(model)):
        digest.update(file.read_bytes())
    for part in graph.edges():
        digest.update(np.ascontiguousarray(part, np.int64).tobytes())
    return digest.hexdigest()


def _read(path: Path, known: str) -> dict[str, torch.Tensor]:
    """The tensors of a file that was written with these settings; none where there is no such file."""
    if path.exists():
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("settings") == known:
                return {name: file.get_tensor(name) for name in file.keys()}
    return {}


def _train(model: str, graph: HeteroGraph, size: int, epochs: dict[str, int], seed: int) -> dict[str, torch.Tensor]:
    """Vectors of nodes and edge types, of ComplEx by itself and of that on top of embeddings; and the embeddings."""
    logger.info("training the scorer of links on %d edges", graph.num_edges)
    pretrained = load_model(model)
    with settings_errors():
        neighborhoods = neighborhoods_of(model, pretrained, seed)
    triples, texts = graph.triples(), load_graph(model)[2]
    folds = out_of_fold(pretrained, graph, triples, min(4, len(triples)), seed=seed, text_embeds=texts)
    states = torch.from_numpy(embed_nodes(pretrained, neighborhoods, blocks=LINK_BLOCKS))
    found = {"embeds": torch.from_numpy(unit_rows(embed_nodes(pretrained, neighborhoods)))}
    batch_size = min(_BATCH, max(1, len(triples) // _BATCHES))
    how: dict[str, Any] = {"size": size, "batch_size": batch_size, "seed": seed}
    for part in _PARTS:
        features, kind = (None, how) if part == "own" else (states, {**how, "folds": folds, "own": False})
        trained = train_complex(triples, graph.num_nodes, len(graph.edge_types), epochs=epochs[part], **kind)
        with torch.inference_mode():
            found[f"{part}.nodes"] = trained.vectors(features).clone()
        found[f"{part}.types"] = trained.types.weight.detach().clone()
    return found


def check_held_out(graph: HeteroGraph, *parts: Links) -> None:
    """Refuses links that a model has seen: nothing it says of them would be a prediction.

    Args:
        graph: The checkpoint's.
        *parts: Links to ask for, of which those that are false may be anything.

    Raises:
        TkreError: One that is true is an edge of the graph.
    """

    def code(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return (rows[:, 0] * graph.num_nodes + rows[:, 2]) * len(graph.edge_types) + rows[:, 1]

    asked = np.concatenate([part.triples[part.label == 1] for part in parts])
    seen = np.flatnonzero(np.isin(code(asked), code(graph.triples())))
    if len(seen):
        head, kind, tail = asked[seen[0]]
        edge = f"{graph.node_ids[head]} {graph.edge_types[kind]} {graph.node_ids[tail]}"
        raise TkreError(
            f"the checkpoint's graph holds links that are asked for, {len(seen)} of {len(asked)}, such as {edge}: "
            "pre-train it with --hold_out_links and these files"
        )


def scorer_figures(
    scorer: LinkScorer | MixedScorer, graph: HeteroGraph, valid: Links, test: Links
) -> dict[str, float]:
    """A scorer's figures on held-out links: filtered ranks of those that are true, and how well it tells false ones.

    Args:
        scorer: Trained on the graph.
        graph: Without the links.
        valid: Thresholds are chosen on these.
        test: What is measured.

    Returns:
        Those of ``ranking_scores``, and of ``link_scores`` where both parts have false links too; in percent.
    """
    true = [part.triples[part.label == 1] for part in (valid, test)]
    every = np.concatenate([graph.triples(), *true])
    found = ranking_scores(scorer.tails, scorer.heads, true[1], every, graph.num_nodes)
    if all((part.label == 0).any() for part in (valid, test)):
        told, asked = (scorer.links(*part.triples.T) for part in (valid, test))
        found |= link_scores(asked, test.label, test.edge_type, (told, valid.label, valid.edge_type))
    return found
