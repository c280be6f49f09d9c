"""The four tasks' figures: node classification, clustering, similarity search and link prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, f1_score, normalized_mutual_info_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from .embedding import import_faiss, unit_rows

IntArray = NDArray[np.int64]
FloatArray = NDArray[Any]

# Inverse strengths of regularization that validation nodes choose among.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def f1_scores(true: IntArray, predicted: IntArray) -> dict[str, float]:
    """Macro- and micro-averaged F1, in percent."""
    return {
        "macro_f1": 100 * f1_score(true, predicted, average="macro"),
        "micro_f1": 100 * f1_score(true, predicted, average="micro"),
    }


def classify_linear(
    vectors: FloatArray,
    labels: IntArray,
    train: IntArray,
    val: IntArray,
    test: IntArray,
    strengths: Sequence[float] = STRENGTHS,
) -> dict[str, float]:
    """Logistic regression on vectors: strength chosen on validation nodes by macro-F1, measured on the test's.

    Args:
        vectors: ``(nodes, size)``; scaled by the training nodes' means and deviations.
        labels: ``(nodes,)``.
        train: Training nodes; ``val`` and ``test`` likewise.
        strengths: Inverse strengths of regularization to choose among.

    Returns:
        ``macro_f1`` and ``micro_f1`` of the test nodes, ``val_macro_f1`` of the validation nodes.
    """
    scaler = StandardScaler().fit(vectors[train])
    best: tuple[float, LogisticRegression] | None = None
    for strength in strengths:
        model = LogisticRegression(C=strength, max_iter=2000).fit(scaler.transform(vectors[train]), labels[train])
        score = f1_scores(labels[val], model.predict(scaler.transform(vectors[val])))["macro_f1"]
        if best is None or score > best[0]:
            best = (score, model)
    assert best is not None
    predicted = best[1].predict(scaler.transform(vectors[test]))
    return {**f1_scores(labels[test], predicted), "val_macro_f1": best[0]}


def cluster(vectors: FloatArray, labels: IntArray, seed: int = 0) -> dict[str, float]:
    """k-means with as many clusters as labels, against the labels: NMI and ARI, in percent.

    Args:
        vectors: Of the labelled nodes, ``(nodes, size)``; compared by cosine.
        labels: ``(nodes,)``.
        seed: Of k-means, which starts ten times.
    """
    found = KMeans(len(np.unique(labels)), n_init=10, random_state=seed).fit_predict(unit_rows(vectors))
    return {
        "nmi": 100 * normalized_mutual_info_score(labels, found),
        "ari": 100 * adjusted_rand_score(labels, found),
    }


def similarity_search(
    vectors: FloatArray, labels: IntArray, k: int = 10, pairs: int = 100_000, seed: int = 0
) -> dict[str, float]:
    """How many of a node's nearest share its label, and how well cosines tell pairs that do from pairs that don't.

    Args:
        vectors: Of the labelled nodes, ``(nodes, size)``.
        labels: ``(nodes,)``.
        k: Nearest nodes, itself left out.
        pairs: Random pairs that the AUC is of.
        seed: Of the pairs.

    Returns:
        ``precision_at_10`` (or whatever k is) and ``similarity_auc``, in percent.

    Raises:
        ValueError: There are too few nodes to have so many neighbours each.
    """
    if len(vectors) <= k:
        raise ValueError(f"the nearest {k} of a node are sought among {len(vectors)} labelled nodes: more are needed")
    faiss = import_faiss()
    rows = np.ascontiguousarray(unit_rows(vectors), np.float32)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    _, nearest = index.search(rows, k + 1)
    own = nearest == np.arange(len(rows))[:, None]
    # Where equal vectors crowd a node out of its own list, the last one goes instead.
    own[~own.any(1), -1] = True
    others = nearest[~own].reshape(len(rows), k)
    rng = np.random.default_rng(seed)
    first, second = rng.integers(len(rows), size=(2, pairs))
    apart = first != second
    first, second = first[apart], second[apart]
    cosine = np.einsum("ij,ij->i", rows[first], rows[second])
    return {
        f"precision_at_{k}": 100 * float((labels[others] == labels[:, None]).mean()),
        "similarity_auc": 100 * roc_auc_score(labels[first] == labels[second], cosine),
    }


def ranking_scores(
    score_tails: Callable[[IntArray, IntArray], FloatArray],
    score_heads: Callable[[IntArray, IntArray], FloatArray],
    triples: IntArray,
    known: IntArray,
    num_nodes: int,
    batch_size: int = 512,
) -> dict[str, float]:
    """Filtered ranks of true heads and tails among all nodes (Bordes et al., 2013).

    Others that are known to be true are left out; of nodes with the same score half rank before the true one.

    Args:
        score_tails: Scores of all nodes as tails, ``(batch, nodes)``, of heads and edge types ``(batch,)``.
        score_heads: Likewise as heads, of tails and edge types.
        triples: Head, edge type, tail: ``(triples, 3)``.
        known: All that are true, those of training, validation and test, ``(known, 3)``.
        num_nodes: How many nodes there are.
        batch_size: Triples at once.

    Returns:
        ``mrr``, ``hits_1``, ``hits_3`` and ``hits_10``, in percent.
    """
    found = []
    for score, given, asked in ((score_tails, 0, 2), (score_heads, 2, 0)):
        answers: dict[tuple[int, int], list[int]] = {}
        for row in known.tolist():
            answers.setdefault((row[given], row[1]), []).append(row[asked])
        for start in range(0, len(triples), batch_size):
            batch = triples[start : start + batch_size]
            scores = np.array(score(batch[:, given], batch[:, 1]), dtype=np.float64)
            true = scores[np.arange(len(batch)), batch[:, asked]].copy()
            for i, row in enumerate(batch.tolist()):
                scores[i, answers.get((row[given], row[1]), [])] = -np.inf
            above, equal = (scores > true[:, None]).sum(1), (scores == true[:, None]).sum(1)
            found.append(1 + above + equal / 2)
    ranks = np.concatenate(found)
    hits = {f"hits_{k}": 100 * float((ranks <= k).mean()) for k in (1, 3, 10)}
    return {"mrr": 100 * float((1 / ranks).mean()), **hits}


def link_scores(scores: FloatArray, labels: IntArray, kinds: IntArray, val: tuple[Any, Any, Any]) -> dict[str, float]:
    """AUC of scored links, and accuracy with a threshold for each edge type (triple classification).

    Args:
        scores: ``(links,)``, higher where a link is held to be true.
        labels: 1 true, 0 false.
        kinds: Edge types.
        val: Scores, labels and edge types of the links that thresholds are chosen on.

    Returns:
        ``link_auc`` and ``link_accuracy``, in percent.
    """
    val_scores, val_labels, val_kinds = map(np.asarray, val)
    overall = _threshold(val_scores, val_labels)
    thresholds = np.full(int(max(kinds.max(), val_kinds.max())) + 1, overall)
    for kind in np.unique(val_kinds):
        mine = val_kinds == kind
        # Of a handful of links no threshold can be told.
        if mine.sum() >= 10:
            thresholds[kind] = _threshold(val_scores[mine], val_labels[mine])
    predicted = scores > thresholds[kinds]
    return {
        "link_auc": 100 * roc_auc_score(labels, scores),
        "link_accuracy": 100 * float((predicted == (labels == 1)).mean()),
    }


def _threshold(scores: FloatArray, labels: IntArray) -> float:
    """The threshold that most links are on the right side of."""
    order = np.argsort(scores, kind="stable")
    signs = np.where(labels[order] == 1, -1, 1)
    right = np.concatenate([[0], np.cumsum(signs)])
    ordered = scores[order]
    place = int(right.argmax())
    low = ordered[place - 1] if place else ordered[0] - 1
    high = ordered[place] if place < len(ordered) else ordered[-1] + 1
    return float((low + high) / 2)
