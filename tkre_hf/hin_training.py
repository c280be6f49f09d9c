"""PF-HIN from settings to a saved checkpoint, and on to a task: what the recipes, ``tkre hin`` and the tests share."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import snapshot_download
from numpy.typing import NDArray
from transformers import PretrainedConfig, TrainingArguments, set_seed
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file

from tkre_hf.data.hin import HINTables, read_hin, read_links
from tkre_hf.errors import TkreError
from tkre_hf.hin_baselines import deepwalk
from tkre_hf.hub.facts import new_weights
from tkre_hf.hub.model_card import write_card
from tkre_hf.hub.publish import push_trained
from tkre_hf.hub.trainers import PFHINTrainer
from tkre_hf.hub_files import is_hub_id
from tkre_hf.pfhin.centrality import ranks
from tkre_hf.pfhin.configuration_pfhin import PFHINConfig
from tkre_hf.pfhin.embedding import Neighborhoods
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.initialization import initialize_ids, svd_embeddings
from tkre_hf.pfhin.inputs import config_for
from tkre_hf.pfhin.modeling_pfhin import PFHINForPreTraining, PFHINModel, PFHINPreTrainedModel
from tkre_hf.pfhin.text import encode_texts
from tkre_hf.pfhin.training_args import PFHINTrainingArguments
from tkre_hf.pfhin.walks import WalkSettings
from tkre_hf.places import without_folders
from tkre_hf.stage_settings import stage_settings
from tkre_hf.training import find_checkpoint, load_anew, loading_errors, resolve_backbone, settings_errors
from tkre_hf.training_data import TrainingSummary

logger = logging.getLogger(__name__)

GRAPH, TEXTS = "graph", "texts.npy"

# What of a checkpoint on the Hub is fetched: neither its code nor what may be a pickle.
_FETCHED = ("*.json", "*.safetensors", "embeddings.*", f"{GRAPH}/*")

INITS = ("random", "svd", "deepwalk")


@dataclass
class NetworkArguments:
    """Which network, and what of it is held out before anything else is done."""

    network: str = field(metadata={"help": "Folder with nodes and edges, as .csv or .parquet (tkre_hf/data/hin.py)."})
    drop_edge_types: list[str] = field(
        default_factory=list, metadata={"help": "Edge types that are left out, such as one that tells the label."}
    )
    hold_out_links: list[str] = field(
        default_factory=list,
        metadata={"help": "Files of links (src, dst, edge_type, label): the true ones are taken out of the graph."},
    )


@dataclass
class PFHINStageArguments(NetworkArguments):
    """What is pre-trained, and how the graph is walked."""

    ids: bool = field(
        default=True, metadata={"help": "Give nodes embeddings of their own; without, the model reads any graph."}
    )
    texts: str | None = field(
        default=None,
        metadata={
            "help": "Read nodes' texts (or else names) through this frozen encoder: minilm, a folder or Hub id."
        },
    )
    init: str = field(
        default="random",
        metadata={
            "help": "What node embeddings start from: random, svd of the graph, or deepwalk (needs gensim: "
            "pip install 'tkre-hf[baselines]')."
        },
    )
    embedding_size: int | None = field(
        default=64, metadata={"help": "Width of node embeddings; null: hidden_size, without factorization."}
    )
    profile: bool = field(
        default=False, metadata={"help": "Read how many edges of each type a node has, as its degree is read."}
    )
    structure: bool = field(
        default=True,
        metadata={
            "help": "Read where a node stands as well: rank and degree, hops, visits, and the type of the edge to it."
        },
    )
    aggregation: str = field(
        default="mean", metadata={"help": "How nodes of one type read each other first: bilstm, mean or none."}
    )
    hidden_size: int = field(default=128, metadata={"help": "Width of the transformer."})
    num_hidden_layers: int = field(default=3, metadata={"help": "Its layers."})
    num_hidden_groups: int = field(default=1, metadata={"help": "Sets of parameters that the layers share."})
    num_attention_heads: int = field(default=4, metadata={"help": "Its heads."})
    intermediate_size: int = field(default=256, metadata={"help": "Width of its feed-forward part."})
    lambda_mnm: float = field(default=1.0, metadata={"help": "Weight of masked node modeling."})
    lambda_anp: float = field(default=1.0, metadata={"help": "Weight of adjacent node prediction."})
    label_smoothing: float = field(
        default=0.1,
        metadata={
            "help": "Of masked node modeling; no effect above sampled_softmax_above nodes, for a sample has no "
            "uniform part to smooth with."
        },
    )
    num_walks: int = field(default=8, metadata={"help": "Walkers that set out from a node."})
    walk_length: int = field(default=16, metadata={"help": "Steps of each."})
    restart: float = field(default=0.15, metadata={"help": "Probability of starting again instead of a step."})
    walk_tau: float = field(default=1.0, metadata={"help": "Neighbours are chosen by rank^tau; 0 is a uniform walk."})
    max_length: int = field(default=32, metadata={"help": "Nodes of a sequence."})
    quotas: bool = field(default=True, metadata={"help": "Keep room in a sequence for every type."})
    rank: str = field(default="centrality", metadata={"help": "What ranks nodes: centrality or degree."})

    @property
    def walk(self) -> WalkSettings:
        """How the graph is walked.

        Raises:
            TkreError: A setting is out of its range.
        """
        with settings_errors():
            return WalkSettings(
                self.num_walks, self.walk_length, self.restart, self.walk_tau, self.max_length, self.quotas
            )


# Of the settings those that the model's configuration keeps.
_MODEL_SETTINGS = (
    "embedding_size",
    "profile",
    "structure",
    "aggregation",
    "hidden_size",
    "num_hidden_layers",
    "num_hidden_groups",
    "num_attention_heads",
    "intermediate_size",
    "lambda_mnm",
    "lambda_anp",
    "label_smoothing",
)


def load_network(args: NetworkArguments) -> tuple[HINTables, HeteroGraph]:
    """Reads a network, and takes out of its graph what is held out.

    Raises:
        TkreError: A row or a setting is wrong.
    """
    tables = read_hin(args.network)
    with settings_errors():
        graph = HeteroGraph.from_tables(tables).without_edge_types(args.drop_edge_types)
    for path in args.hold_out_links:
        links = read_links(path, tables)
        true = links.label == 1
        graph = graph.without_edges(links.src[true], links.dst[true], links.edge_type[true])
    return tables, graph


def node_texts(tables: HINTables) -> list[str]:
    """What there is to read of each node: its text, or else its name."""
    return [text or name for text, name in zip(tables.texts or tables.names, tables.names, strict=True)]


def pretrain(args: PFHINStageArguments, training_args: PFHINTrainingArguments) -> Path:
    """Pre-trains PF-HIN on a network: masked node modeling and adjacent node prediction.

    The graph is written into the output folder by the first process and memory-mapped by all.

    Args:
        args: What is trained, and on what.
        training_args: How. ``resume_from_checkpoint`` is a checkpoint's folder, or ``auto`` for the last whole one.

    Returns:
        ``training_args.output_dir``, which holds the model, ``graph/``, ``train_results.json``,
        ``training_data.json`` and the card.

    Raises:
        TkreError: A setting or a row is wrong, or the folder holds another run's work.
    """
    if args.init not in INITS:
        raise TkreError(f"init is {args.init!r}: expected {', '.join(INITS)}")
    if args.init != "random" and not args.ids:
        raise TkreError(f"init: {args.init} starts node embeddings, and with ids: false there are none")
    if not args.lambda_mnm and not args.lambda_anp:
        raise TkreError("lambda_mnm and lambda_anp are both 0: there is nothing to learn")
    resume = find_checkpoint(training_args)
    walk = args.walk
    folder = Path(str(training_args.output_dir))
    with training_args.main_process_first(local=False, desc="reading the network"):
        each = training_args.save_on_each_node and training_args.local_process_index == 0
        # Anew, for a run that came to no checkpoint may have had another network, or other settings.
        if resume is None and (training_args.process_index == 0 or each):
            _write_graph(args, folder)
    with training_args.main_process_first(desc="reading the network"):
        # On a machine that shares no disk with the first.
        if not (folder / GRAPH / "graph.json").exists():
            _write_graph(args, folder)
    graph, ranked, texts = load_graph(folder)
    set_seed(training_args.seed)
    with settings_errors():
        settings = {name: getattr(args, name) for name in _MODEL_SETTINGS}
        text_size = 0 if texts is None else texts.shape[1]
        config = config_for(graph, args.ids, text_size, walk, args.rank, **settings)
        model = PFHINForPreTraining(config)
        trainer = PFHINTrainer(model, training_args, graph, texts, ranked=ranked)
        trainer.batch_sampler()
        cpu = time.process_time()
        if args.init != "random" and resume is None:
            size, seed = args.embedding_size or args.hidden_size, training_args.seed
            vectors = (svd_embeddings if args.init == "svd" else deepwalk)(graph, size, seed=seed)
            initialize_ids(model, trainer.reader, vectors)
    if training_args.should_log:
        logger.info("%d nodes, %d edges; %d parameters", graph.num_nodes, graph.num_edges, model.num_parameters())
    start = time.perf_counter()
    result = trainer.train(resume_from_checkpoint=resume)
    with new_weights(str(training_args.output_dir), trainer.is_world_process_zero()):
        trainer.save_model(_internal_call=True)
    minutes = {
        "train_minutes": round((time.perf_counter() - start) / 60, 2),
        "train_cpu_minutes": round((time.process_time() - cpu) / 60, 2),
        "parameters": model.num_parameters(),
    }
    trainer.save_metrics("train", {**result.metrics, **minutes})
    if trainer.is_world_process_zero():
        counts = {"minutes": minutes["train_minutes"], "nodes": graph.num_nodes, "edges": graph.num_edges}
        TrainingSummary([network_stage(model, args, training_args, args.network, **counts)]).write(folder)
        write_card(folder)
        push_trained(training_args, folder)
    return folder


def _write_graph(args: PFHINStageArguments, folder: Path) -> None:
    """Writes the network's graph into a run's folder, and its nodes' texts as vectors where they are read."""
    tables, graph = load_network(args)
    # Of what an earlier run may have left; the rest is written again.
    for name in ("graph.json", "features.npy", TEXTS):
        (folder / GRAPH / name).unlink(missing_ok=True)
    if args.texts is not None:
        (folder / GRAPH).mkdir(parents=True, exist_ok=True)
        np.save(folder / GRAPH / TEXTS, encode_texts(node_texts(tables), resolve_backbone(args.texts)))
    save_graph(folder, graph, args.rank)


def network_stage(
    model: PFHINPreTrainedModel, args: Any, training_args: TrainingArguments, network: str, **told: Any
) -> dict[str, Any]:
    """What the summary of a run says of one of PF-HIN's stages.

    Args:
        model: What was trained.
        args: What was trained, and on what: a dataclass.
        training_args: How.
        network: Folder of the network.
        **told: What it says besides.
    """
    return {
        "stage": type(model).__name__,
        "backbone": "",
        "sources": [without_folders(network)],
        "add_sources": [],
        "seed": training_args.seed,
        **told,
        "settings": {**stage_settings(args, training_args), "processes": training_args.world_size},
        "trained_relations": [],
        "held_out_relations": [],
    }


def save_graph(folder: Path, graph: HeteroGraph, rank: str) -> None:
    """Writes a graph and its nodes' ranks, to be memory-mapped.

    Raises:
        TkreError: The kind of rank is unknown, or networkit isn't installed.
    """
    with settings_errors():
        rank_of, parts = ranks(graph, rank)
    (folder / GRAPH).mkdir(parents=True, exist_ok=True)
    np.save(folder / GRAPH / "rank.npy", rank_of)
    np.save(folder / GRAPH / "rank_parts.npy", parts)
    # The graph's own description comes last: where it stands all is there.
    graph.save(folder / GRAPH)


def checkpoint_folder(model: str | Path) -> Path:
    """The folder of a checkpoint; one of the Hub's is fetched, without its code, into the Hub's cache.

    Args:
        model: Folder or Hub id.

    Raises:
        TkreError: It is a Hub id, and can't be fetched.
    """
    if not is_hub_id(model):
        return Path(model)
    with loading_errors(f"the checkpoint {model}"):
        # What is wrong with the id, or on the way to the Hub, this says in words.
        cached_file(str(model), CONFIG_NAME)
        return Path(snapshot_download(str(model), allow_patterns=list(_FETCHED)))


def output_folder(model: str | Path, output_dir: str | None) -> Path:
    """Where what is made of a checkpoint goes: beside it, where no folder is named.

    Raises:
        TkreError: There is no such place: the checkpoint is on the Hub.
    """
    if output_dir is not None:
        return Path(output_dir)
    if is_hub_id(model):
        raise TkreError(
            f"{model} is no folder here, and on the Hub nothing is written: name a folder for what is made of it, "
            "--output_dir FOLDER"
        )
    return Path(model)


def load_graph(
    model: str | Path,
) -> tuple[HeteroGraph, tuple[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float32] | None]:
    """The graph beside a checkpoint, its nodes' ranks and the quantiles they are made of, and text vectors, mapped.

    Args:
        model: Folder or Hub id.

    Raises:
        TkreError: There is none.
    """
    folder = checkpoint_folder(model) / GRAPH
    graph = HeteroGraph.load(folder)
    ranked = (np.load(folder / "rank.npy"), np.load(folder / "rank_parts.npy"))
    texts = np.load(folder / TEXTS, mmap_mode="r") if (folder / TEXTS).exists() else None
    return graph, ranked, texts


def load_model(
    model: str | Path, model_class: type[PFHINPreTrainedModel] | None = None, **settings: Any
) -> PFHINPreTrainedModel:
    """A checkpoint as any of the family's models.

    Args:
        model: Folder or Hub id.
        model_class: By default ``PFHINForPreTraining``, or of a fine-tuned checkpoint, which has no such heads,
            ``PFHINModel``.
        **settings: Of the configuration.

    Raises:
        TkreError: There is none, or it is of another family.
    """
    folder = checkpoint_folder(model)
    try:
        config, _ = PretrainedConfig.get_config_dict(folder)
        if config.get("model_type") != PFHINConfig.model_type:
            raise TkreError(f"{model} holds no PF-HIN model; its model type is {config.get('model_type', 'unknown')}")
        if model_class is None:
            is_pretrained = config.get("architectures") == [PFHINForPreTraining.__name__]
            model_class = PFHINForPreTraining if is_pretrained else PFHINModel
        labels = PFHINConfig.from_pretrained(folder).id2label
        is_classifier = config.get("architectures") == [model_class.__name__] and "id2label" in settings
        others = ["classifier"] if is_classifier and settings["id2label"] != labels else []
        found: PFHINPreTrainedModel = load_anew(model_class, folder, others, **settings)
    except OSError as error:
        raise TkreError(f"{model} holds no PF-HIN model: {str(error).splitlines()[0]}") from error
    return found


def neighborhoods_of(folder: str | Path, model: PFHINPreTrainedModel, seed: int = 0) -> Neighborhoods:
    """The graph beside a checkpoint (folder or Hub id), as its model reads it."""
    graph, ranked, texts = load_graph(folder)
    return Neighborhoods(model, graph, seed, texts, ranked)
