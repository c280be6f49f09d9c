"""Starts recipes in processes of their own, as ``accelerate launch`` does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ..programs import Programs

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("child.py")
FSDP = yaml.safe_load((ROOT / "recipes" / "accelerate_configs" / "fsdp.yaml").read_text())["fsdp_config"]
# What fsdp.yaml has the launcher tell its processes, which it starts on accelerators alone.
SHARDED = {"ACCELERATE_USE_FSDP": "true", **{key.upper(): str(value) for key, value in FSDP.items()}}
RECIPES = {"mslm": "stage1_mslm.py", "scl": "stage2_scl.py", "kshot": "finetune_kshot.py"}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def launch(programs: Programs) -> Start:
    """Starts a recipe: ``launch("stage2_scl.py", *settings, processes=2, TEST_KILL_AT=5)``.

    Programs that start at once all hash strings alike, so that sets of them are in the same order, and end without
    what Python does at its exit. A ``cold`` one starts as a user's does.
    """

    def launch(
        recipe: str, *settings: object, processes: int = 1, cold: bool = False, **environment: object
    ) -> subprocess.Popen[str]:
        launcher = [sys.executable if cold else str(programs.bin / "python")]
        if processes > 1:
            config = ROOT / "recipes" / "accelerate_configs" / f"cpu_{processes}_processes.yaml"
            launcher += ["-m", "accelerate.commands.launch", "--config_file", str(config)]
        return subprocess.Popen(
            [*launcher, str(CHILD), str(ROOT / "recipes" / recipe), *map(str, settings)],
            env={**programs.environment, **{name: str(value) for name, value in environment.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return launch


@pytest.fixture
def start(tmp_path: Path, corpus_files: tuple[Path, Path], launch: Start) -> Start:
    """Starts a stage on the corpus: ``start("scl", folder, backbone, "--seed", 1, processes=2, TEST_KILL_AT=5)``."""
    sources, info = corpus_files

    def start(stage: str, folder: Path, backbone: Path, *settings: object, **how: object) -> subprocess.Popen[str]:
        common = {"--max_length": 64, "--use_cpu": True, "--bf16": False, "--disable_tqdm": True}
        settings = ("--backbone", backbone, "--output_dir", folder, *settings)
        if stage == "kshot":
            settings += ("--train", sources, "--relation_info", info)
            for part in ("stage1", "finetune"):
                settings += tuple(word for k, v in common.items() for word in (f"--{part}.{k[2:]}", v))
        else:
            settings += ("--sources", sources, *(word for pair in common.items() for word in pair))
        if stage == "scl":
            settings += ("--relation_info", info, "--relations_per_batch", 4, "--lambda_mslm", 0.5)
        return launch(RECIPES[stage], *settings, HF_DATASETS_CACHE=tmp_path / f"cache-{folder.name}", **how)

    return start


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Waits for a process to end with an exit code; gives what it printed."""
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code, output
    return output
