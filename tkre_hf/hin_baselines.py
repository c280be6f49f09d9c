"""What PF-HIN is measured beside: label propagation, meta-path features, DeepWalk, metapath2vec, link heuristics.

ComplEx is in ``tkre_hf/pfhin/links.py``. All see the graph that PF-HIN sees, and choose on the same validation nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tkre_hf.errors import TkreError
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.tasks import f1_scores
from tkre_hf.pfhin.walks import Walker, WalkSettings

IntArray = NDArray[np.int64]
Split = dict[str, IntArray]


def label_propagation(
    graph: HeteroGraph, labels: IntArray, parts: Split, shares: Sequence[float] = (0.5, 0.8, 0.9, 0.95)
) -> dict[str, float]:
    """Label spreading (Zhou et al., NIPS 2003) over the graph without types: F1 of the test nodes.

    Args:
        graph: The graph.
        labels: ``(nodes,)``.
        parts: Training, validation and test nodes.
        shares: How much of a node's label comes from its neighbours; validation nodes choose.
    """
    adjacency = _adjacency(graph)
    degree = np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1) ** -0.5
    smooth = scipy.sparse.diags(degree) @ adjacency @ scipy.sparse.diags(degree)
    train = parts["train"]
    start = np.zeros((graph.num_nodes, int(labels.max()) + 1))
    start[train, labels[train]] = 1 / np.bincount(labels[train])[labels[train]]
    best: tuple[float, NDArray[Any]] | None = None
    for share in shares:
        spread = start
        for _ in range(50):
            spread = share * (smooth @ spread) + (1 - share) * start
        # Each class is brought to the same mass, or the largest would take all.
        predicted = (spread / np.maximum(spread.sum(0), 1e-12)).argmax(1)
        score = f1_scores(labels[parts["val"]], predicted[parts["val"]])["macro_f1"]
        if best is None or score > best[0]:
            best = (score, predicted)
    assert best is not None
    return {**f1_scores(labels[parts["test"]], best[1][parts["test"]]), "val_macro_f1": best[0]}


def meta_path_features(graph: HeteroGraph, hops: int = 2, most_paths: int = 200) -> Any:
    """Where each node's meta-paths of up to some edges end: a sparse row for each node, TF-IDF weighted.

    A meta-path is a sequence of edge types, either way along each. A column is a pair of meta-path and end.

    Args:
        graph: The graph.
        hops: Edges of the longest meta-path.
        most_paths: Of the longer ones those that most nodes have.

    Returns:
        A sparse matrix, ``(nodes, columns)``.
    """
    rows, size = graph.rows(), graph.num_nodes
    steps = []
    for kind in range(2 * len(graph.edge_types)):
        mine = np.flatnonzero(graph.edge_type == kind)
        if len(mine):
            ones = np.ones(len(mine))
            matrix = scipy.sparse.csr_matrix((ones, (rows[mine], graph.indices[mine])), shape=(size, size))
            steps.append(_rows_to_one(matrix))
    paths = list(steps)
    longer = steps
    for _ in range(hops - 1):
        counted: list[tuple[int, int, Any, Any]] = []
        for first in longer:
            reached = np.flatnonzero(np.diff(first.indptr))
            for step in steps:
                # How many nodes have the path, before it is worked out.
                has = np.diff(step.indptr) > 0
                count = len(np.unique(first[reached].multiply(has[None, :]).nonzero()[0]))
                counted.append((count, len(counted), first, step))
        counted.sort(key=lambda entry: (-entry[0], entry[1]))
        longer = [first @ step for count, _, first, step in counted[:most_paths] if count]
        paths += longer
    features = scipy.sparse.hstack(paths, format="csr")
    present = np.asarray((features > 0).sum(0)).ravel()
    kept = np.flatnonzero(present > 1)
    features = features[:, kept]
    weight = np.log(size / present[kept])
    return _rows_to_length_one(features.sqrt() @ scipy.sparse.diags(weight))


def classify_sparse(
    features: Any, labels: IntArray, parts: Split, strengths: Sequence[float] = (1.0, 10.0, 100.0, 1000.0)
) -> dict[str, float]:
    """Logistic regression on sparse features, its strength chosen on validation nodes: F1 of the test nodes."""
    best: tuple[float, LogisticRegression] | None = None
    train, val, test = (parts[name] for name in ("train", "val", "test"))
    # Columns that no training node has carry no weight.
    used = np.flatnonzero(np.asarray((features[train] != 0).sum(0)).ravel())
    features = features[:, used]
    for strength in strengths:
        model = LogisticRegression(C=strength, max_iter=2000).fit(features[train], labels[train])
        score = f1_scores(labels[val], model.predict(features[val]))["macro_f1"]
        if best is None or score > best[0]:
            best = (score, model)
    assert best is not None
    return {**f1_scores(labels[test], best[1].predict(features[test])), "val_macro_f1": best[0]}


def deepwalk(
    graph: HeteroGraph,
    size: int = 128,
    num_walks: int = 10,
    walk_length: int = 40,
    window: int = 5,
    epochs: int = 2,
    seed: int = 0,
) -> NDArray[np.float32]:
    """DeepWalk (Perozzi et al., KDD 2014): word2vec's skip-gram over uniform walks, ``(nodes, size)``.

    Raises:
        TkreError: gensim isn't installed.
    """
    how = WalkSettings(num_walks, walk_length, 0.0, 0.0)
    walks, *_ = Walker(graph, np.ones(graph.num_nodes), how, seed).walk(np.arange(graph.num_nodes))
    return _skip_gram(walks.reshape(-1, walk_length + 1), graph.num_nodes, size, window, epochs, seed)


def metapath2vec(
    graph: HeteroGraph,
    node_type: str,
    size: int = 128,
    num_walks: int = 10,
    walk_length: int = 40,
    window: int = 5,
    epochs: int = 2,
    seed: int = 0,
) -> NDArray[np.float32]:
    """metapath2vec (Dong et al., KDD 2017), over all meta-paths from a node type back to it over one other node.

    Two steps at a time: to a neighbour over an edge of any type, and back over an edge of the same type to a node of
    the type that the walk began with, so that walks follow the meta-paths type - edge - other - edge - type.

    Args:
        graph: The graph.
        node_type: Where walks begin and come back to.
        size: Of a vector, and further arguments as in :func:`deepwalk`.

    Raises:
        TkreError: gensim isn't installed.
        ValueError: The graph has no such node type.
    """
    if node_type not in graph.node_types:
        raise ValueError(f"unknown node type {node_type!r}: the graph has {', '.join(graph.node_types)}")
    wanted = graph.node_types.index(node_type)
    kinds, size_all = len(graph.edge_types), graph.num_nodes
    rows = graph.rows()
    # Entries that lead to a node of the type, by where they begin and their type.
    home = np.flatnonzero(graph.node_type[graph.indices] == wanted)
    code = rows[home] * 2 * kinds + graph.edge_type[home]
    order = np.argsort(code, kind="stable")
    home, code = home[order], code[order]
    rng = np.random.default_rng(seed)
    starts = np.flatnonzero((graph.node_type == wanted) & (graph.degree > 0))
    at = np.tile(starts, num_walks)
    walk = [at]
    for _ in range(walk_length // 2):
        entry = graph.indptr[at] + (rng.random(len(at)) * graph.degree[at]).astype(np.int64)
        middle = graph.indices[entry].astype(np.int64)
        # The way back is the reverse of the way there: of type e it is e + kinds, and the other way round.
        back = (graph.edge_type[entry].astype(np.int64) + kinds) % (2 * kinds)
        key = middle * 2 * kinds + back
        low, high = np.searchsorted(code, key), np.searchsorted(code, key, side="right")
        at = graph.indices[home[low + (rng.random(len(at)) * (high - low)).astype(np.int64)]].astype(np.int64)
        walk += [middle, at]
    return _skip_gram(np.stack(walk, axis=1), size_all, size, window, epochs, seed)


def _skip_gram(walks: IntArray, nodes: int, size: int, window: int, epochs: int, seed: int) -> NDArray[np.float32]:
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise TkreError("DeepWalk and metapath2vec need gensim: pip install 'tkre-hf[baselines]'") from error
    order = np.random.default_rng(seed).permutation(len(walks))
    names = np.array([str(i) for i in range(nodes)], dtype=object)
    sentences = [names[walks[i]].tolist() for i in order]
    model = Word2Vec(
        sentences,
        vector_size=size,
        window=window,
        sg=1,
        negative=5,
        min_count=0,
        workers=1,
        epochs=epochs,
        seed=seed,
    )
    vectors = np.zeros((nodes, size), np.float32)
    for i in range(nodes):
        if names[i] in model.wv:
            vectors[i] = model.wv[names[i]]
    return vectors


class LinkHeuristics:
    """Logistic regression on what link heuristics say of a pair, for each edge type.

    Common neighbours, Adamic-Adar, Jaccard, preferential attachment, whether another edge joins the two, and how often
    the head and the tail stand at that end of that edge type.

    Args:
        graph: With the training edges.
        triples: These: head, edge type, tail, ``(triples, 3)``.
        seed: Of the pairs that are none.
    """

    def __init__(self, graph: HeteroGraph, triples: IntArray, seed: int = 0) -> None:
        self.graph = graph
        self._adjacency = _adjacency(graph)
        self._simple = (self._adjacency > 0).astype(np.float64)
        degree = np.maximum(np.asarray(self._simple.sum(1)).ravel(), 2)
        self._weighted = self._simple @ scipy.sparse.diags(1 / np.log(degree))
        self._degree = degree
        kinds, size = len(graph.edge_types), graph.num_nodes
        self._ends = np.zeros((2, kinds, size))
        np.add.at(self._ends[0], (triples[:, 1], triples[:, 0]), 1)
        np.add.at(self._ends[1], (triples[:, 1], triples[:, 2]), 1)
        rng = np.random.default_rng(seed)
        wrong = triples.copy()
        column = np.where(rng.random(len(triples)) < 0.5, 0, 2)
        order = np.lexsort((rng.random(len(triples)), triples[:, 1]))
        other = np.empty(len(triples), np.int64)
        other[order] = np.roll(order, 1)
        same = triples[other, 1] == triples[:, 1]
        wrong[same, column[same]] = triples[other[same], column[same]]
        wrong = wrong[same]
        wrong = wrong[~graph.adjacent(wrong[:, 0], wrong[:, 2])]
        features = np.concatenate([self.features(triples, own=True), self.features(wrong, own=False)])
        labels = np.repeat([1, 0], [len(triples), len(wrong)])
        self._scaler = StandardScaler().fit(features)
        self._model = LogisticRegression(max_iter=1000).fit(self._scaler.transform(features), labels)

    def features(self, triples: IntArray, own: bool = False) -> NDArray[Any]:
        """Heuristics of links, ``(links, 7)``; ``own`` where they are training edges, which don't count themselves."""
        heads, kinds, tails = triples.T
        common = np.asarray(self._simple[heads].multiply(self._simple[tails]).sum(1)).ravel()
        adamic = np.asarray(self._weighted[heads].multiply(self._simple[tails]).sum(1)).ravel()
        union = self._degree[heads] + self._degree[tails] - common
        edges = np.asarray(self._adjacency[heads, tails]).ravel()
        at_head, at_tail = self._ends[0][kinds, heads], self._ends[1][kinds, tails]
        less = 1.0 if own else 0.0
        return np.stack(
            [
                np.log1p(common),
                np.log1p(adamic),
                common / np.maximum(union, 1),
                np.log(self._degree[heads]) + np.log(self._degree[tails]),
                edges - less > 0,
                np.log1p(at_head - less),
                np.log1p(at_tail - less),
            ],
            axis=1,
        )

    def links(self, triples: IntArray) -> NDArray[Any]:
        """Log odds of links, ``(links,)``."""
        scores: NDArray[Any] = self._model.decision_function(self._scaler.transform(self.features(triples)))
        return scores


def _adjacency(graph: HeteroGraph) -> Any:
    ones = np.ones(len(graph.indices))
    return scipy.sparse.csr_matrix((ones, (graph.rows(), graph.indices)), shape=(graph.num_nodes,) * 2)


def _rows_to_one(matrix: Any) -> Any:
    total = np.asarray(matrix.sum(1)).ravel()
    return (scipy.sparse.diags(1 / np.maximum(total, 1e-12)) @ matrix).tocsr()


def _rows_to_length_one(matrix: Any) -> Any:
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return (scipy.sparse.diags(1 / np.maximum(length, 1e-12)) @ matrix).tocsr()
