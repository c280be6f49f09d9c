"""The stages' trainers and the classifier's: the Trainer, with batches of their own and a loss over all processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import TrainingArguments

from tkre_hf.card_trainer import CardTrainer
from tkre_hf.epoch_loader import EpochDataLoader, epoch_loader
from tkre_hf.sharding import choose_layers

from .data_collator import MSLMCollator, RelationCollator, SCLCollator
from .losses import gather, relation_contrastive_loss, span_contrastive_loss
from .modeling_classification import TKREForRelationClassification
from .modeling_parts import mean_pool, unit
from .modeling_tkre import TKREForMaskedSpanLM, TKREForPreTraining
from .processing_tkre import TKREProcessor
from .sampling import EncodedRecords, LengthBatchSampler, RelationBatchSampler, _EpochSampler
from .training_args import (
    MSLMTrainingArguments,
    RelationTrainingArguments,
    SCLTrainingArguments,
    TKRETrainingArguments,
)


class _StageTrainer(CardTrainer):
    """What the stages share: who draws the batches, two learning rates, and losses logged by part."""

    args: TKRETrainingArguments
    model: TKREForMaskedSpanLM | TKREForRelationClassification
    train_dataset: EncodedRecords
    processing_class: TKREProcessor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        choose_layers(self)
        self._parts: dict[str, list[Tensor]] = defaultdict(list)

    def batch_sampler(self) -> _EpochSampler:
        """Draws the batches of this process."""
        raise NotImplementedError

    def get_train_dataloader(self) -> EpochDataLoader:
        # Not prepared by Accelerate: the sampler already yields this process's share of each global batch.
        return epoch_loader(self.args, self.train_dataset, self.batch_sampler(), self.data_collator)

    def unread_parts(self) -> tuple[str, ...]:
        """The model's parts that the loss doesn't read, which have no gradients: another stage's."""
        return ("relation_projection", "span_projection", "anchor_projection", "learned_anchors")

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Groups parameters by decay, and by whether they are the encoder's or a head's.

        Those that the loss doesn't read are left out where the model is sharded: such a run can't be gone on with if
        some have no state.
        """
        if self.optimizer is None:
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            given = model if model is not None else self.model
            decays = set(self.get_decay_parameter_names(given))
            unread = set(self.unread_parts()) if self.is_fsdp_enabled else set()
            groups: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
            for name, parameter in given.named_parameters():
                if parameter.requires_grad and unread.isdisjoint(name.split(".")):
                    groups[".encoder." in f".{name}", name in decays].append(parameter)
            head_rate = self.args.head_learning_rate
            head_rate = self.args.learning_rate if head_rate is None else head_rate
            self.optimizer = optimizer_class(
                [
                    {
                        "params": parameters,
                        "lr": self.args.learning_rate if encoder else head_rate,
                        "weight_decay": self.args.weight_decay if decay else 0.0,
                    }
                    for (encoder, decay), parameters in groups.items()
                ],
                **kwargs,
            )
        return self.optimizer

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            for name, values in self._parts.items():
                logs[name] = round(torch.stack(values).mean().item(), 4)
            self._parts.clear()
        super().log(logs, *args, **kwargs)

    def _length_batch_sampler(self) -> LengthBatchSampler:
        rank, world_size = self._world
        # Else the arguments' size, for transformers 4 goes on with a checkpoint's, whatever the processes are now.
        size = self._train_batch_size if self.args.auto_find_batch_size else self.args.train_batch_size
        return LengthBatchSampler(self.train_dataset.lengths, size * world_size, self.args.seed, rank, world_size)

    @property
    def _world(self) -> tuple[int, int]:
        return self.args.process_index, self.args.world_size


class MSLMTrainer(_StageTrainer):
    """Trains ``TKREForMaskedSpanLM``: stage 1.

    Args:
        model: The model.
        args: The settings.
        train_dataset: Encoded sentences.
        processing_class: Saved with the model.
    """

    args: MSLMTrainingArguments
    data_collator: MSLMCollator

    def __init__(
        self,
        model: TKREForMaskedSpanLM,
        args: MSLMTrainingArguments,
        train_dataset: EncodedRecords,
        processing_class: TKREProcessor,
        **kwargs: Any,
    ) -> None:
        collator = MSLMCollator(processing_class, args.seed, args.cue_rate, args.entity_rate, args.other_rate)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            data_collator=collator,
            processing_class=processing_class,
            **kwargs,
        )

    def batch_sampler(self) -> LengthBatchSampler:
        return self._length_batch_sampler()


class RelationTrainer(_StageTrainer):
    """Trains ``TKREForRelationClassification``, or a PEFT model around it: K-shot fine-tuning.

    Args:
        model: The model; ``None`` where ``model_init`` makes it, as ``hyperparameter_search`` needs.
        args: The settings.
        train_dataset: Encoded sentences; ``relations`` are the model's labels in the order of their numbers.
        processing_class: Saved with the model.
        eval_dataset: Encoded sentences with the same labels.
        **kwargs: Of the Trainer, such as ``model_init`` and ``compute_metrics``.
    """

    args: RelationTrainingArguments

    def __init__(
        self,
        model: nn.Module | None,
        args: RelationTrainingArguments,
        train_dataset: EncodedRecords,
        processing_class: TKREProcessor,
        eval_dataset: EncodedRecords | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=RelationCollator(processing_class),
            processing_class=processing_class,
            **kwargs,
        )

    def batch_sampler(self) -> LengthBatchSampler:
        return self._length_batch_sampler()


class SCLTrainer(_StageTrainer):
    """Trains ``TKREForPreTraining``: stage 2, with a loss over the embeddings of all processes.

    Args:
        model: The model; its configuration has λ1, λ2, τ and the spans' weight.
        args: The settings.
        train_dataset: Encoded sentences.
        anchors: Token ids of each relation's name and description, in the order of ``train_dataset.relations``.
        processing_class: Saved with the model.
        groups: Each sentence's corpus, ``(sentences,)``, where several are mixed.
        shares: The share of a batch's relations that each corpus gets.
    """

    args: SCLTrainingArguments
    model: TKREForPreTraining
    data_collator: SCLCollator

    def __init__(
        self,
        model: TKREForPreTraining,
        args: SCLTrainingArguments,
        train_dataset: EncodedRecords,
        anchors: Sequence[Sequence[int]],
        processing_class: TKREProcessor,
        groups: Any = None,
        shares: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        if args.within_class_shrinkage is not None and np.bincount(train_dataset.labels).max() < 2:
            raise ValueError(
                "no relation has two sentences to measure how they vary: set within_class_shrinkage to null"
            )
        mslm = MSLMCollator(processing_class, args.seed) if model.config.lambda_mslm else None
        collator = SCLCollator(processing_class, anchors, args.num_irrelevant, mslm, args.seed)
        self.groups, self.shares = groups, shares
        self._similarity: NDArray[np.float32] | None = None
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            data_collator=collator,
            processing_class=processing_class,
            **kwargs,
        )
        # The loss is a mean already, of the global batch: the Trainer has nothing to divide it by.
        self.model_accepts_loss_kwargs = False
        if args.hard_share:
            # Now, for ``train`` loads a checkpoint before it asks for the batches.
            self._anchor_similarity()

    def batch_sampler(self) -> RelationBatchSampler:
        rank, world_size = self._world
        return RelationBatchSampler(
            self.train_dataset.labels,
            self.train_dataset.lengths,
            self.args.relations_per_batch,
            self.args.sentences_per_relation,
            self.groups,
            self.shares,
            self._anchor_similarity() if self.args.hard_share else None,
            self.args.hard_share,
            self.args.seed,
            rank,
            world_size,
        )

    def unread_parts(self) -> tuple[str, ...]:
        config = self.model.config
        parts = {
            "lm_head": config.lambda_mslm,
            "span_projection": config.span_weight,
            "anchor_projection": not config.num_learned_anchors,
        }
        return tuple(part for part, is_read in parts.items() if not is_read)

    def get_total_train_batch_size(self, args: TrainingArguments) -> int:
        """Sentences of a step, over all processes: what the Trainer's sentences per second are counted by."""
        return self.args.relations_per_batch * self.args.sentences_per_relation

    @torch.inference_mode()
    def _anchor_similarity(self, batch_size: int = 64) -> NDArray[np.float32]:
        """Cosines of the relations' mean description states, ``(relations, relations)``, as the backbone has them.

        Of the model as it comes, before a checkpoint is loaded into it: a resumed run draws the batches it would have.
        """
        if self._similarity is None:
            model, processor = self.model.tkre, self.processing_class
            training, texts = model.training, self.data_collator.anchors
            model.eval()
            parts = []
            for start in range(0, len(texts), batch_size):
                inputs = processor.pad(texts[start : start + batch_size])
                inputs = {name: value.to(model.device) for name, value in inputs.items()}
                parts.append(unit(mean_pool(model.encode(**inputs), inputs["attention_mask"])))
            model.train(training)
            vectors = torch.cat(parts)
            similarity = vectors @ vectors.T
            if self.args.world_size > 1:
                # Another processor may round otherwise, and would then draw other batches.
                similarity = similarity.to(self.args.device)
                torch.distributed.broadcast(similarity, 0)
            self._similarity = similarity.cpu().numpy()
        return self._similarity

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """λ1 · MSLM + λ2 · (relation + span_weight · spans), over the global batch."""
        config = self.model.config
        labels, kinds = inputs.pop("labels"), inputs.pop("span_kinds")
        count = None
        if "mslm_labels" in inputs:
            count = gather((inputs["mslm_labels"] != -100).sum()[None]).sum() / self.args.world_size
        outputs = model(**inputs, num_items_in_batch=count)
        # Cosines need float32: at τ = 0.1 a bfloat16 logit is off by as much as relations differ.
        with torch.autocast(labels.device.type, enabled=False):
            relation, anchors = gather(outputs.relation_embeds.float()), gather(outputs.anchor_embeds.float())
            all_labels, anchor_labels = gather(labels), gather(inputs["anchor_ids"])
            parts = {
                "relation_loss": relation_contrastive_loss(relation, all_labels, anchors, anchor_labels, config.tau)
            }
            loss = parts["relation_loss"]
            if config.span_weight:
                spans = gather(outputs.span_embeds.float().flatten(0, 1))
                span_labels = gather(labels.repeat_interleave(kinds.shape[1]))
                parts["span_loss"] = span_contrastive_loss(
                    spans, span_labels, gather(kinds.flatten()), anchors, anchor_labels, config.tau
                )
                loss = loss + config.span_weight * parts["span_loss"]
            loss = config.lambda_scl * loss
            if outputs.loss is not None:
                parts["mslm_loss"] = outputs.loss
                loss = loss + config.lambda_mslm * outputs.loss
        for name, value in parts.items():
            self._parts[name].append(value.detach())
        return (loss, outputs) if return_outputs else loss
