"""Other ways to a prototype than the model's own, and their accuracy beside it: what was tried, for all to see.

Each way is a function of an episode's supports, its relations' anchors and their synthetic samples, and gives the
prototypes that queries are compared with by cosine.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tkre_hf.data import EpisodeDataset
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.few_shot import FewShotArguments, FewShotEvaluator, load_checkpoint, parse_setting
from tkre_hf.evaluation.report import Row, command, machine, versions
from tkre_hf.reproduction import HELD_OUT
from tkre_hf.tkre.modeling_parts import AnchorTrust, relation_prototypes, unit
from tkre_hf.training_data import training_summary

# Supports (episodes, n_way, k_shot, dim), anchors (episodes, n_way, dim), samples (episodes, n_way, samples, dim) or
# None -> prototypes (episodes, n_way, dim).
Way = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]

_EPISODES_AT_ONCE = 100


@dataclass
class CompareArguments:
    """What is compared."""

    model: str = field(metadata={"help": "Checkpoint that was trained without the relations measured on."})
    data: str = field(default="fewrel:wiki", metadata={"help": "Sentences, as for tkre evaluate."})
    split: str | None = field(default="train", metadata={"help": "Split of the data."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with the publisher's files."})
    relations: list[str] = field(
        default_factory=lambda: list(HELD_OUT), metadata={"help": "Labels of the relations to measure on."}
    )
    samples: list[str] = field(default_factory=list, metadata={"help": "Files of synthetic sentences of them."})
    settings: list[str] = field(
        default_factory=lambda: ["5w1s", "5w5s", "10w1s", "10w5s"], metadata={"help": "N-way K-shot settings."}
    )
    label: str = field(default="", metadata={"help": "What the rows' systems begin with, to tell checkpoints apart."})
    num_episodes: int = field(default=2_000, metadata={"help": "Episodes of each setting."})
    seed: int = field(default=0, metadata={"help": "Of the episodes."})
    threads: int | None = field(default=None, metadata={"help": "Threads of this process."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})


def supports_alone(support: Tensor, anchors: Tensor, samples: Tensor | None) -> Tensor:
    """The mean of the supports."""
    return relation_prototypes(support)


def trusting(weight: float, doubt: float, tau: float) -> Way:
    """The model's own way, with other settings; without doubt the anchor's weight is always the same."""

    def way(support: Tensor, anchors: Tensor, samples: Tensor | None) -> Tensor:
        return relation_prototypes(support, anchors, AnchorTrust(weight, doubt, tau))

    return way


def trusting_each(weight: float, tau: float) -> Way:
    """Each relation's anchor by its own reliability: half its own, half the episode's."""

    def way(support: Tensor, anchors: Tensor, samples: Tensor | None) -> Tensor:
        logits = support @ anchors.unsqueeze(-3).transpose(-1, -2) / tau
        own = logits.softmax(-1).diagonal(dim1=-3, dim2=-1).mean(-2)
        own = (own + own.mean(-1, keepdim=True)) / 2
        return unit(support.sum(-2) + AnchorTrust(weight, 1.0, tau)(own, own.shape[-1])[..., None] * anchors)

    return way


def by_distance(weight: float, within: float) -> Way:
    """Empirical Bayes: an anchor weighs as the variance within relations to that between supports and anchors.

    Args:
        weight: A factor on it.
        within: The variance within relations, where one support tells nothing of it.
    """

    def way(support: Tensor, anchors: Tensor, samples: Tensor | None) -> Tensor:
        shots, mean = support.shape[-2], support.mean(-2)
        variance = torch.full(support.shape[:1], within)
        if shots > 1:
            own = (support - mean.unsqueeze(-2)).square().sum((-1, -2)).mean(-1) / (shots - 1)
            variance = (own + within) / 2
        apart = (mean - anchors).square().sum(-1).mean(-1) - variance / shots
        weights = weight * variance / apart.clamp(min=0.05)
        return unit(support.sum(-2) + weights[:, None, None] * anchors)

    return way


def learned_head(base: Way, with_samples: bool, scale: float = 20.0, rate: float = 0.05, steps: int = 10) -> Way:
    """A softmax classifier trained on the supports (and samples), which starts from another way's prototypes.

    Args:
        base: Where it starts.
        with_samples: Whether samples are trained on beside the supports; both kinds count alike.
        scale: Of the cosines in the softmax.
        rate: Step size, in units of 5 / ``scale``.
        steps: Of gradient descent.
    """

    def way(support: Tensor, anchors: Tensor, samples: Tensor | None) -> Tensor:
        parts = [support, *([samples] if with_samples and samples is not None else [])]
        prototypes = base(support, anchors, samples)
        for _ in range(steps):
            gradient = torch.zeros_like(prototypes)
            for rows in parts:
                n_way, count = rows.shape[1:3]
                logits = scale * rows.flatten(1, 2) @ prototypes.transpose(-1, -2)
                wrong = logits.softmax(-1) - torch.eye(n_way).repeat_interleave(count, 0)
                gradient += scale * wrong.transpose(-1, -2) @ rows.flatten(1, 2) / (n_way * count)
            prototypes = prototypes - rate * 5 / scale * gradient
        return unit(prototypes)

    return way


def ways(tau: float, within: float, samples: bool) -> dict[str, Way]:
    """All that is compared.

    Args:
        tau: The model's temperature.
        within: Its variance within relations.
        samples: Whether there are synthetic samples.
    """
    own = trusting(3.0, 1.0, tau)
    found: dict[str, Way] = {"supports alone": supports_alone}
    found |= {f"anchor as {weight:g} supports": trusting(weight, 0.0, tau) for weight in (0.5, 1.0, 1.5, 2.0, 3.0)}
    found |= {
        f"anchor as up to {weight:g}, doubt {doubt:g}": trusting(weight, doubt, tau)
        for weight, doubt in ((3.0, 1.0), (4.0, 2.0), (6.0, 2.0))
    }
    found["each anchor by its own reliability"] = trusting_each(3.0, tau)
    found |= {f"anchor by its distance, times {weight:g}": by_distance(weight, within) for weight in (1.0, 3.0)}
    found["a classifier trained on supports"] = learned_head(own, False)
    if samples:
        found["a classifier trained on supports and samples"] = learned_head(own, True)
    return found


def compare(args: CompareArguments) -> list[Row]:
    """Accuracy of every way in every setting.

    Raises:
        TkreError: The checkpoint has been trained on sentences of the relations, or data or settings are wrong.
    """
    summary = training_summary(args.model)
    evaluator = FewShotEvaluator(
        *load_checkpoint(args.model),
        FewShotArguments(
            model=[args.model],
            data=args.data,
            split=args.split,
            data_dir=args.data_dir,
            relations=args.relations,
        ),
    )
    seen = summary.relations & evaluator.relations if summary is not None and not args.samples else frozenset()
    if seen:
        raise TkreError(f"{args.model} was trained on {sorted(seen)[0]}: settings are chosen on relations held out")
    own = evaluator.embedded
    assert own.anchors is not None
    samples = evaluator.embed_samples(args.samples) if args.samples else None
    # Beside its description a relation's anchor is the mean of what was written of it.
    anchors = own.anchors if samples is None else unit(own.anchors + unit(samples.mean(1)))
    config = evaluator.model.config
    within = _within(own.vectors, own.labels)
    rows = []
    for setting in args.settings:
        n_way, k_shot = parse_setting(setting)
        episodes = EpisodeDataset(own.labels, n_way, k_shot, 1, 0.0, args.num_episodes, args.seed)
        for name, way in ways(config.tau, within, samples is not None).items():
            correct = []
            for start in range(0, len(episodes), _EPISODES_AT_ONCE):
                batch = episodes.batch(start, min(start + _EPISODES_AT_ONCE, len(episodes)))
                relations = torch.from_numpy(batch.relations)
                prototypes = way(
                    own.vectors[torch.from_numpy(batch.support)],
                    anchors[relations],
                    samples[relations] if samples is not None else None,
                )
                found = (own.vectors[torch.from_numpy(batch.query)] @ prototypes.transpose(-1, -2)).argmax(-1)
                right = found == torch.from_numpy(batch.query_label)
                correct += (100 * right.double().mean(-1)).tolist()
            rows.append(
                Row(
                    benchmark="fewrel_held_out",
                    system=f"{args.label}: {name}" if args.label else name,
                    setting=setting,
                    metric="accuracy",
                    value=round(statistics.fmean(correct), 2),
                    ci95=round(1.96 * statistics.stdev(correct) / math.sqrt(len(correct)), 2),
                    n=len(correct),
                    seeds=[summary.seed] if summary is not None else [],
                    knowledge="synthetic" if args.samples else "descriptions",
                    minutes=round(summary.minutes, 1) if summary is not None else None,
                    source=summary.data if summary is not None else "",
                )
            )
    return [replace(row, command=command(), versions=versions(), machine=machine()) for row in rows]


def _within(vectors: Tensor, labels: list[str]) -> float:
    """The variance within relations, summed over dimensions: more than an episode's supports could tell."""
    names = sorted(set(labels))
    number = torch.tensor([names.index(label) for label in labels])
    means = torch.stack([vectors[number == i].mean(0) for i in range(len(names))])
    return float((vectors - means[number]).square().sum() / (len(vectors) - len(names)))
