"""Two processes see together what one sees: the same losses, and the same weights in the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from .conftest import SHARDED, Start, finish

STEPS = 9


@pytest.mark.parametrize(
    ("stage", "environment"),
    [("mslm", {}), ("scl", {}), ("kshot", {}), ("mslm", SHARDED), ("scl", SHARDED)],
    ids=["mslm", "scl", "kshot", "mslm sharded", "scl sharded"],
)
def test_two_processes_are_one(
    stage: str, environment: dict[str, str], start: Start, backbone: Path, tmp_path: Path
) -> None:
    # Nine steps are more than an epoch, and stage 1's last batch of an epoch is a short one.
    option = "--finetune." if stage == "kshot" else "--"
    settings = (f"{option}max_steps", STEPS, f"{option}adam_epsilon", 1e-6)
    settings += ("--stage1", "null") if stage == "kshot" else ()
    runs = {}
    for processes in (1, 2):
        batch = (f"{option}per_device_train_batch_size", 10 // processes) if stage != "scl" else ()
        losses = tmp_path / f"losses-{processes}"
        losses.mkdir()
        folder = tmp_path / f"out-{processes}"
        more = {"TEST_LOSSES": losses, **(environment if processes > 1 else {})}
        runs[processes] = start(stage, folder, backbone, *settings, *batch, processes=processes, **more)
    for run in runs.values():
        finish(run)

    one = np.loadtxt(tmp_path / "losses-1" / "0")
    two = np.mean([np.loadtxt(tmp_path / "losses-2" / str(rank)) for rank in (0, 1)], axis=0)
    assert one.shape == (STEPS,)
    assert np.ptp(one) > 1e-3  # the losses are not all alike
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=0)
    folders = (next(iter((tmp_path / f"out-{n}").glob("classifier-*")), tmp_path / f"out-{n}") for n in (1, 2))
    weights, others = (load_file(folder / "model.safetensors") for folder in folders)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        np.testing.assert_allclose(others[name], weight, atol=1e-5, rtol=0, err_msg=name)


def test_two_processes_checkpoint_activations(start: Start, backbone: Path, tmp_path: Path) -> None:
    """Stage 1 leaves the projection unused, whose gradient DDP must not wait for."""
    settings = ("--max_steps", 3, "--gradient_checkpointing", True)
    finish(start("mslm", tmp_path / "out", backbone, *settings, processes=2))
    assert (tmp_path / "out" / "model.safetensors").exists()
