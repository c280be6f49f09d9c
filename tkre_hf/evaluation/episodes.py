"""Few-shot accuracy over episodes. Every sentence is encoded once; an episode is index arithmetic on its vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tkre_hf.data.episodes import Episode, EpisodeDataset
from tkre_hf.data.relations import RelationInfo
from tkre_hf.tkre.embedding import embed_anchors
from tkre_hf.tkre.modeling_parts import AnchorTrust, relation_prototypes, unit
from tkre_hf.tkre.modeling_tkre import TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.prototypes import NA_RATES, best_threshold

# Queries scored at once: their supports' vectors are what takes memory, 40 MB at 10-way 5-shot and 384 dimensions.
_QUERIES_AT_ONCE = 5_000


def with_samples(anchors: Tensor, samples: Tensor, labels: Sequence[int], weight: float) -> Tensor:
    """Anchors that know synthetic sentences of their relations.

    Args:
        anchors: ``(relations, dim)``, unit length.
        samples: Vectors of the synthetic sentences, ``(samples, dim)``, unit length.
        labels: Each sample's row of ``anchors``.
        weight: The samples' mean direction beside the anchor.

    Returns:
        ``(relations, dim)``, unit length; a relation without samples keeps its anchor.
    """
    sums = torch.zeros_like(anchors).index_add_(0, torch.as_tensor(labels), samples)
    return unit(anchors + weight * unit(sums))


@dataclass(frozen=True)
class EpisodeReport:
    """What a run over episodes found.

    Args:
        accuracy: Mean over episodes, in percent.
        ci95: Half the width of its 95% interval: 1.96 standard errors over episodes, in percent.
        episodes: How many there were.
        confusion: Queries by gold relation and predicted relation, ``(relations + 1, relations + 1)``; the last row
            and column are none of the above.
        relations: The names of the rows and columns.
    """

    accuracy: float
    ci95: float
    episodes: int
    confusion: NDArray[np.int64]
    relations: tuple[str, ...]

    def most_confused(self, count: int = 5) -> list[tuple[str, str, float]]:
        """The pairs (gold, predicted, share of gold's queries) that go wrong most often."""
        shares = self.confusion / np.maximum(self.confusion.sum(1, keepdims=True), 1)
        np.fill_diagonal(shares, 0.0)
        worst = np.argsort(-shares, axis=None, kind="stable")[:count]
        pairs = [np.unravel_index(i, shares.shape) for i in worst]
        names = (*self.relations, "none of the above")
        return [
            (names[gold], names[found], float(shares[gold, found])) for gold, found in pairs if shares[gold, found]
        ]


def episode_scores(
    vectors: Tensor,
    episode: Episode,
    anchors: Tensor | None = None,
    trust: AnchorTrust | None = None,
    zero_shot: bool = False,
) -> Tensor:
    """Cosines of the queries with the prototypes of a batch of episodes.

    Args:
        vectors: Of all sentences, ``(sentences, dim)``.
        episode: A batch (``EpisodeDataset.batch``).
        anchors: Of all relations, ``(relations, dim)``; without them supports alone make a prototype.
        trust: How much anchors count for beside supports.
        zero_shot: The anchors alone are the prototypes.

    Returns:
        ``(episodes, queries, n_way)``.
    """
    own = anchors[torch.from_numpy(episode.relations)] if anchors is not None else None
    if zero_shot:
        if own is None:
            raise ValueError("zero-shot scores need anchors")
        prototypes = own
    else:
        prototypes = relation_prototypes(vectors[torch.from_numpy(episode.support)], own, trust)
    return vectors[torch.from_numpy(episode.query)] @ prototypes.transpose(-1, -2)


def evaluate_episodes(
    vectors: Tensor,
    episodes: EpisodeDataset,
    anchors: Tensor | None = None,
    trust: AnchorTrust | None = None,
    na_threshold: float | None = None,
    zero_shot: bool = False,
) -> EpisodeReport:
    """Accuracy over all episodes.

    Args:
        vectors: Of all sentences, in the order of the rows that ``episodes`` was made from.
        episodes: The episodes.
        anchors: Of ``episodes.relation_names``, ``(relations, dim)``.
        trust: How much anchors count for beside supports.
        na_threshold: A query whose best cosine lies below is none of the above; needed where episodes have such
            queries, and taken where they have none as well.
        zero_shot: By the anchors alone.

    Raises:
        ValueError: The episodes have queries with none of the above, and there is no threshold.
    """
    if episodes.n_na and na_threshold is None:
        raise ValueError("none-of-the-above episodes need a na_threshold: calibrate one on other relations")
    names = episodes.relation_names
    confusion = np.zeros((len(names) + 1) ** 2, dtype=np.int64)
    correct = []
    step = max(1, _QUERIES_AT_ONCE // (episodes.n_way * episodes.n_query + episodes.n_na))
    for start in range(0, len(episodes), step):
        batch = episodes.batch(start, min(start + step, len(episodes)))
        best, place = episode_scores(vectors, batch, anchors, trust, zero_shot).max(-1)
        found = place.numpy()
        if na_threshold is not None:
            found = np.where(best.numpy() < na_threshold, -1, found)
        correct.append((found == batch.query_label).mean(1))
        # Column n_way of the episode's relations stands for none of the above, which -1 picks as the last.
        relations = np.pad(batch.relations, ((0, 0), (0, 1)), constant_values=len(names))
        gold = np.take_along_axis(relations, batch.query_label % (episodes.n_way + 1), axis=1)
        guess = np.take_along_axis(relations, found % (episodes.n_way + 1), axis=1)
        confusion += np.bincount((gold * (len(names) + 1) + guess).ravel(), minlength=len(confusion))
    accuracy = 100 * np.concatenate(correct)
    error = accuracy.std(ddof=1) / math.sqrt(len(accuracy)) if len(accuracy) > 1 else math.nan
    shape = (len(names) + 1, len(names) + 1)
    return EpisodeReport(float(accuracy.mean()), float(1.96 * error), len(accuracy), confusion.reshape(shape), names)


def calibrate_na(
    vectors: Tensor,
    labels: Sequence[str],
    n_way: int,
    k_shot: int,
    anchors: Tensor | None = None,
    trust: AnchorTrust | None = None,
    rates: Sequence[float] = NA_RATES,
    num_episodes: int = 2_000,
    seed: int = 0,
) -> float:
    """The threshold on the best cosine that does best on average over rates of none of the above.

    Args:
        vectors: Of sentences of relations that neither training nor evaluation uses.
        labels: Their relations.
        n_way: Of the episodes to come; the best of ten cosines lies higher than the best of five.
        k_shot: Likewise; a prototype of five lies nearer to its queries. 0 is by the anchors alone.
        anchors: Of the sorted relations.
        trust: As it will be.
        rates: Fractions of queries with none of the above; 0 itself would ask for no threshold.
        num_episodes: For each rate.
        seed: Of the episodes.
    """
    best, right, none = [], [], []
    for rate in rates:
        episodes = EpisodeDataset(labels, n_way, max(k_shot, 1), 2, rate, num_episodes, seed)
        batch = episodes.batch(0, num_episodes)
        score, place = episode_scores(vectors, batch, anchors, trust, zero_shot=k_shot == 0).max(-1)
        best.append(score.numpy().ravel())
        right.append((place.numpy() == batch.query_label).ravel() / score.numel())
        none.append((batch.query_label == -1).ravel() / score.numel())
    return best_threshold(np.concatenate(best), np.concatenate(right), np.concatenate(none))


def anchors_of(
    model: TKREModel, processor: TKREProcessor, relations: Sequence[str], info: Mapping[str, RelationInfo]
) -> Tensor:
    """Anchors in the order of ``relations``; a relation that ``info`` lacks is its own label's words."""
    return embed_anchors(model, processor, [info.get(label) or RelationInfo.from_label(label) for label in relations])
