"""Two processes see together what one sees: the same losses, and the same weights in the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from .conftest import SHARDED, Start, finish

STEPS = 9


@pytest.mark.parametrize("stage", ["mslm", "scl", "kshot"])
def test_two_processes_are_one(stage: str, start: Start, backbone: Path, tmp_path: Path) -> None:
    # Nine steps are more than an epoch, and stage 1's last batch of an epoch is a short one.
    option = "--finetune." if stage == "kshot" else "--"
    settings = (f"{option}max_steps", STEPS, f"{option}adam_epsilon", 1e-6)
    settings += ("--stage1", "null") if stage == "kshot" else ()
    runs = {}
    for processes in (1, 2):
        batch = (f"{option}per_device_train_batch_size", 10 // processes) if stage != "scl" else ()
        losses = tmp_path / f"losses-{processes}"
        losses.mkdir()
        how = {"processes": processes, "cold": processes == 2 and stage == "scl", "TEST_LOSSES": losses}
        runs[processes] = start(stage, tmp_path / f"out-{processes}", backbone, *settings, *batch, **how)
    for run in runs.values():
        finish(run)

    one = np.loadtxt(tmp_path / "losses-1" / "0")
    two = np.mean([np.loadtxt(tmp_path / "losses-2" / str(rank)) for rank in (0, 1)], axis=0)
    assert one.shape == (STEPS,)
    assert np.ptp(one) > 1e-3  # the losses are not all alike
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=0)
    same_weights(*(next(iter((tmp_path / f"out-{n}").glob("classifier-*")), tmp_path / f"out-{n}") for n in (1, 2)))


def same_weights(one: Path, other: Path) -> None:
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        np.testing.assert_allclose(others[name], weight, atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize("stage", ["mslm", "scl"])
def test_a_model_sharded_over_two_processes_is_whole(stage: str, start: Start, backbone: Path, tmp_path: Path) -> None:
    settings = ("--max_steps", STEPS, "--adam_epsilon", 1e-6)
    batches = {n: ("--per_device_train_batch_size", 10 // n) if stage == "mslm" else () for n in (1, 2)}
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    one = start(stage, whole, backbone, *settings, *batches[1])
    two = (*settings, *batches[2], "--save_steps", 4)
    if stage == "mslm":
        # Whose loss reads the embeddings twice, and not all that there is.
        finish(start(stage, sharded, backbone, *two, processes=2, TEST_KILL_AT=6, **SHARDED), 1)
        assert [path.name for path in sharded.glob("checkpoint-*")] == ["checkpoint-4"]
        two += ("--resume_from_checkpoint", "auto")
    finish(start(stage, sharded, backbone, *two, processes=2, **SHARDED))
    finish(one)
    same_weights(whole, sharded)


def test_two_processes_checkpoint_activations(start: Start, backbone: Path, tmp_path: Path) -> None:
    """Stage 1 leaves the projection unused, whose gradient DDP must not wait for."""
    settings = ("--max_steps", 3, "--gradient_checkpointing", True)
    finish(start("mslm", tmp_path / "out", backbone, *settings, processes=2))
    assert (tmp_path / "out" / "model.safetensors").exists()
