"""A checkpoint loads with ``trust_remote_code=True`` in an environment that has transformers but not tkre_hf."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tkre_hf.pfhin.configuration_pfhin import AUTO_MAP
from tkre_hf.pfhin.embedding import Neighborhoods
from tkre_hf.pfhin.graph import HeteroGraph
from tkre_hf.pfhin.modeling_pfhin import (
    PFHINForLinkPrediction,
    PFHINForNodeClassification,
    PFHINForNodeEmbedding,
    PFHINForPreTraining,
    PFHINModel,
)

from .test_modeling import small

CODE_FILES = {"configuration_pfhin.py", "modeling_parts.py", "modeling_pfhin.py"}

CHILD = """
import importlib.util, json, sys
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining
assert importlib.util.find_spec("tkre_hf") is None, importlib.util.find_spec("tkre_hf")
torch.set_num_threads(1)
inputs, found = load_file(sys.argv[1]), {}
for folder in sys.argv[2:]:
    options = {"trust_remote_code": True}
    config = AutoConfig.from_pretrained(folder, **options)
    models = {
        auto.__name__: auto.from_pretrained(folder, **options).eval() for auto in (AutoModel, AutoModelForPreTraining)
    }
    with torch.no_grad():
        found[folder] = {
            "classes": {name: type(model).__name__ for name, model in models.items()},
            "walk": config.walk,
            "node_embeds": models["AutoModel"](**inputs).node_embeds.tolist(),
            "anp_logits": models["AutoModelForPreTraining"](**inputs).anp_logits.tolist(),
        }
    models["AutoModel"].save_pretrained(folder + "-again")
print("FOUND" + json.dumps(found))
"""


@pytest.fixture
def python_without_tkre_hf(tmp_path: Path) -> Path:
    """A virtual environment with the packages of this one; links to editable installs are not followed there."""
    builder = venv.EnvBuilder(with_pip=False, symlinks=True)
    builder.create(tmp_path / "venv")
    context = builder.ensure_directories(tmp_path / "venv")
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "parent.pth").write_text("".join(f"{path}\n" for path in paths))
    return Path(context.env_exe)


def auto_map(folder: Path) -> dict[str, str]:
    return json.loads((folder / "config.json").read_text())["auto_map"]


@pytest.mark.parametrize(
    "cls", [PFHINModel, PFHINForNodeClassification, PFHINForLinkPrediction, PFHINForNodeEmbedding]
)
def test_every_class_writes_code_and_the_whole_map(cls: Any, graph: HeteroGraph, tmp_path: Path) -> None:
    cls(small(graph)).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.py")} == CODE_FILES
    assert AUTO_MAP.items() <= auto_map(tmp_path).items()


def test_loads_where_tkre_hf_is_not_installed(
    graph: HeteroGraph, python_without_tkre_hf: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    models = {}
    for name, ids in (("ids", True), ("inductive", False)):
        models[name] = PFHINForPreTraining(small(graph, ids, aggregation="bilstm")).eval()
        models[name].save_pretrained(tmp_path / name)
        assert {path.name for path in (tmp_path / name).glob("*.py")} == CODE_FILES
    inputs = Neighborhoods(models["ids"], graph).inputs(np.arange(6))
    save_file(inputs, tmp_path / "inputs.safetensors")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    folders = [str(tmp_path / name) for name in models]
    done = subprocess.run(
        [str(python_without_tkre_hf), "-c", CHILD, str(tmp_path / "inputs.safetensors"), *folders],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.partition("FOUND")[2])
    for name, model in models.items():
        mine = found[str(tmp_path / name)]
        assert mine["classes"] == {"AutoModel": "PFHINModel", "AutoModelForPreTraining": "PFHINForPreTraining"}
        assert mine["walk"] == model.config.walk
        with torch.no_grad():
            np.testing.assert_allclose(mine["node_embeds"], model.pfhin(**inputs).node_embeds, atol=1e-6)
            np.testing.assert_allclose(mine["anp_logits"], model(**inputs).anp_logits, atol=1e-6)
        again = tmp_path / f"{name}-again"
        assert {path.name for path in again.glob("*.py")} == CODE_FILES
        assert AUTO_MAP.items() <= auto_map(again).items()
        torch.testing.assert_close(PFHINModel.from_pretrained(again).pooler.weight, model.pfhin.pooler.weight)
