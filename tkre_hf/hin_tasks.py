"""From a PF-HIN checkpoint to the tasks: embeddings, figures of frozen embeddings, and fine-tuned heads."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainingArguments, set_seed

from tkre_hf.data.hin import HINTables, read_hin, read_links
from tkre_hf.epoch_loader import refuse_other_batches, refuse_smoothing
from tkre_hf.errors import TkreError
from tkre_hf.hin_links import check_held_out
from tkre_hf.hin_training import (
    GRAPH,
    checkpoint_folder,
    load_model,
    neighborhoods_of,
    network_stage,
    output_folder,
)
from tkre_hf.hub.facts import new_weights
from tkre_hf.hub.model_card import write_card
from tkre_hf.hub.publish import push_trained
from tkre_hf.pfhin.blocks import check_blocks, choose_blocks, default_blocks
from tkre_hf.pfhin.embedding import Neighborhoods, embed_blocks, embed_nodes, export_embeddings
from tkre_hf.pfhin.finetuning import (
    LinkCollator,
    NodeCollator,
    TaskTrainer,
    classification_metrics,
    predict_links,
    predict_nodes,
)
from tkre_hf.pfhin.modeling_pfhin import (
    PFHINForLinkPrediction,
    PFHINForNodeClassification,
    PFHINPreTrainedModel,
)
from tkre_hf.pfhin.tasks import classify_linear, cluster, f1_scores, link_scores, similarity_search
from tkre_hf.places import without_folders
from tkre_hf.training import find_checkpoint, settings_errors
from tkre_hf.training_data import TrainingSummary, training_summary

TASKS = ("classification", "links")

BLOCKS_HELP = "What embeddings consist of, and the weights, such as --blocks.ids 1 --blocks.context 0.5."


@dataclass
class EmbedArguments:
    """Which checkpoint's nodes are embedded."""

    model: str = field(metadata={"help": "Folder or Hub id of a PF-HIN, with its graph."})
    output_dir: str | None = field(
        default=None,
        metadata={"help": "Where embeddings.parquet and embeddings.faiss go; beside the model by default."},
    )
    num_walks: int = field(default=4, metadata={"help": "Neighbourhoods that each embedding is the mean of."})
    blocks: dict[str, Any] | None = field(default=None, metadata={"help": BLOCKS_HELP})
    seed: int = field(default=0, metadata={"help": "Of the walks."})


@dataclass
class FinetuneArguments:
    """What a checkpoint is fine-tuned for, and on what."""

    model: str = field(metadata={"help": "Folder or Hub id of a pre-trained PF-HIN, with its graph."})
    network: str = field(metadata={"help": "Folder of the network's tables: labels and splits, or links."})
    task: str = field(default="classification", metadata={"help": f"Of: {', '.join(TASKS)}."})
    scheme: str | None = field(
        default=None, metadata={"help": "Scheme of splits.csv; the only one by default (classification)."}
    )
    valid_links: str | None = field(default=None, metadata={"help": "File of links to choose thresholds on (links)."})
    test_links: str | None = field(default=None, metadata={"help": "File of links to measure on (links)."})
    num_walks: int = field(default=4, metadata={"help": "Neighbourhoods that a prediction is the mean of."})


@dataclass
class PFHINFinetuningArguments(TrainingArguments):
    """How a checkpoint is fine-tuned."""

    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate."})
    num_train_epochs: float = field(default=15, metadata={"help": "Passes over the labelled nodes, or edges."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Nodes, or edges, of a step."})
    save_strategy: str = field(default="no", metadata={"help": "When checkpoints are written on the way."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Warm-up: a number of steps, or below 1 their share of all steps."}
    )
    hub_strategy: str = field(
        default="end", metadata={"help": "When the model is published, with push_to_hub: end, and nothing else."}
    )
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Where to report to: none, tensorboard, wandb, trackio …"}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Leave off: the collators read numbers."})

    def __post_init__(self) -> None:
        refuse_other_batches(self)
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        # transformers 4 keeps the share apart from the number of steps.
        if hasattr(TrainingArguments, "warmup_ratio") and 0 < self.warmup_steps < 1:
            self.warmup_ratio, self.warmup_steps = self.warmup_steps, 0
        super().__post_init__()


def embed(args: EmbedArguments) -> Path:
    """Writes the embeddings of all nodes, with a faiss index.

    Returns:
        The Parquet file.

    Raises:
        TkreError: There is no such checkpoint, the model hasn't got a block, or faiss isn't installed.
    """
    check_walks(args.num_walks)
    folder = output_folder(args.model, args.output_dir)
    model = load_model(args.model)
    with settings_errors():
        neighborhoods = neighborhoods_of(args.model, model, args.seed)
        blocks = block_weights(args.blocks, model)
    vectors = embed_nodes(model, neighborhoods, num_walks=args.num_walks, blocks=blocks)
    return export_embeddings(folder, neighborhoods.walker.graph, vectors)


def check_walks(num_walks: int) -> None:
    """Refuses a mean of no neighbourhoods.

    Raises:
        TkreError: There would be none.
    """
    if num_walks < 1:
        raise TkreError(f"num_walks is {num_walks}: expected at least 1")


def block_weights(given: Mapping[str, Any] | None, model: PFHINPreTrainedModel) -> dict[str, float]:
    """The weights of an embedding's blocks, as settings give them; the defaults where they don't.

    Raises:
        ValueError: One is no number above 0, or the model hasn't got the block.
    """
    if given is None:
        return default_blocks(model.config)
    try:
        weights = {name: float(weight) for name, weight in given.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"blocks have weights that are numbers, found {dict(given)}") from error
    check_blocks(weights, model.config)
    return weights


def chosen_blocks(
    model: PFHINPreTrainedModel,
    neighborhoods: Neighborhoods,
    tables: HINTables,
    scheme: str | None,
    num_walks: int = 4,
    bf16: bool = False,
) -> dict[str, float]:
    """The blocks of embeddings, weighed on a scheme's training and validation nodes (``pfhin.blocks.choose_blocks``).

    Raises:
        TkreError: There is no such scheme, or its labels say nothing of what is alike.
    """
    parts = split_of(tables, scheme)
    nodes = np.concatenate([parts["train"], parts["val"]])
    found = embed_blocks(model, neighborhoods, tuple(default_blocks(model.config)), nodes, num_walks, bf16=bf16)
    with settings_errors():
        return choose_blocks(found, tables.labels[nodes])


def scheme_of(tables: HINTables, scheme: str | None) -> str:
    """A scheme of splits, by default the only one.

    Raises:
        TkreError: There is no such scheme.
    """
    if scheme is None and len(tables.splits) == 1:
        (scheme,) = tables.splits
    if scheme is None or scheme not in tables.splits:
        known = ", ".join(tables.splits) or "none"
        raise TkreError(f"the network has no scheme of splits {scheme!r}: choose of {known}")
    return scheme


def split_of(tables: HINTables, scheme: str | None) -> dict[str, NDArray[np.int64]]:
    """The parts train, val and test of a scheme.

    Raises:
        TkreError: There is no such scheme, it has other parts, or a node in it has no label.
    """
    scheme = scheme_of(tables, scheme)
    parts = tables.splits[scheme]
    if set(parts) != {"train", "val", "test"}:
        raise TkreError(f"the scheme {scheme} has the parts {', '.join(parts)}; expected train, val and test")
    for part, nodes in parts.items():
        bare = nodes[tables.labels[nodes] < 0]
        if len(bare):
            raise TkreError(f"the scheme {scheme}: node {tables.node_ids[bare[0]]!r} of {part} has no label")
    return parts


def frozen_scores(vectors: NDArray[Any], tables: HINTables, scheme: str | None, seed: int = 0) -> dict[str, float]:
    """Figures of embeddings as they are: a linear classifier, clusters and similarity search.

    Args:
        vectors: ``(nodes, size)``.
        tables: With labels and splits.
        scheme: Of the splits; clusters and search are of all its test nodes.
        seed: Of k-means and of pairs.
    """
    parts = split_of(tables, scheme)
    test = parts["test"]
    return {
        **classify_linear(vectors, tables.labels, parts["train"], parts["val"], test),
        **cluster(vectors[test], tables.labels[test], seed),
        **similarity_search(vectors[test], tables.labels[test], seed=seed),
    }


def finetune(args: FinetuneArguments, training_args: TrainingArguments) -> dict[str, float]:
    """Fine-tunes a checkpoint for node classification or for links, saves it, and measures it on the test's.

    Args:
        args: What is fine-tuned, for what, and on what.
        training_args: How. ``resume_from_checkpoint`` is a checkpoint's folder, or ``auto`` for the last whole one.

    Returns:
        The figures, which stand in ``OUTPUT_DIR/test_results.json`` and in the card too.

    Raises:
        TkreError: A setting or a row is wrong, or the folder holds another run's work.
    """
    if args.task not in TASKS:
        raise TkreError(f"task is {args.task!r}: expected {' or '.join(TASKS)}")
    check_walks(args.num_walks)
    if Path(str(training_args.output_dir)).resolve() == Path(args.model).resolve():
        raise TkreError(f"output_dir is the model's own folder, {args.model}: give another, or it would be lost")
    resume = find_checkpoint(training_args)
    tables = read_hin(args.network)
    set_seed(training_args.seed)
    start = time.perf_counter()
    model, scores = (_finetune_nodes if args.task == "classification" else _finetune_links)(
        args, training_args, tables, resume
    )
    folder = Path(str(training_args.output_dir))
    if training_args.process_index == 0:
        # The model reads its graph: where one is, the other has to be.
        graph = checkpoint_folder(args.model) / GRAPH
        if graph.resolve() != (folder / GRAPH).resolve():
            shutil.copytree(graph, folder / GRAPH, dirs_exist_ok=True)
        (folder / "test_results.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        told = {
            "backbone": without_folders(args.model),
            "minutes": round((time.perf_counter() - start) / 60, 2),
            "nodes": len(tables.node_ids),
            "edges": len(tables.src),
        }
        earlier = training_summary(checkpoint_folder(args.model))
        stage = network_stage(model, args, training_args, args.network, **told)
        TrainingSummary([*(earlier.stages if earlier is not None else []), stage]).write(folder)
        write_card(folder)
        push_trained(training_args, folder)
    return scores


def check_nodes(neighborhoods: Neighborhoods, tables: HINTables) -> None:
    """Refuses a network whose nodes aren't those of a checkpoint's graph, in their order.

    Raises:
        TkreError: They aren't.
    """
    if list(neighborhoods.walker.graph.node_ids) != tables.node_ids:
        raise TkreError("the network's nodes aren't those of the checkpoint's graph")


def _finetune_nodes(
    args: FinetuneArguments, training_args: TrainingArguments, tables: HINTables, resume: str | None
) -> tuple[PFHINForNodeClassification, dict[str, float]]:
    parts = split_of(tables, args.scheme)
    model = load_model(
        args.model,
        PFHINForNodeClassification,
        num_labels=len(tables.label_names),
        id2label=dict(enumerate(tables.label_names)),
    )
    assert isinstance(model, PFHINForNodeClassification)
    with settings_errors():
        neighborhoods = neighborhoods_of(args.model, model, training_args.seed)
        check_nodes(neighborhoods, tables)
        collator = NodeCollator(neighborhoods, tables.labels)
        trainer = TaskTrainer(
            model, training_args, parts["train"], collator, parts["val"], compute_metrics=classification_metrics
        )
    trainer.train(resume_from_checkpoint=resume)
    with new_weights(str(training_args.output_dir), trainer.is_world_process_zero()):
        trainer.save_model(_internal_call=True)
    scores: dict[str, float] = {}
    for part in ("val", "test"):
        nodes = parts[part]
        probabilities = predict_nodes(model, neighborhoods, nodes, args.num_walks)
        prefix = "" if part == "test" else "val_"
        scores |= {
            f"{prefix}{name}": value
            for name, value in f1_scores(tables.labels[nodes], probabilities.argmax(-1)).items()
        }
    return model, scores


def _finetune_links(
    args: FinetuneArguments, training_args: TrainingArguments, tables: HINTables, resume: str | None
) -> tuple[PFHINForLinkPrediction, dict[str, float]]:
    if args.valid_links is None or args.test_links is None:
        raise TkreError(
            "task links needs valid_links and test_links: files of links to choose thresholds and measure on"
        )
    files = (args.valid_links, args.test_links)
    links = [read_links(path, tables) for path in files]
    for path, part in zip(files, links, strict=True):
        for label, kind in ((1, "true"), (0, "false")):
            if not (part.label == label).any():
                raise TkreError(
                    f"{path} has no {kind} links (label {label}): task links is to tell false ones from true ones; "
                    "tkre hin links ranks nodes, and needs no false ones"
                )
    model = load_model(args.model, PFHINForLinkPrediction)
    assert isinstance(model, PFHINForLinkPrediction)
    with settings_errors():
        refuse_smoothing(training_args)
        neighborhoods = neighborhoods_of(args.model, model, training_args.seed)
        check_nodes(neighborhoods, tables)
        graph = neighborhoods.walker.graph
        check_held_out(graph, *links)
        triples = graph.triples()
        collator = LinkCollator(neighborhoods, triples, training_args.seed)
        trainer = TaskTrainer(model, training_args, np.arange(len(triples)), collator)
    trainer.train(resume_from_checkpoint=resume)
    with new_weights(str(training_args.output_dir), trainer.is_world_process_zero()):
        trainer.save_model(_internal_call=True)
    found = [predict_links(model, neighborhoods, part.triples, args.num_walks) for part in links]
    valid, test = links
    return model, link_scores(found[1], test.label, test.edge_type, (found[0], valid.label, valid.edge_type))
