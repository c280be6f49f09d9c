"""What a few-shot model knows of somebody's relations: their prototypes, and all that it takes to add another one.

They are two files beside the model's, ``prototypes.safetensors`` and ``relations.json``, and travel with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tkre_hf.data.relations import RelationInfo
from tkre_hf.errors import TkreError

from .modeling_parts import AnchorTrust
from .modeling_tkre import TKREForFewShotClassification

PROTOTYPES, RELATIONS = "prototypes.safetensors", "relations.json"

# Fractions of queries with none of the above that a threshold is chosen for; 0 itself would ask for no threshold.
NA_RATES = (0.15, 0.3, 0.5)

# Fewer relations, or supports of each, and leaving one out says nothing of what lies outside of them all.
_CALIBRATED_RELATIONS, _CALIBRATED_SUPPORTS = 3, 2


def check_threshold(value: Any) -> float | None:
    """A threshold on cosines as a number, or ``None`` for none.

    Raises:
        TkreError: It is something else, or no cosine reaches or misses it.
    """
    if value is None:
        return None
    # NaN is not within them either.
    if isinstance(value, bool) or not isinstance(value, Real) or not -1 <= float(value) <= 1:
        raise TkreError(f"na_threshold is {value!r}: expected a similarity from -1 to 1, or None for no threshold")
    return float(value)


# Cosines that differ by less are the same: what they are depends in the last digits on how many are computed at once.
_ALIKE = 1e-6


def best_threshold(cosines: NDArray[Any], right: NDArray[Any], none: NDArray[Any]) -> float:
    """The threshold on the best cosine below which most is gained by answering none of the above.

    Args:
        cosines: Each query's best cosine, ``(queries,)``.
        right: What each query counts for where its own relation was found, else 0; ``(queries,)``.
        none: What each counts for where it has none of the relations, else 0; ``(queries,)``.
    """
    order = np.argsort(cosines, kind="stable")
    cosines = cosines[order]
    # Raised past one more query, a threshold gains it if it has no relation, and loses it if its relation was found.
    gain = np.cumsum(none[order] - right[order])
    # Which it can't of two queries with the same cosine: both or neither lie below it.
    gain[:-1][np.diff(cosines) <= _ALIKE] = -np.inf
    top = int(gain.argmax())
    if gain[top] <= 0:
        return float(cosines[0]) - _ALIKE
    if top + 1 == len(cosines):
        return float(cosines[top]) + _ALIKE
    return (float(cosines[top]) + float(cosines[top + 1])) / 2


@dataclass(frozen=True)
class RelationPrototypes:
    """Relations as one model sees them; nothing of it changes, what changes it makes another.

    Args:
        relations: Their labels.
        info: Name and description of each.
        anchors: Embedded names and descriptions, ``(relations, dim)``, unit length, on the CPU like the others.
        prototypes: ``(relations, dim)``, unit length.
        support_embeds: Of the labelled sentences, ``(supports, dim)``, unit length; may be none.
        support_labels: Each one's relation by number, ``(supports,)``.
        na_threshold: Cosine below which a sentence has none of the relations; ``None`` if one always has.

    Raises:
        TkreError: A label, a name, a description or the threshold is none.
    """

    relations: tuple[str, ...]
    info: tuple[RelationInfo, ...]
    anchors: Tensor
    prototypes: Tensor
    support_embeds: Tensor
    support_labels: Tensor
    na_threshold: float | None = None

    def __post_init__(self) -> None:
        for relation, info in zip(self.relations, self.info, strict=True):
            info.check(relation, RELATIONS)
        object.__setattr__(self, "na_threshold", check_threshold(self.na_threshold))

    @classmethod
    def fit(
        cls,
        model: TKREForFewShotClassification,
        relations: Sequence[str],
        info: Sequence[RelationInfo],
        anchors: Tensor,
        support_embeds: Tensor,
        support_labels: Tensor,
    ) -> RelationPrototypes:
        """Makes the prototypes; the threshold comes from the supports, or else is the model's own."""
        prototypes = _prototypes(model, support_embeds, support_labels, anchors)
        made = cls(tuple(relations), tuple(info), anchors, prototypes, support_embeds, support_labels)
        threshold = made.leave_one_out(model)
        if threshold is None:
            return replace(made, na_threshold=model.config.na_threshold)
        # Rounding takes a cosine past 1.
        return replace(made, na_threshold=min(max(threshold, -1.0), 1.0))

    def add(
        self,
        model: TKREForFewShotClassification,
        relation: str,
        info: RelationInfo,
        anchor: Tensor,
        support_embeds: Tensor,
    ) -> RelationPrototypes:
        """With one relation more. Its prototype is what ``fit`` of all would give it; the others' stay as they are.

        Args:
            model: The model that made the others.
            relation: The label.
            info: Name and description.
            anchor: ``(1, dim)``.
            support_embeds: ``(supports, dim)``; may be none.
        """
        number = len(self.relations)
        anchors = torch.cat([self.anchors, anchor])
        supports = torch.cat([self.support_embeds, support_embeds])
        labels = torch.cat([self.support_labels, torch.full((len(support_embeds),), number)])
        own = _prototypes(model, supports, labels, anchors)[number:]
        return replace(
            self,
            relations=(*self.relations, relation),
            info=(*self.info, info),
            anchors=anchors,
            prototypes=torch.cat([self.prototypes, own]),
            support_embeds=supports,
            support_labels=labels,
        )

    def remove(self, relation: str) -> RelationPrototypes:
        """Without one of the relations; the others' prototypes stay as they are."""
        number = self.relations.index(relation)
        kept = torch.arange(len(self.relations)) != number
        supports = self.support_labels != number
        labels = self.support_labels[supports]
        return replace(
            self,
            relations=self.relations[:number] + self.relations[number + 1 :],
            info=self.info[:number] + self.info[number + 1 :],
            anchors=self.anchors[kept],
            prototypes=self.prototypes[kept],
            support_embeds=self.support_embeds[supports],
            support_labels=labels - (labels > number).long(),
        )

    def leave_one_out(self, model: TKREForFewShotClassification) -> float | None:
        """The threshold that serves best where each support in turn is taken out, and is the query.

        The same query is none of the above where its own relation is taken away, so no other sentences are needed;
        what is found for one support less is a little low for all of them.

        Returns:
            The threshold; ``None`` where a relation has a single support, or there are fewer than three.
        """
        counts = torch.bincount(self.support_labels, minlength=len(self.relations))
        if len(counts) < _CALIBRATED_RELATIONS or int(counts.min()) < _CALIBRATED_SUPPORTS:
            return None
        cosines = self._left_out_cosines(model)
        own = self.support_labels[:, None]
        found, place = cosines.max(-1)
        outside = cosines.scatter(1, own, -torch.inf).max(-1).values
        rate = float(np.mean(NA_RATES))
        correct = (place == self.support_labels).double().numpy()
        zeros = np.zeros(len(correct))
        threshold = best_threshold(
            torch.cat([found, outside]).numpy(),
            np.concatenate([(1 - rate) * correct, zeros]),
            np.concatenate([zeros, np.full(len(correct), rate)]),
        )
        # A support that is another's copy may have a cosine of 1.
        return min(max(threshold, -1.0), 1.0)

    def _left_out_cosines(self, model: TKREForFewShotClassification) -> Tensor:
        """Each support's cosines with the prototypes that ``model.prototypes`` makes of all others.

        They are ``(supports, relations)``. A relation has two supports at least. The prototypes themselves, which
        differ for each support, are never made.
        """
        supports, anchors = self.support_embeds.double(), self.anchors.double()
        config, n_way = model.config, len(anchors)
        member = F.one_hot(self.support_labels, n_way).double()
        total = member.T @ supports
        to_total, to_anchor = supports @ total.T, supports @ anchors.T
        judged = (to_anchor / config.tau).softmax(-1).gather(1, self.support_labels[:, None])
        trust = AnchorTrust(config.anchor_weight, config.anchor_doubt, config.tau)
        weight = trust((judged.sum() - judged) / (len(judged) - 1), n_way)
        # The sum of a support's own relation lacks it, which changes a product and two lengths.
        squares = total.square().sum(-1) - member * (2 * to_total - 1)
        along = (total * anchors).sum(-1) - member * to_anchor
        length = (squares + 2 * weight * along + weight.square()).clamp(min=0).sqrt()
        return ((to_total - member + weight * to_anchor) / length.clamp(min=1e-12)).float()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes both files; they take the place of older ones when both are whole."""
        tensors = {
            "anchors": self.anchors,
            "prototypes": self.prototypes,
            "support_embeds": self.support_embeds,
            "support_labels": self.support_labels,
        }
        counts = torch.bincount(self.support_labels, minlength=len(self.relations)).tolist()
        rows = [
            {"relation": relation, "name": info.name, "description": info.description, "supports": count}
            for relation, info, count in zip(self.relations, self.info, counts, strict=True)
        ]
        settings = {"na_threshold": self.na_threshold, "relations": rows}
        text = json.dumps(settings, indent=1, ensure_ascii=False, allow_nan=False)
        parts = {Path(folder, f".{name}.{os.getpid()}.part"): Path(folder, name) for name in (PROTOTYPES, RELATIONS)}
        numbers, words = parts
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, numbers)
            words.write_text(text + "\n", encoding="utf-8")
            for part, whole in parts.items():
                part.replace(whole)
        finally:
            for part in parts:
                part.unlink(missing_ok=True)

    @classmethod
    def load(cls, prototypes: str | Path, relations: str | Path) -> RelationPrototypes:
        """Reads both files.

        Raises:
            TkreError: One of them is broken, or they don't belong together.
        """
        try:
            tensors = load_file(prototypes)
            settings = json.loads(Path(relations).read_text(encoding="utf-8"))
            rows = settings["relations"]
            made = cls(
                tuple(row["relation"] for row in rows),
                tuple(RelationInfo(row["name"], row["description"]) for row in rows),
                tensors["anchors"],
                tensors["prototypes"],
                tensors["support_embeds"],
                tensors["support_labels"],
                settings["na_threshold"],
            )
        except (TkreError, OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise TkreError(f"{prototypes} and {relations} can't be read ({error}): fit the relations anew") from error
        if not len(rows) == len(made.anchors) == len(made.prototypes):
            raise TkreError(
                f"{relations} names {len(rows)} relations, but {prototypes} has {len(made.prototypes)}: they don't "
                "belong together; fit the relations anew"
            )
        return made


def _prototypes(model: TKREForFewShotClassification, supports: Tensor, labels: Tensor, anchors: Tensor) -> Tensor:
    return model.prototypes(supports, labels, anchors) if len(supports) else model.prototypes(anchor_embeds=anchors)
