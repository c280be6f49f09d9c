"""PF-HIN's pre-training: the Trainer, with batches of its own."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tkre_hf.card_trainer import CardTrainer
from tkre_hf.epoch_loader import EpochDataLoader, epoch_loader
from tkre_hf.sharding import refuse_sharding

from .data_collator import PreTrainingCollator
from .embedding import Neighborhoods
from .graph import HeteroGraph
from .modeling_pfhin import PFHINForPreTraining
from .pairs import PairSampler
from .sampling import EpochBatchSampler, KeyDataset
from .training_args import PFHINTrainingArguments


class PFHINTrainer(CardTrainer):
    """Pre-trains ``PFHINForPreTraining`` on a graph.

    Each node is the anchor of one pair in an epoch. The loss is a mean over pairs and sequences of equal weight, so
    that the parts of a batch, over processes or over accumulated steps, make up what the whole would.

    Args:
        model: The model; its configuration says how the graph is walked.
        args: The settings.
        graph: Without what is held out. It may be memory-mapped.
        text_embeds: Each node's text vector, ``(nodes, text_size)``, for a model that reads them.
        ranked: Ranks of the graph's nodes and the quantiles they are made of, where they are at hand already.
    """

    args: PFHINTrainingArguments
    model: PFHINForPreTraining

    def __init__(
        self,
        model: PFHINForPreTraining,
        args: PFHINTrainingArguments,
        graph: HeteroGraph,
        text_embeds: NDArray[np.float32] | None = None,
        ranked: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
        **kwargs: Any,
    ) -> None:
        read = Neighborhoods(model, graph, args.seed, text_embeds, ranked)
        self.reader = read.reader
        collator = PreTrainingCollator(
            read.walker,
            read.reader,
            PairSampler(graph, args.negatives, args.seed),
            args.mask_rate,
            args.hidden_share,
            args.replaced_share,
            args.sampled_softmax_above,
            args.num_sampled,
            args.seed,
        )
        # In the order of keys: however nodes are numbered, the same are drawn.
        self.nodes = np.argsort(graph.place)
        self._parts: dict[str, list[Tensor]] = defaultdict(list)
        super().__init__(
            model=model, args=args, train_dataset=KeyDataset(graph.num_nodes), data_collator=collator, **kwargs
        )
        refuse_sharding(self, "PF-HIN's model")
        # The loss is a mean already: the Trainer divides it by the accumulated steps alone.
        self.model_accepts_loss_kwargs = False

    def batch_sampler(self) -> EpochBatchSampler:
        """Draws the batches of this process."""
        world = self.args.world_size
        size = self._train_batch_size if self.args.auto_find_batch_size else self.args.train_batch_size
        batch_size = size * world
        return EpochBatchSampler(self.nodes, batch_size, self.args.seed, self.args.process_index, world)

    def get_train_dataloader(self) -> EpochDataLoader:
        # Not prepared by Accelerate: the sampler already yields this process's share of each global batch.
        return epoch_loader(self.args, self.train_dataset, self.batch_sampler(), self.data_collator)  # type: ignore[arg-type]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Groups parameters by decay; embeddings have none, and the nodes' may have a rate of their own."""
        if self.optimizer is None:
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            given = model if model is not None else self.model
            embeddings = {
                f"{name}.weight".removeprefix(".")
                for name, module in given.named_modules()
                if isinstance(module, nn.Embedding)
            }
            decays = set(self.get_decay_parameter_names(given)) - embeddings
            groups: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
            for name, parameter in given.named_parameters():
                if parameter.requires_grad:
                    groups[name.endswith("embeddings.ids.weight"), name in decays].append(parameter)
            rate, ids_rate = self.args.learning_rate, self.args.embedding_learning_rate
            ids_rate = rate if ids_rate is None else ids_rate
            self.optimizer = optimizer_class(
                [
                    {
                        "params": parameters,
                        "lr": ids_rate if ids else rate,
                        "weight_decay": self.args.weight_decay if decay else 0.0,
                    }
                    for (ids, decay), parameters in groups.items()
                ],
                **kwargs,
            )
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """λ_MNM · MNM + λ_ANP · ANP of this process's share."""
        outputs = model(**inputs)
        for name in ("mnm_loss", "anp_loss"):
            part = getattr(outputs, name)
            if part is not None:
                self._parts[name].append(part.detach())
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            for name, values in self._parts.items():
                logs[name] = round(torch.stack(values).mean().item(), 4)
            self._parts.clear()
        super().log(logs, *args, **kwargs)
