"""docs/results/pfhin.md: each system trained and measured on each network (``recipes/reproduce_pfhin.py``)."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from tkre_hf.arguments import parse_arguments
from tkre_hf.data.held_out import PARTS, draw_links, write_links
from tkre_hf.data.hin import HINTables, read_hin, read_links
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.page import write_page
from tkre_hf.evaluation.report import Row, command, machine, mean_ci95, table, versions, write_rows
from tkre_hf.hin_baselines import (
    LinkHeuristics,
    classify_sparse,
    deepwalk,
    label_propagation,
    meta_path_features,
    metapath2vec,
)
from tkre_hf.hin_links import check_held_out, scorer_figures
from tkre_hf.hin_rgcn import rgcn
from tkre_hf.hin_systems import (
    BENCHMARKS,
    BLOCKS,
    COSTS,
    LINK_BASELINES,
    NODES_ALONE,
    PFHIN,
    PUBLISHED,
    SYSTEMS,
)
from tkre_hf.hin_tasks import chosen_blocks, frozen_scores, split_of
from tkre_hf.hin_training import (
    NetworkArguments,
    PFHINStageArguments,
    load_graph,
    load_model,
    load_network,
    neighborhoods_of,
    pretrain,
)
from tkre_hf.pfhin.embedding import Neighborhoods, embed_nodes, unit_rows
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.inputs import edge_profiles
from tkre_hf.pfhin.links import (
    LINK_BLOCKS,
    SAMPLED_ABOVE,
    STATES_EPOCHS,
    ComplEx,
    LinkScorer,
    MixedScorer,
    mix,
    out_of_fold,
    train_complex,
)
from tkre_hf.pfhin.modeling_pfhin import PFHINPreTrainedModel
from tkre_hf.pfhin.tasks import link_scores
from tkre_hf.pfhin.training_args import PFHINTrainingArguments
from tkre_hf.precision import bf16_supported

Scores = dict[str, float]


@dataclass
class ReproduceArguments:
    """What to train and measure."""

    data_dir: str = field(metadata={"help": "Folder with the networks' folders."})
    benchmarks: list[str] = field(
        default_factory=lambda: list(BENCHMARKS), metadata={"help": f"Of: {', '.join(BENCHMARKS)}."}
    )
    systems: list[str] = field(default_factory=lambda: list(SYSTEMS), metadata={"help": f"Of: {'; '.join(SYSTEMS)}."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "Seeds."})
    tasks: list[str] = field(default_factory=lambda: ["nodes", "links"], metadata={"help": "Of: nodes, links."})
    work_dir: str = field(default="outputs/pfhin", metadata={"help": "Where checkpoints go."})
    output: str = field(default="docs/results/pfhin.json", metadata={"help": "Where the rows go."})
    max_steps: int | None = field(default=None, metadata={"help": "Steps of pre-training; the recipe's by default."})
    recipe: str | None = field(
        default=None,
        metadata={"help": "YAML file of PF-HIN's settings; configs/pretrain_pfhin_codex.yaml by default."},
    )


def check(args: ReproduceArguments) -> None:
    """Refuses names that aren't known.

    Raises:
        TkreError: One isn't.
    """
    for what, names, known in (
        ("benchmarks", args.benchmarks, BENCHMARKS),
        ("systems", args.systems, SYSTEMS),
        ("tasks", args.tasks, ("nodes", "links")),
    ):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise TkreError(f"unknown {what} {', '.join(unknown)}: choose of {'; '.join(known)}")


def draw_split(tables: HINTables, seed: int, per_class: int = 40) -> None:
    """Gives a network without splits the scheme ``few40``: as many nodes of each class to train and to validate on.

    Raises:
        TkreError: A class has too few nodes.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[NDArray[np.int64]]] = {"train": [], "val": [], "test": []}
    for label in range(len(tables.label_names)):
        nodes = rng.permutation(np.flatnonzero(tables.labels == label))
        if len(nodes) <= 2 * per_class:
            raise TkreError(f"label {tables.label_names[label]!r} has {len(nodes)} nodes: more than 80 are needed")
        for part, mine in zip(parts, np.split(nodes, [per_class, 2 * per_class]), strict=True):
            parts[part].append(mine)
    tables.splits = {"few40": {part: np.sort(np.concatenate(nodes)) for part, nodes in parts.items()}}


def train(
    name: str, benchmark: str, seed: int, drop: tuple[str, ...], args: ReproduceArguments
) -> tuple[Path, Scores]:
    """Pre-trains a line of the ablation, unless it is there; gives its folder and what it took (``COSTS``)."""
    name = "PF-HIN" if name in BLOCKS else name
    key = f"{benchmark}-{'nodes' if drop else 'links'}"
    folder = Path(args.work_dir) / key / name.replace(" ", "_").replace(",", "") / f"seed{seed}"
    results = folder / "train_results.json"
    if not results.exists():
        recipe = args.recipe or "recipes/configs/pretrain_pfhin_codex.yaml"
        words = ["--config", recipe, "--network", str(Path(args.data_dir) / BENCHMARKS[benchmark].network)]
        words += ["--output_dir", str(folder), "--seed", str(seed), "--resume_from_checkpoint", "auto"]
        words += ["--max_steps", str(args.max_steps)] if args.max_steps else []
        stage, training = parse_arguments((PFHINStageArguments, PFHINTrainingArguments), words)
        held_out = [] if drop else held_out_links(benchmark, seed, args)
        pretrain(replace(stage, drop_edge_types=list(drop), hold_out_links=held_out, **PFHIN[name]), training)
    told = json.loads(results.read_text())
    return folder, {"million_parameters": told["parameters"] / 1e6, "cpu_minutes": told["train_cpu_minutes"]}


def held_out_links(key: str, seed: int, args: ReproduceArguments) -> list[str]:
    """Files of the links that choose settings and of those that test, drawn if need be."""
    network = Path(args.data_dir) / BENCHMARKS[key].network
    folder = network
    if BENCHMARKS[key].links == "drawn":
        folder = Path(args.work_dir) / f"{key}-links" / "drawn" / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        tables = read_hin(network)
        for part, links in draw_links(tables, seed=seed).items():
            write_links(tables, links, folder / f"links_{part}.csv")
    return [str(folder / f"links_{part}.csv") for part in PARTS]


def node_scores(name: str, key: str, seed: int, args: ReproduceArguments) -> tuple[Scores, float, int]:
    """Classification, clustering and similarity search of one system and seed: figures, CPU minutes, test nodes."""
    benchmark = BENCHMARKS[key]
    tables, graph = load_network(NetworkArguments(str(Path(args.data_dir) / benchmark.network), list(benchmark.drop)))
    if not benchmark.scheme:
        draw_split(tables, seed)
    scheme = benchmark.scheme or "few40"
    parts = split_of(tables, scheme)
    start = time.process_time()
    costs: Scores = {}
    if name == "label propagation":
        scores = label_propagation(graph, tables.labels, parts)
    elif name == "R-GCN":
        scores = rgcn(graph, tables.labels, parts, seed=seed)
    elif name == "meta-paths + LR":
        found = [classify_sparse(meta_path_features(graph, hops), tables.labels, parts) for hops in (1, 2)]
        scores = max(found, key=lambda each: each["val_macro_f1"])
    else:
        if name in PFHIN or name in BLOCKS:
            folder, costs = train(name, key, seed, benchmark.drop, args)
            model = load_model(folder)
            neighborhoods, blocks = neighborhoods_of(folder, model, seed), BLOCKS.get(name)
            if blocks == {}:
                blocks = chosen_blocks(model, neighborhoods, tables, scheme, bf16=bf16_supported(True))
                print(f"{key}, seed {seed}: {blocks}", flush=True)
            vectors = labelled_embeddings(model, neighborhoods, parts, blocks)
        elif name == "DeepWalk":
            vectors = deepwalk(graph, seed=seed)
        elif name == "edge-type counts + LR":
            vectors = edge_profiles(graph)
        elif name == "DeepWalk and edge-type counts":
            counts = edge_profiles(graph)
            counts /= np.linalg.norm(counts, axis=1).mean()
            vectors = np.hstack([unit_rows(deepwalk(graph, seed=seed)), counts])
        else:
            vectors = metapath2vec(graph, benchmark.node_type, seed=seed)
        costs.setdefault("cpu_minutes", (time.process_time() - start) / 60)
        scores = frozen_scores(vectors, tables, scheme, seed)
    scores.pop("val_macro_f1", None)
    costs.setdefault("cpu_minutes", (time.process_time() - start) / 60)
    return {**scores, **costs}, costs["cpu_minutes"], len(parts["test"])


def labelled_embeddings(
    model: PFHINPreTrainedModel,
    neighborhoods: Neighborhoods,
    parts: dict[str, NDArray[np.int64]],
    blocks: dict[str, float] | None = None,
) -> NDArray[np.float32]:
    """Embeddings of the nodes that figures are of; those of others, which nothing reads, are left 0."""
    nodes = np.unique(np.concatenate(list(parts.values())))
    found = embed_nodes(model, neighborhoods, nodes, bf16=bf16_supported(True), blocks=blocks)
    vectors = np.zeros((neighborhoods.walker.graph.num_nodes, found.shape[1]), np.float32)
    vectors[nodes] = found
    return vectors


def link_figures(name: str, key: str, seed: int, args: ReproduceArguments) -> tuple[Scores, float, int]:
    """Ranking and judging of links of one system and seed: figures, CPU minutes, true test links."""
    benchmark = BENCHMARKS[key]
    held_out_files = held_out_links(key, seed, args)
    network = NetworkArguments(str(Path(args.data_dir) / benchmark.network), hold_out_links=held_out_files)
    tables, graph = load_network(network)
    valid, test = (read_links(path, tables) for path in held_out_files)
    triples, held_out, true = graph.triples(), valid.triples[valid.label == 1], test.triples[test.label == 1]
    minutes, extra, start = 0.0, {}, time.process_time()
    if name == "link heuristics + LR":
        heuristics = LinkHeuristics(graph, triples, seed)
        told, asked = (heuristics.links(part.triples) for part in (valid, test))
        found = link_scores(asked, test.label, test.edge_type, (told, valid.label, valid.edge_type))
    else:
        scorer: LinkScorer | MixedScorer
        scorer, minutes = _complex(graph, triples, key, seed, args)
        start = time.process_time()
        if name in PFHIN:
            folder, costs = train(name, key, seed, (), args)
            # One that is there already may be of other draws.
            check_held_out(load_graph(folder)[0], valid, test)
            minutes += costs["cpu_minutes"]
            start = time.process_time()
            model, kinds = load_model(folder), len(graph.edge_types)
            # As ComplEx of many nodes compares them.
            bf16 = graph.num_nodes > SAMPLED_ABOVE and bf16_supported(True)
            folds = out_of_fold(model, graph, triples, seed=seed, bf16=bf16)
            states = embed_nodes(model, neighborhoods_of(folder, model, seed), bf16=bf16, blocks=LINK_BLOCKS)
            epochs = min(STATES_EPOCHS, benchmark.epochs)
            on_top = train_complex(triples, graph.num_nodes, kinds, epochs=epochs, folds=folds, own=False, seed=seed)
            alone = LinkScorer(on_top, states)
            scorer = mix(scorer, alone, held_out, np.concatenate([triples, held_out]), graph.num_nodes)
            extra["weight_of_states"] = scorer.weight
            extra["mrr_of_states"] = scorer_figures(alone, graph, valid, test)["mrr"]
        found = scorer_figures(scorer, graph, valid, test)
    minutes += (time.process_time() - start) / 60
    return {**found, **extra}, minutes, len(true)


def _complex(
    graph: HeteroGraph, triples: NDArray[np.int64], key: str, seed: int, args: ReproduceArguments
) -> tuple[LinkScorer, float]:
    """ComplEx by itself, unless it is trained already, and its CPU minutes: it is half of PF-HIN's scorer too."""
    file = Path(args.work_dir) / f"{key}-links" / "ComplEx" / f"seed{seed}.safetensors"
    model = ComplEx(graph.num_nodes, len(graph.edge_types))
    edges = hashlib.sha256(triples.tobytes()).hexdigest()
    if not file.exists() or _metadata(file).get("edges") != edges:
        start = time.process_time()
        epochs = BENCHMARKS[key].epochs
        model = train_complex(triples, graph.num_nodes, len(graph.edge_types), epochs=epochs, seed=seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), file, {"minutes": str((time.process_time() - start) / 60), "edges": edges})
    with safe_open(file, "pt") as tensors:
        model.load_state_dict({name: tensors.get_tensor(name) for name in tensors.keys()})
        return LinkScorer(model.eval()), float(tensors.metadata()["minutes"])


def _metadata(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as tensors:
        return dict(tensors.metadata() or {})


def measure(name: str, key: str, args: ReproduceArguments) -> list[Row]:
    """Measures a system on a benchmark for every seed, and writes the rows and the page."""
    benchmark, rows = BENCHMARKS[key], []
    for task, figures, fits in (
        ("nodes", node_scores, name not in LINK_BASELINES),
        ("links", link_figures, bool(benchmark.links) and name not in NODES_ALONE),
    ):
        if task not in args.tasks:
            continue
        if not fits:
            print(f"{name}: no {task} of {key}", flush=True)
            continue
        found = [figures(name, key, seed, args) for seed in args.seeds]
        minutes = statistics.fmean(each[1] for each in found)
        for metric in found[0][0]:
            values = [scores[metric] for scores, *_ in found]
            value, interval = mean_ci95(values, math.nan)
            left_out = f" without {', '.join(benchmark.drop)}" if task == "nodes" else ""
            rows.append(
                Row(
                    benchmark=key,
                    system=name,
                    setting=metric if task == "links" or metric in COSTS else f"few40 {metric}",
                    metric=metric,
                    value=round(value, 3),
                    ci95=None if math.isnan(interval) else round(interval, 3),
                    sd=round(statistics.stdev(values), 3) if len(values) > 1 else None,
                    n=found[0][2],
                    seeds=list(args.seeds),
                    minutes=round(minutes, 2),
                    command=command(),
                    versions=versions(),
                    machine=machine(),
                    source=f"{benchmark.network}{left_out}",
                )
            )
    write_rows(args.output, rows)
    write_page(args.output, "PF-HIN")
    print(table(rows), flush=True)
    return rows


def published_rows(key: str) -> list[Row]:
    """Figures of CodEx's own README for a benchmark."""
    return [
        Row(
            benchmark=key,
            system=system,
            setting=metric,
            metric=metric,
            value=value,
            published=True,
            source="CodEx (Safavi and Koutra, EMNLP 2020), README",
        )
        for system, figures in PUBLISHED.get(key, {}).items()
        for metric, value in figures.items()
    ]
