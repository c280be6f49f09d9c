"""From nodes to a batch: walks, pairs and masks, for pre-training; walks and labels, for the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .hashing import Stream, hashed
from .inputs import NodeReader
from .masking import HIDDEN_SHARE, MASK_RATE, REPLACED_SHARE, mask_nodes
from .pairs import IGNORED, PairSampler
from .walks import NONE, Walker

IntArray = NDArray[np.int64]

# A node, the epoch and the step that it is drawn in.
Key = tuple[int, int, int]

_SAMPLE = 0x73616D70


@dataclass
class PreTrainingCollator:
    """Two neighbourhoods for each node, its own and a partner's, with masked nodes.

    Args:
        walker: Walks.
        reader: Reads.
        pairs: Draws the partners.
        rate: Share of nodes that are asked for.
        hidden_share: Share of these that are hidden.
        replaced_share: Share of these that another node stands in for.
        sampled_softmax_above: With more nodes than these, a masked node is told from a sample of its type's.
        num_sampled: Size of that sample, drawn with replacement in proportion to degree^0.75 (as word2vec does to
            frequency), the same in all processes.
        seed: Of masks and samples.
    """

    walker: Walker
    reader: NodeReader
    pairs: PairSampler
    rate: float = MASK_RATE
    hidden_share: float = HIDDEN_SHARE
    replaced_share: float = REPLACED_SHARE
    sampled_softmax_above: int = 100_000
    num_sampled: int = 1024
    seed: int = 0
    _cumulative: list[tuple[IntArray, NDArray[np.float64]]] = field(default_factory=list, repr=False)

    def __call__(self, features: Sequence[Key]) -> dict[str, Tensor]:
        """Gives the inputs of ``PFHINForPreTraining``; sequences ``2 · i`` and ``2 · i + 1`` are the i-th pair's."""
        keys = np.array(features, dtype=np.int64)
        anchors, epoch, step = keys[:, 0], int(keys[0, 1]), int(keys[0, 2])
        partners, labels = self.pairs.draw(anchors, epoch)
        starts = np.stack([anchors, partners], axis=1).ravel()
        others = np.stack([partners, anchors], axis=1).ravel()
        # A node that is its own partner isn't asked about; its walk may come back to it.
        others = np.where(starts == others, NONE, others)
        sequences = self.walker.sequences(starts, epoch, others)
        graph = self.walker.graph
        masked = mask_nodes(
            sequences.nodes,
            graph.key,
            graph.node_type,
            self.pairs.by_type,
            epoch,
            self.seed,
            self.rate,
            self.hidden_share,
            self.replaced_share,
            # A node may be partner of many in an epoch.
            salt=graph.key[np.maximum(others, 0)][:, None],
        )
        batch = self.reader(sequences, masked.shown)
        batch["node_mask"] = torch.from_numpy(masked.hidden)
        batch["anp_labels"] = torch.from_numpy(labels)
        batch |= self._targets(sequences.nodes, masked.asked, masked.shown, masked.hidden, step)
        return batch

    def _targets(
        self, nodes: IntArray, asked: NDArray[np.bool_], shown: IntArray, hidden: NDArray[np.bool_], step: int
    ) -> dict[str, Tensor]:
        rows = self.reader.rows
        if rows is None:
            # Where each node of the batch stands first as itself: there the model may see what it is known by.
            itself = np.flatnonzero((shown == nodes) & (nodes != NONE))
            known, first = np.unique(nodes.ravel()[itself], return_index=True)
            places = itself[first]
            order = np.argsort(places)
            position = np.empty(len(order), np.int64)
            position[order] = np.arange(len(order))
            found = np.searchsorted(known, nodes)
            found = np.minimum(found, len(known) - 1)
            # A node that another stands in for, and that stands nowhere as itself, can't be told.
            asked = asked & (known[found] == nodes)
            labels = np.where(asked, position[found], IGNORED)
            return {"labels": torch.from_numpy(labels), "candidates": torch.from_numpy(places[order])}
        labels = np.where(asked, rows[np.maximum(nodes, 0)], IGNORED)
        batch = {"labels": torch.from_numpy(labels)}
        if len(rows) > self.sampled_softmax_above:
            batch |= self._sample(step)
        return batch

    def _sample(self, step: int) -> dict[str, Tensor]:
        """Rows that stand for each type's, ``(types, drawn)``, and how often each is expected to be drawn."""
        graph = self.walker.graph
        rows = self.reader.rows
        assert rows is not None
        if not self._cumulative:
            weights = np.maximum(np.asarray(graph.degree, float), 1.0) ** 0.75
            types = self.reader.types(np.arange(graph.num_nodes))
            for type in range(self.reader.num_types):
                mine = np.flatnonzero(types == type)
                mine = mine[np.argsort(rows[mine])]
                self._cumulative.append((rows[mine], np.cumsum(weights[mine]) / max(weights[mine].sum(), 1.0)))
        draws = Stream(hashed(_SAMPLE, self.seed, step, np.arange(self.num_sampled)))
        drawn = np.zeros((len(self._cumulative), self.num_sampled), np.int64)
        log_q = np.zeros(drawn.shape, np.float32)
        for type, (pool, cumulative) in enumerate(self._cumulative):
            draw = draws()
            if len(pool):
                place = np.minimum(np.searchsorted(cumulative, draw, side="right"), len(pool) - 1)
                share = np.diff(cumulative, prepend=0.0)[place]
                drawn[type], log_q[type] = pool[place], np.log(share * self.num_sampled)
        return {"candidates": torch.from_numpy(drawn), "candidate_log_q": torch.from_numpy(log_q)}
