"""A saved folder loads with ``trust_remote_code=True`` in an environment that has transformers but not tkre_hf."""

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

from tkre_hf.tkre.configuration_tkre import AUTO_MAP
from tkre_hf.tkre.modeling_tkre import TKREForFewShotClassification, TKREForPreTraining, TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor

CODE_FILES = {
    "configuration_tkre.py",
    "markers.py",
    "modeling_parts.py",
    "modeling_tkre.py",
    "processing_tkre.py",
    "words.py",
}

CHILD = """
import importlib.util, json, sys
import torch
from transformers import (
    AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoProcessor, AutoTokenizer
)
assert importlib.util.find_spec("tkre_hf") is None, importlib.util.find_spec("tkre_hf")
torch.set_num_threads(1)
found = {}
for folder in sys.argv[1:]:
    options = {"trust_remote_code": True}
    processor = AutoProcessor.from_pretrained(folder, **options)
    batch = processor("Ada works for Kiel .", head=(0, 3), tail=(14, 18))
    del batch["truncated"]
    config = AutoConfig.from_pretrained(folder, **options)
    models = {
        auto.__name__: auto.from_pretrained(folder, **options).eval()
        for auto in (AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining)
    }
    with torch.no_grad():
        found[folder] = {
            "classes": {name: type(model).__name__ for name, model in models.items()},
            "marker": config.marker,
            "input_ids": batch["input_ids"].tolist(),
            "relation_embeds": models["AutoModel"](**batch).relation_embeds.tolist(),
            "pretraining_embeds": models["AutoModelForPreTraining"](**batch).relation_embeds.tolist(),
            "logits": models["AutoModelForMaskedLM"](batch["input_ids"]).logits.tolist(),
        }
    models["AutoModel"].save_pretrained(folder + "-again")
    processor.save_pretrained(folder + "-again")
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


def auto_map(folder: Path, name: str = "config.json") -> dict[str, str]:
    return json.loads((folder / name).read_text())["auto_map"]


@pytest.mark.parametrize("cls", [TKREModel, TKREForFewShotClassification])
def test_every_class_writes_code_and_the_whole_map(cls: Any, model: TKREForPreTraining, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "pre")
    cls.from_pretrained(tmp_path / "pre").save_pretrained(tmp_path / "own")
    assert {"configuration_tkre.py", "modeling_parts.py", "modeling_tkre.py"} <= {
        path.name for path in (tmp_path / "own").iterdir()
    }
    assert AUTO_MAP.items() <= auto_map(tmp_path / "own").items()


def test_loads_where_tkre_hf_is_not_installed(
    model: TKREForPreTraining, processor: TKREProcessor, python_without_tkre_hf: Path, tmp_path: Path
) -> None:
    pre, few = tmp_path / "pre", tmp_path / "few"
    model.save_pretrained(pre)
    processor.save_pretrained(pre)
    TKREForFewShotClassification.from_pretrained(pre).save_pretrained(few)
    processor.save_pretrained(few)
    assert {path.name for path in pre.glob("*.py")} == CODE_FILES
    assert auto_map(pre, "processor_config.json") == {"AutoProcessor": AUTO_MAP["AutoProcessor"]}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(python_without_tkre_hf), "-c", CHILD, str(pre), str(few)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.partition("FOUND")[2])

    batch = processor("Ada works for Kiel .", head=(0, 3), tail=(14, 18))
    with torch.no_grad():
        embeds = model.tkre(batch["input_ids"], batch["attention_mask"], batch["entity_spans"]).relation_embeds
        logits = super(TKREForPreTraining, model).forward(batch["input_ids"]).logits
    for folder in (pre, few):
        mine = found[str(folder)]
        assert mine["classes"] == {
            "AutoModel": "TKREModel",
            "AutoModelForMaskedLM": "TKREForMaskedSpanLM",
            "AutoModelForPreTraining": "TKREForPreTraining",
        }
        assert mine["marker"] == "entity_marker"
        assert mine["input_ids"] == batch["input_ids"].tolist()
        np.testing.assert_allclose(mine["relation_embeds"], embeds, atol=1e-6)
        np.testing.assert_allclose(mine["pretraining_embeds"], embeds, atol=1e-6)
        # And what was loaded so can be saved so.
        again = Path(f"{folder}-again")
        assert {path.name for path in again.glob("*.py")} == CODE_FILES
        assert AUTO_MAP.items() <= auto_map(again).items()
        np.testing.assert_allclose(
            TKREModel.from_pretrained(again).span_projection.weight.detach(),
            model.tkre.span_projection.weight.detach(),
        )
    np.testing.assert_allclose(found[str(pre)]["logits"], logits, atol=1e-5)
