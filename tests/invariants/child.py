"""Runs a recipe as the command line does, and reports each step's loss, or dies in the middle.

``python child.py recipe.py settings ...`` with the environment's ``TEST_LOSSES``, a folder that each process writes
its losses to, unrounded, and ``TEST_KILL_AT``, the step after which the process kills itself as ``kill -9`` would.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_callback import DefaultFlowCallback

torch.set_num_threads(1)

losses = os.environ.get("TEST_LOSSES")
kill_at = int(os.environ.get("TEST_KILL_AT", "-1"))
training_step, on_step_end = Trainer.training_step, DefaultFlowCallback.on_step_end


def recorded(self: Trainer, *args: Any, **kwargs: Any) -> torch.Tensor:
    loss = training_step(self, *args, **kwargs)
    if losses is not None:
        with Path(losses, str(self.args.process_index)).open("a") as file:
            file.write(f"{loss.item()!r}\n")
    return loss


def killed(self: DefaultFlowCallback, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
    if state.global_step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return on_step_end(self, args, state, control, **kwargs)


Trainer.training_step = recorded
DefaultFlowCallback.on_step_end = killed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
