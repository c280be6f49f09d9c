"""What a K-shot chain publishes, when, and what it says where it can't."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tkre_hf.cli import main
from tkre_hf.errors import TkreError
from tkre_hf.kshot import KShotArguments, run_chain

from .conftest import QUICK
from .server import TOKEN, Hub

REPO = "ada/kshot"


@pytest.fixture
def chain(
    corpus_files: tuple[Path, Path],
    trained: tuple[Path, Path],
    tmp_path: Path,
    hub: Hub,
    online: Callable[[str], None],
) -> KShotArguments:
    """Fine-tuning from stage 2, a test, and the classifier published."""
    online(hub.url)
    sources, info = map(str, corpus_files)
    published = {"push_to_hub": True, "hub_model_id": REPO, "hub_token": TOKEN}
    return KShotArguments(
        train=sources,
        test=sources,
        relation_info=info,
        checkpoint=str(trained[1]),
        finetune={**QUICK, **published, "max_length": 64},
        output_dir=str(tmp_path),
    )


def test_of_several_fine_tunings_their_mean_is_published(chain: KShotArguments, hub: Hub, tmp_path: Path) -> None:
    classifier = run_chain(replace(chain, averaged=2, test=None)).classifier
    repo = hub.repos["models", REPO]
    assert len(repo.messages) == 1 and classifier.name.startswith("average-")
    assert repo.branches["main"]["model.safetensors"] == (classifier / "model.safetensors").read_bytes()
    assert all(TOKEN not in path.read_text("utf-8") for path in tmp_path.rglob("*.json"))


def test_what_could_not_be_published_is_published_by_the_next_run(chain: KShotArguments, hub: Hub) -> None:
    hub.faults["/commit/"] = (503, {"error": "try later"})
    with pytest.raises(TkreError, match="push again later"):
        run_chain(chain)
    hub.faults.clear()
    classifier = run_chain(chain).classifier
    files = hub.repos["models", REPO].branches["main"]
    # With what it was tested by.
    assert files["results.json"] == (classifier / "results.json").read_bytes()
    assert b"micro_f1" in files["README.md"]


def test_what_the_hub_has_is_not_sent_again_until_there_is_more_to_tell(
    chain: KShotArguments, hub: Hub, tmp_path: Path
) -> None:
    run_chain(chain)
    calls = len(hub.calls)
    run_chain(chain)
    assert len(hub.calls) == calls
    other = tmp_path / "other.jsonl"
    other.write_text("".join(Path(str(chain.test)).read_text().splitlines(keepends=True)[::2]))
    run_chain(replace(chain, test=str(other)))
    assert len(hub.repos["models", REPO].messages) == 2


def test_a_result_that_is_not_published_is_told(
    chain: KShotArguments, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults["/commit/"] = (503, {"error": "try later"})
    given: dict[str, Any] = {"train": chain.train, "test": chain.test, "checkpoint": chain.checkpoint}
    given |= {"output_dir": chain.output_dir, **{f"finetune.{name}": value for name, value in chain.finetune.items()}}
    assert (
        main(["train", "kshot", *(word for name, value in given.items() for word in (f"--{name}", str(value)))]) == 2
    )
    told = capsys.readouterr()
    assert "micro_f1: " in told.out and "push again later" in told.err and TOKEN not in told.out + told.err
