"""What is pushed is loaded back from the Hub by its id, by a process of its own that knows the Hub by HF_ENDPOINT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tkre_hf
from tkre_hf.cli import main

from .conftest import TOKEN
from .server import Hub

REPO = "ada/round-trip"

CHILD = """
import json, sys
sys.modules["tkre_hf"] = None  # importing it fails
import torch
from transformers import AutoModel, AutoProcessor
torch.set_num_threads(1)


def load(**options):
    processor = AutoProcessor.from_pretrained(sys.argv[1], **options)
    model = AutoModel.from_pretrained(sys.argv[1], **options).eval()
    inputs = processor("Ada works for Kiel .", head=(0, 3), tail=(14, 18))
    with torch.no_grad():
        vector = model(inputs["input_ids"], inputs["attention_mask"], inputs["entity_spans"]).relation_embeds
    return {"vector": vector[0].tolist(), "module": type(model).__module__, "class": type(model).__name__}


found = [load(trust_remote_code=True)]
assert not [name for name in sys.modules if name.startswith("tkre_hf.")]
del sys.modules["tkre_hf"]
import tkre_hf
print("FOUND" + json.dumps([*found, load()]))
"""


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """A process that knows this Hub alone."""
    named = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {
        **named,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(tkre_hf.__file__).parents[1]),
    }


def test_pushed_and_loaded_back_without_tkre_hf_and_with_it(
    checkpoint: Path, hub: Hub, online: Callable[[str], None], environment: dict[str, str]
) -> None:
    online(hub.url)
    assert main(["push", str(checkpoint), REPO, "--private"]) == 0
    assert hub.repos["models", REPO].private
    done = subprocess.run(
        [sys.executable, "-c", CHILD, REPO],
        env=environment,
        cwd=checkpoint.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    theirs, mine = json.loads(done.stdout.partition("FOUND")[2])
    assert theirs["module"].startswith("transformers_modules.") and mine["module"] == "tkre_hf.tkre.modeling_tkre"
    assert theirs["class"] == mine["class"] == "TKREModel"

    model = tkre_hf.TKREModel.from_pretrained(checkpoint).eval()
    processor = tkre_hf.TKREProcessor.from_pretrained(checkpoint)
    inputs = processor("Ada works for Kiel .", head=(0, 3), tail=(14, 18))
    with torch.no_grad():
        vector = model(inputs["input_ids"], inputs["attention_mask"], inputs["entity_spans"]).relation_embeds
    np.testing.assert_allclose(mine["vector"], vector[0], atol=1e-6)
    np.testing.assert_allclose(theirs["vector"], vector[0], atol=1e-6)
