"""What docs/results/pfhin.md measures: networks, and what of them is held out; PF-HIN, its ablation, and baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """A network, and what of it is held out.

    Args:
        network: Its folder's name.
        drop: Edge types that are left out, since they tell the label.
        scheme: Of the splits; "" where they are drawn by seed, 40 nodes of each class for training and validation.
        node_type: Of the labelled nodes.
        links: Links to measure too, on the graph with all edge types: ``files`` where the network comes with some,
            ``drawn`` where they are drawn by seed and held out.
        epochs: Of ComplEx; where more gain little or nothing on the links that choose settings.
    """

    network: str
    drop: tuple[str, ...]
    scheme: str
    node_type: str
    links: str = ""
    epochs: int = 40


BENCHMARKS = {
    "codex_m": Benchmark("codex_m", ("P106",), "few40", "person", links="files", epochs=8),
    "codex_m_hard": Benchmark("codex_m", ("P106", "P101", "P1303", "P136", "P264"), "few40", "person"),
    "codex_s": Benchmark("codex_s", ("P106",), "few40", "person", links="files"),
    "openflights": Benchmark("openflights", ("city-country",), "", "airport", links="drawn", epochs=10),
}

# PF-HIN and what each line of the ablation changes.
PFHIN: dict[str, dict[str, Any]] = {
    "PF-HIN": {},
    "PF-HIN, ids from random": {"init": "random"},
    "PF-HIN, ids from SVD": {"init": "svd"},
    "PF-HIN, no profiles": {"profile": False},
    "PF-HIN, without MNM": {"lambda_mnm": 0.0},
    "PF-HIN, without ANP": {"lambda_anp": 0.0},
    "PF-HIN, no sharing": {"num_hidden_groups": 3},
    "PF-HIN, no factorization": {"embedding_size": None},
    "PF-HIN, uniform walk": {"walk_tau": 0.0},
    "PF-HIN, rank = degree": {"rank": "degree"},
    "PF-HIN, ids only": {"structure": False, "profile": False},
    "PF-HIN, no ids": {"ids": False, "init": "random"},
    "PF-HIN, Bi-LSTM": {"aggregation": "bilstm"},
}
# The same checkpoints as PF-HIN's, their embeddings made of other blocks (``embed_nodes``); where none are named, of
# those that the network's training and validation nodes choose.
BLOCKS: dict[str, dict[str, float]] = {
    "PF-HIN, blocks chosen": {},
    "PF-HIN, ids alone": {"ids": 1.0},
    "PF-HIN, state alone": {"state": 1.0},
    "PF-HIN, ids and context": {"ids": 1.0, "context": 1.0},
    "PF-HIN, ids and state": {"ids": 1.0, "state": 1.0},
    "PF-HIN, ids and profile": {"ids": 0.5, "profile": 1.0},
    "PF-HIN, blocks of equal weight": {"ids": 1.0, "profile": 1.0, "context": 1.0},
    "PF-HIN, state for context": {"ids": 0.5, "profile": 1.0, "state": 0.5},
    "PF-HIN, pooled for context": {"ids": 0.5, "profile": 1.0, "pooled": 0.5},
}
NODE_BASELINES = (
    "label propagation",
    "meta-paths + LR",
    "R-GCN",
    "edge-type counts + LR",
    "DeepWalk",
    "metapath2vec",
    "DeepWalk and edge-type counts",
)
LINK_BASELINES = ("ComplEx", "link heuristics + LR")
SYSTEMS = (*NODE_BASELINES, *LINK_BASELINES, *PFHIN, *BLOCKS)
# What embeds nodes for links has no such blocks.
NODES_ALONE = (*NODE_BASELINES, *BLOCKS)

# What a system takes; no figure of what it does.
COSTS = ("million_parameters", "cpu_minutes")

# Filtered MRR of CodEx's own README, and triple classification on its hard negatives.
PUBLISHED = {
    "codex_s": {
        "ComplEx (published)": {"mrr": 46.5},
        "ConvE (published)": {"mrr": 44.4, "link_accuracy": 84.1},
    },
    "codex_m": {
        "ComplEx (published)": {"mrr": 33.7, "link_accuracy": 82.4},
        "ConvE (published)": {"mrr": 31.8, "link_accuracy": 82.6},
    },
}
