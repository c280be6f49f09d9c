"""Runs a recipe as the command line does, and reports each step's loss, or dies in the middle.

``python child.py recipe.py settings ...`` with the environment's ``TEST_LOSSES``, a folder that each process writes
its losses to, unrounded, and ``TEST_KILL_AT``, the step after which the process kills itself as ``kill -9`` would.
With ``ACCELERATE_USE_FSDP`` the processor's processes shard the model, which Accelerate has accelerators alone do.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from transformers import Trainer
from transformers.trainer_callback import DefaultFlowCallback

torch.set_num_threads(1)

losses = os.environ.get("TEST_LOSSES")
kill_at = int(os.environ.get("TEST_KILL_AT", "-1"))
training_step, on_step_end = Trainer.training_step, DefaultFlowCallback.on_step_end
set_up = PartialState.__init__


sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"


def recorded(self: Trainer, model: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
    assert isinstance(model, FSDPModule) == sharded
    loss = training_step(self, model, *args, **kwargs)
    if losses is not None:
        with Path(losses, str(self.args.process_index)).open("a") as file:
            file.write(f"{loss.item()!r}\n")
    return loss


def killed(self: DefaultFlowCallback, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
    if state.global_step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return on_step_end(self, args, state, control, **kwargs)


def as_accelerators(self: PartialState, *args: Any, **kwargs: Any) -> None:
    set_up(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


if sharded:
    PartialState.__init__ = as_accelerators
Trainer.training_step = recorded
DefaultFlowCallback.on_step_end = killed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
