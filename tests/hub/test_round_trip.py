"""What is pushed is loaded back from the Hub by its id, by processes of their own that know the Hub by HF_ENDPOINT.

One of them runs in an environment where tkre_hf isn't installed, the other in one where it is.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

import tkre_hf
from tkre_hf.cli import main
from tkre_hf.evaluation.report import Row, write_rows
from tkre_hf.training_data import training_summary

from .server import TOKEN, Hub

REPO = "ada/round-trip"
ROWS = [
    Row("fewrel_val_wiki", "mine", "5w1s", "accuracy", 88.88, ci95=1.0, n=10_000, seeds=[0]),
    Row("fewrel_val_pubmed", "mine", "10w5s", "accuracy", 76.67, n=10_000, seeds=[0]),
]
SUPPORTS = [
    {"text": "[E1]Kiel[/E1] is the capital of [E2]Jena[/E2] .", "relation": "capital"},
    {"text": "[E1]Jena[/E1] is ruled from [E2]Kiel[/E2] .", "relation": "capital"},
    {"text": "[E1]Ada[/E1] works for [E2]Hull[/E2] .", "relation": "employer"},
    {"text": "[E1]Hull[/E1] has hired [E2]Ada[/E2] again .", "relation": "employer"},
]
SENTENCES = ["[E1]Bruno[/E1] works for [E2]Kiel[/E2] .", "[E1]Lima[/E1] is the capital of [E2]Elba[/E2] ."]

WITHOUT = """
import json, sys
try:
    import tkre_hf
except ModuleNotFoundError:
    pass
else:
    sys.exit(f"tkre_hf is installed here: {tkre_hf.__file__}")
import torch
from transformers import AutoModel, AutoProcessor

torch.set_num_threads(1)
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
inputs = processor("Ada works for Kiel .", head=(0, 3), tail=(14, 18))
with torch.no_grad():
    vector = model(inputs["input_ids"], inputs["attention_mask"], inputs["entity_spans"]).relation_embeds
assert not [name for name in sys.modules if name.partition(".")[0] == "tkre_hf"]
told = {"vector": vector[0].tolist(), "module": type(model).__module__, "class": type(model).__name__}
print("FOUND" + json.dumps(told))
"""

WITH = """
import json, sys
import tkre_hf, torch
from huggingface_hub import ModelCard
from transformers import AutoModel, pipeline

torch.set_num_threads(1)
extract = pipeline("relation-extraction", model=sys.argv[1])
card = ModelCard.load(sys.argv[1])
told = {
    "module": type(AutoModel.from_pretrained(sys.argv[1])).__module__,
    "relations": extract.relations,
    "answers": extract(json.loads(sys.argv[2]), top_k=None),
    "name": card.data.model_name,
    "results": [
        [r.dataset_type, r.dataset_split, r.metric_type, r.metric_name, r.metric_value] for r in card.data.eval_results
    ],
    "text": card.text,
}
print("FOUND" + json.dumps(told))
"""


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """A process that knows this Hub alone."""
    other = ("HF_", "HUGGING", "PYTHONPATH", "VIRTUAL_ENV")
    named = {name: value for name, value in os.environ.items() if not name.startswith(other)}
    return {
        **named,
        **hub.environment(),
        "HF_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def without_tkre_hf(tmp_path: Path) -> Path:
    """The Python of an environment of its own: all packages that are installed here, but for tkre_hf.

    Links to each of them, for a folder of packages that is named in a .pth file would have its own .pth files read,
    the one that leads to tkre_hf's sources among them.
    """
    folder = tmp_path / "without"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for source in map(Path, site.getsitepackages()):
        for entry in source.iterdir() if source.is_dir() else ():
            is_ours = "tkre_hf" in entry.name.lower().replace("-", "_")
            if entry.suffix != ".pth" and not is_ours and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def run(python: Path | str, code: str, environment: dict[str, str], folder: Path, *words: str) -> dict[str, Any]:
    """What a process found, which is another one's business in nothing but the Hub."""
    done = subprocess.run(
        [str(python), "-c", code, REPO, *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.partition("FOUND")[2])
    return found


def test_pushed_and_loaded_back_without_tkre_hf_and_with_it(
    checkpoint: Path,
    hub: Hub,
    online: Callable[[str], None],
    environment: dict[str, str],
    without_tkre_hf: Path,
    tmp_path: Path,
) -> None:
    # What a user makes of a checkpoint: figures, and relations of their own.
    write_rows(checkpoint / "results.json", ROWS)
    pipe: Any = pipeline("relation-extraction", model=str(checkpoint))
    pipe.fit(SUPPORTS, {"employer": "whom a person works for"}).save_relations(checkpoint)
    answers = pipe(SENTENCES, top_k=None)
    online(hub.url)
    assert main(["push", str(checkpoint), REPO, "--private"]) == 0
    assert hub.repos["models", REPO].private

    # What it was trained on is known by its name too.
    summary = training_summary(checkpoint)
    assert summary is not None and training_summary(REPO) == summary

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    theirs = run(without_tkre_hf, WITHOUT, environment, elsewhere)
    assert theirs["module"].startswith("transformers_modules.") and theirs["class"] == "TKREModel"
    model = tkre_hf.TKREModel.from_pretrained(checkpoint).eval()
    processor = tkre_hf.TKREProcessor.from_pretrained(checkpoint)
    inputs = processor("Ada works for Kiel .", head=(0, 3), tail=(14, 18))
    with torch.no_grad():
        vector = model(inputs["input_ids"], inputs["attention_mask"], inputs["entity_spans"]).relation_embeds
    np.testing.assert_allclose(theirs["vector"], vector[0], atol=1e-6)

    installed = {**environment, "PYTHONPATH": str(Path(tkre_hf.__file__).parents[1])}
    mine = run(sys.executable, WITH, installed, elsewhere, json.dumps(SENTENCES))
    assert mine["module"] == "tkre_hf.tkre.modeling_tkre"
    assert mine["relations"] == ["employer", "capital"]
    for found, expected in zip(mine["answers"], answers, strict=True):
        for got, wanted in zip(found, expected, strict=True):
            assert (got["relation"], got["head"], got["tail"]) == (
                wanted["relation"],
                wanted["head"],
                wanted["tail"],
            )
            assert got["score"] == pytest.approx(wanted["score"], abs=1e-5)
    # The card lists what was measured, and the relations.
    splits = {"fewrel_val_wiki": "val_wiki", "fewrel_val_pubmed": "val_pubmed"}
    names = {"5w1s": "accuracy, 5-way 1-shot", "10w5s": "accuracy, 10-way 5-shot"}
    assert mine["results"] == [
        ["thunlp/few_rel", splits[row.benchmark], row.metric, names[row.setting], row.value] for row in ROWS
    ]
    assert mine["name"] == "round-trip" and "whom a person works for" in mine["text"]
