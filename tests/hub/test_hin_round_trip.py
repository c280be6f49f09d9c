"""A network's model on the Hub: what its card prints runs by the Hub id, in a folder that has nothing else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from huggingface_hub import ModelCard, constants, file_download

from tkre_hf.cli import main
from tkre_hf.data.hin import write_hin
from tkre_hf.evaluation.report import read_rows
from tkre_hf.hin_links import LINKS

from ..pfhin.conftest import make_tables
from .server import Hub

REPO = "ada/net"
TINY = "--hidden_size 16 --embedding_size 8 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 24"
TINY += " --num_walks 4 --walk_length 6 --max_length 10 --use_cpu --bf16 false --disable_tqdm true"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of the Hub's with nothing in it, and a folder to work in."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    # transformers 4 keeps names of its own.
    monkeypatch.setattr(transformers.utils.hub, "TRANSFORMERS_CACHE", str(folder), raising=False)
    monkeypatch.setattr(transformers.utils.hub, "_is_offline_mode", False, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """A folder's files and what stands in them."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_card_on_the_hub_prints_what_runs(
    hub: Hub,
    online: Callable[[str], None],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network, model, tuned = tmp_path / "network", tmp_path / "model", tmp_path / "tuned"
    write_hin(make_tables(), network)
    words = f"hin pretrain --network {network} --output_dir {model} --max_steps 2 --per_device_train_batch_size 16"
    assert main([*words.split(), *TINY.split()]) == 0
    words = f"hin finetune --model {model} --network {network} --output_dir {tuned} --max_steps 2 --use_cpu"
    assert main([*words.split(), "--disable_tqdm", "true"]) == 0
    online(hub.url)
    # Made of the address when it is imported, and up to hub 0.x by a module that keeps it.
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for module in (constants, file_download):
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    for folder, repo in ((model, REPO), (tuned, f"{REPO}-tuned")):
        assert main(["push", str(folder), repo]) == 0
        card = ModelCard(hub.repos["models", repo].branches["main"]["README.md"].decode())
        (code,) = re.findall(r"^```python\n(.*?)^```$", card.text, re.S | re.M)
        found: dict[str, Any] = {}
        exec(code, found)
        assert f'name = "{repo}"' in code and ("vectors" in found or "probabilities" in found)
        if folder == model:
            commands = re.findall(r"`(tkre hin [^`]*)`", card.text)
    fetched = files_of(cache)
    assert any(name.endswith("graph/graph.json") for name in fetched) and not any(".py" in name for name in fetched)
    capsys.readouterr()
    embed, similar = (shlex.split(line.replace("NODE", "n3"))[1:] for line in commands[:2])
    assert main(embed) == 0 and main(similar) == 0
    assert len(capsys.readouterr().out.splitlines()) == 11
    # What is made of it goes to a folder that is named, and none into the Hub's cache.
    for action, more in (("embed", []), ("links", ["--node", "n3"]), ("evaluate", ["--network", str(network)])):
        assert main(["hin", action, "--model", REPO, *more]) == 2
        assert f"{REPO} is no folder here, and on the Hub nothing is written" in capsys.readouterr().err
    assert main(["hin", "similar", "--model", REPO, "--node", "n3"]) == 2
    assert f"write them with tkre hin embed --model {REPO} --output_dir FOLDER" in capsys.readouterr().err
    words = f"hin links --model {REPO} --node n3 --size 4 --epochs 1 --output_dir links"
    assert main(words.split()) == 0 and Path("links", LINKS).exists()
    assert main(f"hin evaluate --model {REPO} --network {network} --output_dir measured".split()) == 0
    assert {row.system for row in read_rows("measured/results.json")} == {"PFHINForPreTraining"}
    assert "tkre card" not in capsys.readouterr().out
    assert files_of(cache) == fetched
    # It is a checkpoint like any other to go on from.
    words = f"hin finetune --model {REPO} --network {network} --output_dir again --max_steps 1 --use_cpu"
    assert main([*words.split(), "--disable_tqdm", "true"]) == 0 and Path("again/graph/graph.json").exists()
    assert not Path("again/graph/graph.json").is_symlink()
    # And what is written beside it on the Hub is found there.
    assert main(["hin", "embed", "--model", str(model)]) == 0 and main(["push", str(model), REPO]) == 0
    assert main(["hin", "similar", "--model", REPO, "--node", "n3"]) == 0
    assert main("hin embed --model ada/nothing --output_dir no".split()) == 2
    assert "the checkpoint ada/nothing can't be loaded: ada/nothing is not a" in capsys.readouterr().err
