"""Ranking links: ComplEx (Trouillon et al., ICML 2016), by itself or on top of PF-HIN's node embeddings.

Trained against all nodes at once (1-N), or a sample of many, with reciprocal edge types and the N3 penalty (Lacroix et
al., ICML 2018). On top of embeddings a node's vector is a projection of its embedding; which, for a training edge, is
that of a graph without the edge (:func:`out_of_fold`), for else the answer would stand in the question. What the two
say of a link is added up, with a weight that held-out links choose (:func:`mix`): one model of both, whose nodes have
a vector of their own beside the projection, learns from training edges to trust embeddings more than they deserve at
test edges, which pre-training has not seen (docs/results/pfhin.md measures it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tkre_hf.precision import bf16_supported

from .embedding import Neighborhoods, embed_nodes
from .graph import HeteroGraph
from .modeling_pfhin import PFHINPreTrainedModel
from .tasks import ranking_scores

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

# Not the node embeddings as they are: they were trained on the very edges that are held back from a fold.
LINK_BLOCKS = {"pooled": 1.0, "state": 1.0}

# Complex numbers of a vector, and passes over the edges: by itself, and on top of embeddings, which know much already.
SIZE, EPOCHS, STATES_EPOCHS = 128, 40, 10

# With more nodes than these, each edge is compared with a sample: time would grow with the square of their number.
SAMPLED_ABOVE = 5_000

# What the scores on top of embeddings may count for, beside those of nodes' own vectors.
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)


class ComplEx(nn.Module):
    """Scores edges by Re⟨head, type, conj(tail)⟩; of type ``r`` the reciprocal is ``r + num_types``.

    Args:
        num_nodes: Nodes.
        num_types: Edge types.
        size: Complex numbers of a vector.
        num_features: Width of the node embeddings beneath; 0 none.
        own: Whether nodes have vectors of their own, which they must without embeddings beneath.
        sparse: Whether the gradient of these is of the nodes alone that were asked for.

    Raises:
        ValueError: They have neither.
    """

    def __init__(
        self,
        num_nodes: int,
        num_types: int,
        size: int = SIZE,
        num_features: int = 0,
        own: bool = True,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        if not own and not num_features:
            raise ValueError("nodes need vectors of their own, or embeddings beneath")
        self.num_types, self.size = num_types, size
        self.nodes = nn.Embedding(num_nodes, 2 * size, sparse=sparse) if own else None
        self.types = nn.Embedding(2 * num_types, 2 * size)
        self.features = nn.Linear(num_features, 2 * size, bias=False) if num_features else None
        for table in (self.nodes, self.types):
            if table is not None:
                nn.init.normal_(table.weight, std=0.05)

    def vectors(self, features: Tensor | None = None, nodes: Tensor | None = None) -> Tensor:
        """Vectors of all nodes or of some, ``(nodes, 2 · size)``, real parts first."""
        own: Tensor | None = None
        if self.nodes is not None:
            own = self.nodes.weight if nodes is None else self.nodes(nodes)
        if self.features is None or features is None:
            assert own is not None
            return own
        projected: Tensor = self.features(features if nodes is None else features[nodes])
        return projected if own is None else own + projected

    def queries(self, vectors: Tensor, given: Tensor, types: Tensor) -> Tensor:
        """What the other end is compared with, ``(batch, 2 · size)``."""
        real, imaginary = vectors[given].split(self.size, -1)
        type_real, type_imaginary = self.types(types).split(self.size, -1)
        return torch.cat(
            [real * type_real - imaginary * type_imaginary, real * type_imaginary + imaginary * type_real], dim=-1
        )

    def penalty(self, *vectors: Tensor) -> Tensor:
        """N3: the sum of the cubes of the complex numbers' moduli, over the batch."""
        total = vectors[0].new_zeros(())
        for vector in vectors:
            real, imaginary = vector.split(self.size, -1)
            total = total + (real**2 + imaginary**2 + 1e-12).pow(1.5).sum() / len(vector)
        return total


def train_complex(
    triples: IntArray,
    num_nodes: int,
    num_types: int,
    size: int = SIZE,
    epochs: int = EPOCHS,
    batch_size: int = 512,
    learning_rate: float = 0.1,
    regularization: float = 5e-3,
    folds: Sequence[tuple[IntArray, FloatArray]] = (),
    own: bool = True,
    seed: int = 0,
    sampled_above: int = SAMPLED_ABOVE,
    num_sampled: int = 1024,
) -> ComplEx:
    """Trains on edges that are true, in both directions, each against all nodes or a sample of them.

    A sample is the batch's own nodes and others, drawn alike, which count for all that were not drawn: so the sum over
    all nodes in the softmax is estimated without bias.

    Args:
        triples: Head, edge type, tail: ``(triples, 3)``.
        num_nodes: Nodes.
        num_types: Edge types.
        size: Complex numbers of a vector.
        epochs: Passes over the triples.
        batch_size: Triples of a batch, in both directions.
        learning_rate: Of Adagrad.
        regularization: Weight of the N3 penalty.
        folds: Places of triples, and the embeddings ``(nodes, size)`` that these are trained with (see
            :func:`out_of_fold`); none for ComplEx by itself.
        own: Whether nodes have vectors of their own.
        seed: Of the start, the order and the samples.
        sampled_above: With more nodes than these, edges are compared with a sample, in bfloat16 if that is fast.
        num_sampled: Others that are drawn for each batch.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    features: list[Tensor | None] = [torch.from_numpy(vectors) for _, vectors in folds]
    features = features or [None]
    places = [place for place, _ in folds] or [np.arange(len(triples))]
    first = features[0]
    sampled = num_nodes > sampled_above
    bf16 = sampled and bf16_supported(True)
    model = ComplEx(num_nodes, num_types, size, 0 if first is None else first.shape[1], own, sampled)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for fold, rows in _batches(places, batch_size, rng):
            batch = torch.from_numpy(triples[rows])
            heads, types, tails = batch.T
            given, asked = torch.cat([heads, tails]), torch.cat([tails, heads])
            both = torch.cat([types, types + num_types])
            nodes, counts = None, None
            if sampled:
                nodes, given, counts = _sample(given, num_nodes, num_sampled, rng)
                asked = given.roll(len(heads))
            vectors = model.vectors(features[fold], nodes)
            query = model.queries(vectors, given, both)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = (query @ vectors.T).float()
            loss = F.cross_entropy(logits if counts is None else logits + counts.log(), asked)
            loss = loss + regularization * model.penalty(vectors[given], model.types(both), vectors[asked])
            optimizer.zero_grad()
            loss.backward()
            # torch warns where this is left to its default.
            with torch.sparse.check_sparse_tensor_invariants(enable=False):
                optimizer.step()
    return model.eval()


def _sample(
    given: Tensor, num_nodes: int, num_sampled: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch's nodes and others, where the batch's stand among them, and for how many nodes each counts."""
    mine, places = torch.unique(given, return_inverse=True)
    others = np.setdiff1d(rng.integers(num_nodes, size=num_sampled), mine.numpy())
    counts = torch.ones(len(mine) + len(others))
    counts[len(mine) :] = (num_nodes - len(mine)) / max(len(others), 1)
    return torch.cat([mine, torch.from_numpy(others)]), places, counts


def _batches(places: Sequence[IntArray], batch_size: int, rng: np.random.Generator) -> Iterator[tuple[int, IntArray]]:
    """Every triple once, in batches of one fold each, in random order."""
    batches = [
        (fold, part)
        for fold, rows in enumerate(places)
        for part in np.array_split(rng.permutation(rows), max(1, round(len(rows) / batch_size)))
        if len(part)
    ]
    for i in rng.permutation(len(batches)):
        yield batches[i]


class LinkScorer:
    """Scores of a trained ComplEx, as ``tasks.ranking_scores`` and ``tasks.link_scores`` ask for them.

    Args:
        model: The model.
        features: Node embeddings of the whole training graph, where it is on top of them.
    """

    def __init__(self, model: ComplEx, features: FloatArray | None = None) -> None:
        self.model = model
        with torch.inference_mode():
            self._vectors = model.vectors(None if features is None else torch.from_numpy(features))

    def tails(self, heads: IntArray, types: IntArray) -> FloatArray:
        """Scores of all nodes as tails, ``(batch, nodes)``."""
        return self._scores(heads, types)

    def heads(self, tails: IntArray, types: IntArray) -> FloatArray:
        """Scores of all nodes as heads, ``(batch, nodes)``, by the reciprocal type."""
        return self._scores(tails, types + self.model.num_types)

    @torch.inference_mode()
    def _scores(self, given: IntArray, types: IntArray) -> FloatArray:
        query = self.model.queries(self._vectors, torch.from_numpy(given), torch.from_numpy(types))
        return (query @ self._vectors.T).numpy()

    @torch.inference_mode()
    def links(self, heads: IntArray, types: IntArray, tails: IntArray) -> FloatArray:
        """Scores of links, the mean of both directions, ``(links,)``."""
        total = np.zeros(len(heads), np.float32)
        for given, kind, asked in ((heads, types, tails), (tails, types + self.model.num_types, heads)):
            query = self.model.queries(self._vectors, torch.from_numpy(given), torch.from_numpy(kind))
            total += (query * self._vectors[torch.from_numpy(asked)]).sum(-1).numpy() / 2
        return total


class MixedScorer:
    """What one scorer says, and another with a weight.

    Args:
        first: Counts once.
        second: Counts as often as ``weight`` says.
        weight: Of the second's scores.
    """

    def __init__(self, first: LinkScorer, second: LinkScorer, weight: float) -> None:
        self.first, self.second, self.weight = first, second, weight

    def tails(self, heads: IntArray, types: IntArray) -> FloatArray:
        """Scores of all nodes as tails, ``(batch, nodes)``."""
        return self.first.tails(heads, types) + self.weight * self.second.tails(heads, types)

    def heads(self, tails: IntArray, types: IntArray) -> FloatArray:
        """Scores of all nodes as heads, ``(batch, nodes)``."""
        return self.first.heads(tails, types) + self.weight * self.second.heads(tails, types)

    def links(self, heads: IntArray, types: IntArray, tails: IntArray) -> FloatArray:
        """Scores of links, the mean of both directions, ``(links,)``."""
        return self.first.links(heads, types, tails) + self.weight * self.second.links(heads, types, tails)


def mix(
    first: LinkScorer,
    second: LinkScorer,
    triples: IntArray,
    known: IntArray,
    num_nodes: int,
    weights: Sequence[float] = WEIGHTS,
    most: int = 4000,
) -> MixedScorer:
    """Adds a scorer to another with the weight that ranks held-out links best.

    Args:
        first: Such as ComplEx by itself.
        second: Such as ComplEx on top of embeddings.
        triples: Held-out links that are true, none of them a test link: ``(triples, 3)``.
        known: All that is known to be true, which a rank leaves out.
        num_nodes: How many nodes there are.
        weights: To choose from; of two that rank alike the smaller.
        most: Of the held-out links so many are ranked, spread over all.
    """
    triples = triples[np.linspace(0, len(triples) - 1, min(most, len(triples))).astype(np.int64)]
    mixed = [MixedScorer(first, second, weight) for weight in sorted(weights)]
    return max(mixed, key=lambda each: ranking_scores(each.tails, each.heads, triples, known, num_nodes)["mrr"])


def out_of_fold(
    model: PFHINPreTrainedModel,
    graph: HeteroGraph,
    triples: IntArray,
    num_folds: int = 4,
    num_walks: int = 2,
    seed: int = 0,
    bf16: bool = False,
    text_embeds: FloatArray | None = None,
) -> list[tuple[IntArray, FloatArray]]:
    """For each part of the edges, embeddings of a graph without it: what a link is to be told from.

    Args:
        model: Pre-trained.
        graph: With all training edges.
        triples: These edges: head, edge type, tail, ``(triples, 3)``.
        num_folds: Parts.
        num_walks: Neighbourhoods of each node that an embedding is the mean of.
        seed: Of the parts and the walks.
        bf16: Compute in bfloat16.
        text_embeds: Each node's text vector, for a model that reads them.

    Returns:
        For each part the places of its triples, and the embeddings, ``(nodes, 2 · hidden)``.
    """
    order = np.random.default_rng(seed).permutation(len(triples))
    whole = Neighborhoods(model, graph, seed, text_embeds)
    found = []
    for rows in np.array_split(order, num_folds):
        heads, _, tails = triples[rows].T
        # Whatever its type: another edge between the same two nodes would give it away.
        rest = graph.without_edges(heads, tails)
        part = Neighborhoods(model, rest, seed, text_embeds, (whole.walker.rank, whole.parts))
        found.append((rows, embed_nodes(model, part, num_walks=num_walks, bf16=bf16, blocks=LINK_BLOCKS)))
    return found
