"""A run that was killed goes on as if nothing had happened, to the last bit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Start, finish


@pytest.mark.parametrize("stage", ["mslm", "scl"])
def test_killed_and_resumed_is_uninterrupted(
    stage: str, start: Start, make_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    # With dropout, whose random numbers must go on where they were; step 5 lies in the middle of an epoch.
    settings = ("--max_steps", 11, "--save_steps", 5, "--per_device_train_batch_size", 8)
    backbone = make_backbone(dropout=0.1)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    uninterrupted = start(stage, whole, backbone, *settings)
    killed = start(stage, broken, backbone, *settings, TEST_KILL_AT=8)
    finish(killed, -signal.SIGKILL)
    finish(uninterrupted)
    assert [path.name for path in broken.glob("checkpoint-*")] == ["checkpoint-5"]
    assert not (broken / "model.safetensors").exists()

    finish(start(stage, broken, backbone, *settings, "--resume_from_checkpoint", "auto", cold=True))
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_chain_killed_in_any_step_goes_on(start: Start, make_backbone: Callable[..., Path], tmp_path: Path) -> None:
    """Killed in stage 1, and again in fine-tuning, which is longer; in the end the classifier is the same."""
    settings: tuple[object, ...] = ()
    for part, steps in (("stage1", 6), ("finetune", 11)):
        settings += (f"--{part}.max_steps", steps, f"--{part}.save_steps", 3)
    backbone = make_backbone(dropout=0.1)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    uninterrupted = start("kshot", whole, backbone, *settings)
    finish(start("kshot", broken, backbone, *settings, TEST_KILL_AT=5), -signal.SIGKILL)
    finish(uninterrupted)
    assert not list(broken.glob("classifier-*"))
    finish(start("kshot", broken, backbone, *settings, TEST_KILL_AT=8), -signal.SIGKILL)
    assert [path.name for path in broken.glob("classifier-*/checkpoint-*")] == ["checkpoint-3", "checkpoint-6"]
    finish(start("kshot", broken, backbone, *settings, cold=True))
    (one,), (other,) = (list(folder.glob("classifier-*")) for folder in (whole, broken))
    assert one.name == other.name
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
