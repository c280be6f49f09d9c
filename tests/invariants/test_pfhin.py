"""PF-HIN's pre-training: two processes are one, killed and resumed is uninterrupted, and numbering plays no part."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tkre_hf.arguments import parse_arguments
from tkre_hf.card_trainer import CardTrainer
from tkre_hf.data.hin import read_hin, write_hin
from tkre_hf.errors import TkreError
from tkre_hf.hin_training import PFHINStageArguments, pretrain
from tkre_hf.pfhin.training_args import PFHINTrainingArguments

from ..pfhin.conftest import make_tables
from .conftest import Start, finish

TINY = ("--hidden_size", 16, "--embedding_size", 8, "--num_hidden_layers", 2, "--num_attention_heads", 2)
TINY += ("--intermediate_size", 24, "--num_walks", 3, "--walk_length", 5, "--max_length", 8, "--rank", "degree")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a small network."""
    folder = tmp_path_factory.mktemp("network")
    write_hin(make_tables(30), folder)
    return folder


@pytest.fixture
def start(network: Path, launch: Start) -> Start:
    """Starts pre-training on the network: ``start(folder, "--max_steps", 9, processes=2)``."""

    def start(folder: Path, *settings: object, **how: Any) -> subprocess.Popen[str]:
        common = ("--network", network, "--output_dir", folder, *TINY, "--use_cpu", "--bf16", False)
        return launch("pretrain_pfhin.py", *common, "--disable_tqdm", True, *settings, **how)

    return start


def test_two_processes_are_one(start: Start, tmp_path: Path) -> None:
    # Nine steps are more than an epoch.
    settings = ("--max_steps", 9, "--adam_epsilon", 1e-6)
    runs = {}
    for processes in (1, 2):
        losses = tmp_path / f"losses-{processes}"
        losses.mkdir()
        batch = ("--per_device_train_batch_size", 8 // processes)
        folder = tmp_path / f"out-{processes}"
        runs[processes] = start(folder, *settings, *batch, processes=processes, TEST_LOSSES=losses)
    for run in runs.values():
        finish(run)
    one = np.loadtxt(tmp_path / "losses-1" / "0")
    two = np.mean([np.loadtxt(tmp_path / "losses-2" / str(rank)) for rank in (0, 1)], axis=0)
    assert one.shape == (9,) and np.ptp(one) > 1e-3
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=0)
    weights, others = (load_file(tmp_path / f"out-{n}" / "model.safetensors") for n in (1, 2))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        np.testing.assert_allclose(others[name], weight, atol=1e-5, rtol=0, err_msg=name)


def test_it_is_not_sharded(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up = CardTrainer.__init__

    def as_if_launched_so(self: CardTrainer, **kwargs: Any) -> None:
        set_up(self, **kwargs)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(CardTrainer, "__init__", as_if_launched_so)
    words = ["--network", network, "--output_dir", tmp_path / "out", *TINY, "--use_cpu", "--max_steps", 1]
    with pytest.raises(TkreError, match="PF-HIN's model can't be sharded .FSDP.: launch it with"):
        pretrain(*parse_arguments((PFHINStageArguments, PFHINTrainingArguments), [str(word) for word in words]))


def test_killed_and_resumed_is_uninterrupted(start: Start, tmp_path: Path) -> None:
    settings = ("--max_steps", 9, "--save_steps", 3, "--per_device_train_batch_size", 8, "--init", "svd")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    uninterrupted = start(whole, *settings)
    killed = start(broken, *settings, TEST_KILL_AT=5)
    finish(killed, -signal.SIGKILL)
    finish(uninterrupted)
    assert [path.name for path in broken.glob("checkpoint-*")] == ["checkpoint-3"]
    finish(start(broken, *settings, "--resume_from_checkpoint", "auto", cold=True))
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_another_numbering_trains_the_same_weights(network: Path, tmp_path: Path) -> None:
    # Rows in another order are nodes with other numbers; the ids tell that they are the same.
    tables = read_hin(network)
    order = np.random.default_rng(0).permutation(tables.num_nodes)
    number = np.argsort(order)
    rows = np.random.default_rng(1).permutation(len(tables.src))
    tables.node_ids, tables.names = ([names[i] for i in order] for names in (tables.node_ids, tables.names))
    tables.node_type, tables.labels = tables.node_type[order], tables.labels[order]
    tables.src, tables.dst = number[tables.src][rows], number[tables.dst][rows]
    tables.edge_type, tables.splits = tables.edge_type[rows], {}
    write_hin(tables, tmp_path / "permuted")
    for ids in (False, True):
        weights = []
        for i, folder in enumerate((network, tmp_path / "permuted")):
            out = tmp_path / f"out-{ids}-{i}"
            words = ["--network", folder, "--output_dir", out, *TINY, "--use_cpu", "--bf16", False, "--ids", ids]
            words += ["--max_steps", 4, "--per_device_train_batch_size", 8, "--disable_tqdm", True]
            pretrain(*parse_arguments((PFHINStageArguments, PFHINTrainingArguments), [str(word) for word in words]))
            weights.append(load_file(out / "model.safetensors"))
        for name, weight in weights[0].items():
            np.testing.assert_allclose(weights[1][name], weight, atol=1e-5, rtol=0, err_msg=name)
