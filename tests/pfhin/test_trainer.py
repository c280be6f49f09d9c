"""Pre-training learns from structure, its parts make up the whole, and settings are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import ArpackError, svds
from transformers import set_seed

from tkre_hf.epoch_loader import EpochDataLoader
from tkre_hf.pfhin.embedding import Neighborhoods, embed_nodes
from tkre_hf.pfhin.finetuning import NodeCollator, TaskTrainer
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.initialization import initialize_ids, svd_embeddings
from tkre_hf.pfhin.inputs import NodeReader
from tkre_hf.pfhin.modeling_pfhin import PFHINForNodeClassification, PFHINForPreTraining
from tkre_hf.pfhin.tasks import similarity_search
from tkre_hf.pfhin.trainer import PFHINTrainer
from tkre_hf.pfhin.training_args import PFHINTrainingArguments

from .conftest import make_tables
from .test_modeling import small


def train(
    graph: HeteroGraph, folder: Path, config: dict[str, Any] | None = None, **settings: Any
) -> tuple[PFHINForPreTraining, list[dict[str, float]]]:
    set_seed(0)
    model = PFHINForPreTraining(small(graph, hidden_size=32, embedding_size=16, **(config or {})))
    args = PFHINTrainingArguments(
        output_dir=str(folder),
        **{
            "max_steps": 200,
            "per_device_train_batch_size": 32,
            "learning_rate": 5e-3,
            "logging_steps": 20,
            "save_strategy": "no",
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": False,
            **settings,
        },
    )
    trainer = PFHINTrainer(model, args, graph)
    trainer.train()
    return model, [entry for entry in trainer.state.log_history if "loss" in entry]


def gain(graph: HeteroGraph, tables: Any, folder: Path) -> tuple[float, list[dict[str, float]]]:
    """How much better than chance people of one group find each other, after pre-training on a graph."""
    model, logs = train(graph, folder)
    people = np.flatnonzero(tables.labels >= 0)
    vectors = embed_nodes(model, Neighborhoods(model, graph), people)
    return similarity_search(vectors, tables.labels[people], k=5, pairs=3000)["similarity_auc"] - 50, logs


def test_it_learns_from_structure_and_from_nothing_else(tmp_path: Path) -> None:
    tables = make_tables(90, per_person=8)
    graph = HeteroGraph.from_tables(tables)
    own, logs = gain(graph, tables, tmp_path / "own")
    assert logs[-1]["mnm_loss"] < logs[0]["mnm_loss"] - 0.3 and {"anp_loss", "loss"} <= set(logs[0])
    # With its edges shuffled (degrees and types as before) the gain is gone.
    shuffled, _ = gain(graph.shuffled(0), tables, tmp_path / "shuffled")
    assert own > 25 and shuffled < own / 3


@pytest.mark.parametrize(("without", "told"), [("lambda_mnm", "anp_loss"), ("lambda_anp", "mnm_loss")])
def test_either_objective_alone_is_trained_and_told(
    graph: HeteroGraph, tmp_path: Path, without: str, told: str
) -> None:
    _, logs = train(graph, tmp_path, {without: 0.0}, max_steps=2, logging_steps=1)
    assert [{name for name in entry if name.endswith("_loss")} for entry in logs] == [{told}] * 2
    assert all(entry[told] == pytest.approx(entry["loss"], rel=1e-3) for entry in logs)


def test_accumulated_steps_are_one_batch(graph: HeteroGraph, tmp_path: Path) -> None:
    settings = {"max_steps": 2, "adam_epsilon": 1e-6}
    whole, _ = train(graph, tmp_path / "whole", **settings)
    parts, _ = train(
        graph, tmp_path / "parts", per_device_train_batch_size=16, gradient_accumulation_steps=2, **settings
    )
    # The order of nodes is drawn for batches of its own, but of both sizes from the same permutation.
    for (name, one), two in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(two, one, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("task", ["pretraining", "nodes", "nodes evaluated"])
def test_workers_make_the_same_batches(task: str, tmp_path: Path) -> None:
    tables = make_tables()
    graph = HeteroGraph.from_tables(tables)

    def loader(**settings: Any) -> EpochDataLoader:
        args = PFHINTrainingArguments(str(tmp_path), use_cpu=True, bf16=False, **settings)
        if task == "pretraining":
            return PFHINTrainer(PFHINForPreTraining(small(graph)), args, graph).get_train_dataloader()
        model = PFHINForNodeClassification(small(graph, num_labels=3))
        nodes = np.flatnonzero(tables.labels >= 0)
        collator = NodeCollator(Neighborhoods(model, graph), tables.labels)
        trainer = TaskTrainer(model, args, nodes, collator, eval_items=nodes)
        return trainer.get_eval_dataloader() if task.endswith("evaluated") else trainer.get_train_dataloader()

    with pytest.raises(ValueError, match="data_seed is 1: leave it out"):
        loader(data_seed=1)
    alone = loader()
    shared = loader(dataloader_num_workers=1, dataloader_persistent_workers=True)
    assert shared.num_workers == 1 and shared.persistent_workers
    for _ in range(2):
        for ours, theirs in zip(alone, shared, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_node_embeddings_have_a_rate_and_no_decay(graph: HeteroGraph, tmp_path: Path) -> None:
    model = PFHINForPreTraining(small(graph))
    args = PFHINTrainingArguments(str(tmp_path), embedding_learning_rate=0.5, weight_decay=0.1, use_cpu=True)
    groups = PFHINTrainer(model, args, graph).create_optimizer().param_groups
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert len(found) == len(rates)
    assert found["pfhin.embeddings.ids.weight"] == (0.5, 0.0)
    assert found["pfhin.embeddings.hops.weight"] == (args.learning_rate, 0.0)
    assert found["pfhin.groups.0.qkv.weight"] == (args.learning_rate, 0.1)
    assert found["pfhin.groups.0.qkv.bias"] == (args.learning_rate, 0.0)


def test_node_embeddings_may_stay_as_they_are(graph: HeteroGraph, tmp_path: Path) -> None:
    first, _ = train(graph, tmp_path / "first", max_steps=1, learning_rate=0.0)
    model, _ = train(graph, tmp_path / "out", max_steps=2, embedding_learning_rate=0.0)
    assert torch.equal(model.pfhin.embeddings.ids.weight, first.pfhin.embeddings.ids.weight)
    assert not torch.equal(model.pfhin.groups[0].qkv.weight, first.pfhin.groups[0].qkv.weight)


def test_a_batch_that_does_not_fit_is_made_smaller(graph: HeteroGraph, tmp_path: Path) -> None:
    set_seed(0)
    model = PFHINForPreTraining(small(graph))
    settings: dict[str, Any] = {"use_cpu": True, "bf16": False, "max_steps": 1, "save_strategy": "no"}
    args = PFHINTrainingArguments(
        str(tmp_path), auto_find_batch_size=True, per_device_train_batch_size=32, disable_tqdm=True, **settings
    )
    trainer = PFHINTrainer(model, args, graph)
    seen: list[int] = []
    compute_loss = trainer.compute_loss

    def full(model: Any, inputs: dict[str, Any], *rest: Any, **kwargs: Any) -> Any:
        seen.append(trainer._train_batch_size)
        size = len(next(iter(trainer.batch_sampler())))
        assert size == seen[-1]
        if size > 16:
            raise RuntimeError("CUDA out of memory.")
        return compute_loss(model, inputs, *rest, **kwargs)

    trainer.compute_loss = full  # type: ignore[method-assign]
    trainer.train()
    assert seen[0] == 32 and seen[-1] <= 16


def test_svd_takes_more_room_where_it_has_too_little(graph: HeteroGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def short_of_room(*args: Any, ncv: int | None = None, **kwargs: Any) -> Any:
        asked.append(ncv)
        if ncv is None:
            raise ArpackError(3)
        return svds(*args, ncv=ncv, **kwargs)

    expected = svd_embeddings(graph, 16)
    monkeypatch.setattr("tkre_hf.pfhin.initialization.svds", short_of_room)
    np.testing.assert_allclose(svd_embeddings(graph, 16), expected, atol=1e-4)
    assert asked == [None, min(graph.num_nodes - 1, 500)]


def test_svd_tells_groups_apart_and_is_put_where_it_belongs(graph: HeteroGraph) -> None:
    tables = make_tables()
    vectors = svd_embeddings(graph, 16)
    people = np.flatnonzero(tables.labels >= 0)
    assert similarity_search(vectors[people], tables.labels[people], k=5, pairs=3000)["similarity_auc"] > 60
    order = np.random.default_rng(0).permutation(graph.num_nodes)
    np.testing.assert_allclose(svd_embeddings(graph.permuted(order), 16), vectors[order], atol=1e-4)
    model = PFHINForPreTraining(small(graph, embedding_size=16))
    reader = Neighborhoods(model, graph).reader
    initialize_ids(model, reader, vectors, std=0.1)
    weight = model.pfhin.embeddings.ids.weight.detach().numpy()
    assert reader.rows is not None
    np.testing.assert_allclose(weight[reader.rows] / 0.1, vectors / np.sqrt((vectors**2).mean()), atol=1e-5)
    with pytest.raises(ValueError, match="expected vectors of shape"):
        initialize_ids(model, reader, vectors[:, :3])
    inductive = PFHINForPreTraining(small(graph, ids=False))
    bare: NodeReader = Neighborhoods(inductive, graph).reader
    with pytest.raises(ValueError, match="no node embeddings"):
        initialize_ids(inductive, bare, vectors)
