"""Fine-tuning for the tasks: batches of labelled nodes or of links, and the Trainer that draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import EvalPrediction, TrainingArguments

from tkre_hf.card_trainer import CardTrainer
from tkre_hf.epoch_loader import EpochDataLoader, epoch_loader
from tkre_hf.sharding import refuse_sharding

from .embedding import Neighborhoods
from .hashing import Stream, hashed
from .modeling_pfhin import PFHINForLinkPrediction, PFHINForNodeClassification
from .sampling import EpochBatchSampler, KeyDataset
from .tasks import f1_scores

IntArray = NDArray[np.int64]
Key = tuple[int, int, int]

_LINK = 0x6C696E6B


@dataclass
class NodeCollator:
    """Neighbourhoods of labelled nodes.

    Args:
        neighborhoods: Of the graph.
        labels: Each node's label, ``(nodes,)``.
    """

    neighborhoods: Neighborhoods
    labels: IntArray

    def __call__(self, features: Sequence[Key]) -> dict[str, Tensor]:
        """Gives the inputs of ``PFHINForNodeClassification``; each epoch walks anew."""
        keys = np.array(features, dtype=np.int64)
        batch = self.neighborhoods.inputs(keys[:, 0], int(keys[0, 1]))
        return {**batch, "labels": torch.from_numpy(self.labels[keys[:, 0]])}


@dataclass
class LinkCollator:
    """Edges, and as many pairs that are none: one end stays, the other is an end of another edge of that type.

    Walks of a pair's nodes never come to each other: what is asked is never seen.

    Args:
        neighborhoods: Of the graph.
        triples: Its edges: head, edge type, tail, ``(triples, 3)``.
        seed: Of the pairs that are none.
    """

    neighborhoods: Neighborhoods
    triples: IntArray
    seed: int = 0

    def __post_init__(self) -> None:
        self._order = np.argsort(self.triples[:, 1], kind="stable")
        kinds = len(self.neighborhoods.walker.graph.edge_types)
        self._start = np.searchsorted(self.triples[self._order, 1], np.arange(kinds + 1))

    def __call__(self, features: Sequence[Key]) -> dict[str, Tensor]:
        """Gives the inputs of ``PFHINForLinkPrediction``: the edges asked for, then pairs that are none."""
        keys = np.array(features, dtype=np.int64)
        places, epoch = keys[:, 0], int(keys[0, 1])
        positive = self.triples[places]
        negative = positive.copy()
        graph = self.neighborhoods.walker.graph
        draws = Stream(hashed(_LINK, self.seed, epoch, places))
        column = np.where(draws() < 0.5, 0, 2)
        low, high = self._start[positive[:, 1]], self._start[positive[:, 1] + 1]
        done = np.zeros(len(places), bool)
        for _ in range(8):
            other = self._order[low + (draws() * (high - low)).astype(np.int64)]
            node = self.triples[other, column]
            kept = positive[np.arange(len(places)), 2 - column]
            take = ~done & (node != kept) & ~graph.adjacent(kept, node)
            negative[take, column[take]] = node[take]
            done |= take
        # Where every end of that type is a neighbour there is no such pair.
        pairs = np.concatenate([positive, negative[done]])
        labels = np.repeat([1, 0], [len(positive), int(done.sum())])
        return {**link_inputs(self.neighborhoods, pairs, epoch), "labels": torch.from_numpy(labels)}


def link_inputs(neighborhoods: Neighborhoods, triples: IntArray, epoch: int = 0) -> dict[str, Tensor]:
    """What ``PFHINForLinkPrediction`` reads of links, whose nodes never come to each other."""
    starts = triples[:, [0, 2]].ravel()
    others = triples[:, [2, 0]].ravel()
    batch = neighborhoods.inputs(starts, epoch, np.where(starts == others, -1, others))
    return {**batch, "link_types": torch.from_numpy(np.ascontiguousarray(triples[:, 1]))}


class TaskTrainer(CardTrainer):
    """Fine-tunes on nodes or edges, drawn anew in each epoch.

    Args:
        model: With the task's head.
        args: The settings.
        items: Numbers that the collator makes batches of.
        collator: For training.
        eval_items: For evaluation.
        eval_collator: Likewise; that of training by default.
    """

    def __init__(
        self,
        model: PFHINForNodeClassification | PFHINForLinkPrediction,
        args: TrainingArguments,
        items: IntArray,
        collator: NodeCollator | LinkCollator,
        eval_items: IntArray | None = None,
        **kwargs: Any,
    ) -> None:
        self.items, self.eval_items = items, eval_items
        super().__init__(
            model=model,
            args=args,
            train_dataset=KeyDataset(len(items)),
            eval_dataset=None if eval_items is None else KeyDataset(len(eval_items)),
            data_collator=collator,
            **kwargs,
        )
        refuse_sharding(self, "PF-HIN's model")
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> EpochDataLoader:
        world = self.args.world_size
        size = self._train_batch_size if self.args.auto_find_batch_size else self.args.train_batch_size
        size = min(size * world, len(self.items) // world * world)
        sampler = EpochBatchSampler(self.items, size, self.args.seed, self.args.process_index, world)
        return epoch_loader(self.args, self.train_dataset, sampler, self.data_collator)  # type: ignore[arg-type]

    def get_eval_dataloader(self, eval_dataset: Any = None) -> EpochDataLoader:
        assert self.eval_items is not None
        size = self.args.eval_batch_size
        batches = [
            [(int(item), 0, 0) for item in self.eval_items[i : i + size]] for i in range(0, len(self.eval_items), size)
        ]
        return epoch_loader(self.args, self.eval_dataset, batches, self.data_collator)  # type: ignore[arg-type]


def classification_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Macro- and micro-F1 of logits, as the Trainer asks for them."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return f1_scores(np.asarray(prediction.label_ids), logits.argmax(-1))


@torch.inference_mode()
def predict_nodes(
    model: PFHINForNodeClassification,
    neighborhoods: Neighborhoods,
    nodes: IntArray,
    num_walks: int = 4,
    batch_size: int = 256,
) -> NDArray[np.float32]:
    """Class probabilities, the mean over several neighbourhoods of each node, ``(nodes, num_labels)``."""
    model.eval()
    total = torch.zeros(len(nodes), model.classifier.out_features)
    for epoch in range(num_walks):
        for start in range(0, len(nodes), batch_size):
            inputs = neighborhoods.inputs(nodes[start : start + batch_size], epoch)
            logits = model(**{name: value.to(model.device) for name, value in inputs.items()}).logits
            total[start : start + batch_size] += logits.float().softmax(-1).cpu()
    return (total / num_walks).numpy()


@torch.inference_mode()
def predict_links(
    model: PFHINForLinkPrediction,
    neighborhoods: Neighborhoods,
    triples: IntArray,
    num_walks: int = 2,
    batch_size: int = 128,
) -> NDArray[np.float32]:
    """Logits of links, the mean over several neighbourhoods, ``(triples,)``."""
    model.eval()
    total = torch.zeros(len(triples))
    for epoch in range(num_walks):
        for start in range(0, len(triples), batch_size):
            inputs = link_inputs(neighborhoods, triples[start : start + batch_size], epoch)
            logits = model(**{name: value.to(model.device) for name, value in inputs.items()}).logits
            total[start : start + batch_size] += logits.float().cpu()
    return (total / num_walks).numpy()
