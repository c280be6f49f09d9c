"""recipes/accelerate_configs: accelerate reads every key of them, and starts what their names say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

FOLDER = Path(__file__).parent.parent / "recipes" / "accelerate_configs"
# name: launcher option, machines, processes, on the processor
EXPECTED = {
    "cpu": (None, 1, 1, True),
    "cpu_2_processes": ("multi_gpu", 1, 2, True),
    "multi_gpu": ("multi_gpu", 1, 8, False),
    "fsdp": ("use_fsdp", 1, 8, False),
    "multi_node": ("multi_gpu", 2, 16, False),
}


def test_every_config_is_expected():
    assert {path.stem for path in FOLDER.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_config_gives_the_launch_that_its_name_says(name):
    path = FOLDER / f"{name}.yaml"
    launcher, machines, processes, cpu = EXPECTED[name]
    config = load_config_from_file(str(path))  # refuses a key that it doesn't know
    args = launch_command_parser().parse_args(["--config_file", str(path), "recipes/stage1_mslm.py"])
    # accelerate passes over unknown keys within a section; here they are an error too.
    assert all(hasattr(args, key) for key in config.fsdp_config)

    args, *_ = _validate_launch_command(args)

    assert [option for option in ("multi_gpu", "use_fsdp", "use_deepspeed", "tpu") if getattr(args, option)] == (
        [launcher] if launcher else []
    )
    assert (args.num_machines, args.num_processes, args.use_cpu) == (machines, processes, cpu)
    assert args.mixed_precision == yaml.safe_load(path.read_text())["mixed_precision"]
    for key, value in config.fsdp_config.items():
        assert getattr(args, key) == value


def test_two_cpu_processes_are_one_group_over_gloo(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\n"
        "from transformers import TrainingArguments\n"
        f"args = TrainingArguments({str(tmp_path / 'out')!r}, use_cpu=True, report_to='none')\n"
        "total = torch.tensor(args.process_index + 1)\n"
        "torch.distributed.all_reduce(total)\n"
        "if args.process_index == 0:\n"
        "    print('group', torch.distributed.get_backend(), args.world_size, int(total))\n"
        # Or a process may abort as it ends.
        "torch.distributed.destroy_process_group()\n"
    )
    command = ["-m", "accelerate.commands.launch", "--config_file", str(FOLDER / "cpu_2_processes.yaml"), str(script)]
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "group gloo 2 3" in done.stdout
