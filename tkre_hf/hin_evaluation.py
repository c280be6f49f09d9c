"""``tkre hin evaluate``: a checkpoint's figures on its user's own network: labelled nodes, and links held out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tkre_hf.data.hin import HINTables, Links, read_hin, read_links
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import Row, command, machine, read_rows, versions, write_rows
from tkre_hf.hin_links import check_held_out, link_scorers, scorer_figures
from tkre_hf.hin_tasks import (
    BLOCKS_HELP,
    block_weights,
    check_nodes,
    chosen_blocks,
    frozen_scores,
    scheme_of,
    split_of,
)
from tkre_hf.hin_training import checkpoint_folder, load_graph, load_model, neighborhoods_of, output_folder
from tkre_hf.hub.facts import FIGURES, read_config
from tkre_hf.pfhin.embedding import embed_nodes
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.links import EPOCHS, SIZE, STATES_EPOCHS, mix
from tkre_hf.places import without_folders
from tkre_hf.training import settings_errors
from tkre_hf.training_data import training_summary


@dataclass
class EvaluateArguments:
    """Which checkpoint is measured, and on what: labelled nodes, links that were held out, or both."""

    model: str = field(metadata={"help": "Folder or Hub id of a PF-HIN, with its graph."})
    network: str | None = field(
        default=None,
        metadata={"help": "Folder of the network's tables, with labels and splits: classes, clusters and search."},
    )
    scheme: str | None = field(default=None, metadata={"help": "Scheme of splits.csv; the only one by default."})
    valid_links: str | None = field(
        default=None, metadata={"help": "File of links to choose the scorer's weight and thresholds on."}
    )
    test_links: str | None = field(default=None, metadata={"help": "File of links to measure on."})
    output_dir: str | None = field(
        default=None,
        metadata={"help": f"Where {FIGURES} goes, and the scorer of links; beside the model by default."},
    )
    num_walks: int = field(default=4, metadata={"help": "Neighbourhoods that each embedding is the mean of."})
    blocks: dict[str, Any] | None = field(default=None, metadata={"help": BLOCKS_HELP})
    choose_blocks: bool = field(
        default=False, metadata={"help": "Weigh the blocks by what training and validation nodes of a label share."}
    )
    size: int = field(default=SIZE, metadata={"help": "Complex numbers of a node's vector in the scorer of links."})
    epochs: int = field(
        default=EPOCHS, metadata={"help": "Passes over the edges that train the scorer's vectors of nodes' own."}
    )
    states_epochs: int = field(
        default=STATES_EPOCHS, metadata={"help": "Passes over the edges that train the scorer on top of embeddings."}
    )
    seed: int = field(default=0, metadata={"help": "Of walks, clusters, pairs and the scorer of links."})


def evaluate(args: EvaluateArguments) -> tuple[list[Row], list[str]]:
    """Measures a checkpoint, and adds the rows to ``results.json`` beside it, from where its card has them.

    Nodes: a linear classifier, clusters and similarity search of the embeddings that ``tkre hin embed`` writes with
    the same blocks. Links: filtered ranks by the scorers of ``tkre hin links``, weighed on the validation links, and
    where both files have false links too, how well these are told.

    Returns:
        The rows, and what there is to say beside them.

    Raises:
        TkreError: There is nothing to measure on, an input is wrong, or the model has seen links that are asked for.
    """
    asks_links = args.valid_links is not None or args.test_links is not None
    if args.network is None and not asks_links:
        raise TkreError("say what to measure on: --network with labels and splits, or --valid_links and --test_links")
    if asks_links and (args.valid_links is None or args.test_links is None):
        raise TkreError("links need both files: --valid_links to choose weight and thresholds on, and --test_links")
    for name in ("num_walks", "size", "epochs", "states_epochs"):
        if getattr(args, name) < 1:
            raise TkreError(f"{name} is {getattr(args, name)}: expected at least 1")
    if args.network is None and (args.choose_blocks or args.blocks is not None):
        raise TkreError("blocks are of nodes' embeddings: give --network, or leave out --blocks and --choose_blocks")
    if args.choose_blocks and args.blocks is not None:
        raise TkreError("blocks are given, or chosen (--choose_blocks): leave out one of the two")
    path = output_folder(args.model, args.output_dir) / FIGURES
    graph, *_ = load_graph(args.model)
    rows: list[Row] = []
    notes = []
    if args.network is not None:
        scores, count, scheme, blocks = _node_figures(args, args.network)
        words = [f"{name} {weight:g}" for name, weight in blocks.items()]
        own = args.choose_blocks or args.blocks is not None
        rows += _rows(args, scores, count, scheme, f", blocks {' '.join(words)}" if own else "")
        if args.choose_blocks:
            options = " ".join(f"--blocks.{word}" for word in words)
            notes.append(f"embeddings with these blocks: tkre hin embed --model {args.model} {options}")
    if asks_links:
        scores, count, weight = _link_figures(args, graph)
        rows += _rows(args, scores, count)
        notes.append(f"the validation links weigh PF-HIN's states by {weight:g}: tkre hin links --weight {weight:g}")
    # A model's figures are one system's: what it was called there already, it is called here.
    called = {row.system for row in read_rows(path) if not row.published}
    if len(called) == 1:
        rows = [replace(row, system=next(iter(called))) for row in rows]
    write_rows(path, rows)
    notes.append(f"the figures are in {path}")
    if (path.parent / "config.json").exists():
        notes[-1] += f"; `tkre card {path.parent}` enters them into the card"
    return rows, notes


def _node_figures(args: EvaluateArguments, network: str) -> tuple[dict[str, float], int, str, dict[str, float]]:
    """Figures of labelled nodes, how many test nodes they are of, the scheme's name, and the embeddings' blocks."""
    tables = read_hin(network)
    scheme = scheme_of(tables, args.scheme)
    test = split_of(tables, scheme)["test"]
    model = load_model(args.model)
    with settings_errors():
        neighborhoods = neighborhoods_of(args.model, model, args.seed)
        check_nodes(neighborhoods, tables)
        blocks = block_weights(args.blocks, model)
        if args.choose_blocks:
            blocks = chosen_blocks(model, neighborhoods, tables, scheme, args.num_walks)
        vectors = embed_nodes(model, neighborhoods, num_walks=args.num_walks, blocks=blocks)
        scores = frozen_scores(vectors, tables, scheme, args.seed)
    del scores["val_macro_f1"]
    return scores, len(test), scheme, blocks


def _link_figures(args: EvaluateArguments, graph: HeteroGraph) -> tuple[dict[str, float], int, float]:
    """Figures of links, how many true ones they are of, and what PF-HIN's states count for."""
    # By the graph's own numbers, whatever became of the tables that it was made of.
    src, dst, edge_type = graph.edges()
    node_type = graph.node_type.astype(np.int64)
    tables = HINTables(
        list(graph.node_ids), list(graph.node_types), node_type, list(graph.edge_types), src, dst, edge_type
    )
    valid, test = (_true_among(str(path), tables) for path in (args.valid_links, args.test_links))
    check_held_out(graph, valid, test)
    own, on_top, _ = link_scorers(
        args.model, graph, args.size, args.epochs, args.states_epochs, args.seed, args.output_dir
    )
    chosen_on = valid.triples[valid.label == 1]
    known = np.concatenate([graph.triples(), chosen_on])
    mixed = mix(own, on_top, chosen_on, known, graph.num_nodes)
    return scorer_figures(mixed, graph, valid, test), int((test.label == 1).sum()), mixed.weight


def _true_among(path: str, tables: HINTables) -> Links:
    """A file's links.

    Raises:
        TkreError: None of them is true.
    """
    links = read_links(path, tables)
    if not (links.label == 1).any():
        raise TkreError(f"{path} has no link of the label 1: there is nothing to rank")
    return links


def _rows(
    args: EvaluateArguments, scores: dict[str, float], count: int, scheme: str = "", blocks: str = ""
) -> list[Row]:
    """Figures as rows: of the network's labelled nodes by a scheme (and of blocks, if named), or else of its links."""
    folder = checkpoint_folder(args.model)
    summary = training_summary(folder)
    named = args.network or next(iter(summary.stages[-1]["sources"] if summary is not None else []), "network")
    benchmark = Path(without_folders(str(named))).name
    return [
        Row(
            benchmark=benchmark if scheme else f"{benchmark}_links",
            system=str(read_config(folder)["architectures"][0]),
            setting=f"{scheme} {metric}{blocks}".strip(),
            metric=metric,
            value=round(value, 3),
            n=count,
            seeds=[summary.seed] if summary is not None else [],
            minutes=round(summary.minutes, 2) if summary is not None else None,
            command=command(),
            versions=versions(),
            machine=machine(),
            source=summary.data if summary is not None else "",
        )
        for metric, value in scores.items()
    ]
