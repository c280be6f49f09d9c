"""A page over a tiny checkpoint, served on a free port, and programs that talk to it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

import tkre_hf  # noqa: F401  (registers the task)
from tkre_hf.data.relations import RelationInfo
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.tkre.pipeline import RelationExtractionPipeline
from tkre_hf.tkre.processing_tkre import TKREProcessor

from ..conftest import RELATIONS, word_piece_tokenizer

# What a browser would run, if it were ever taken for markup, for a template of Gradio's, or for a script.
HOSTILE = "<img src=x onerror='hacked=1'><script>hacked=1</script>${hacked=1}{{hacked}}`${hacked=1}`"
CARD = f"""---
license: apache-2.0
tags: [relation-extraction]
---
# A card

It says **much**. {HOSTILE} [a link](javascript:hacked=1) <a href="javascript:hacked=1">another</a>
<iframe srcdoc="<script>parent.hacked=1</script>"></iframe>
"""


@pytest.fixture(scope="session")
def checkpoint(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as stage 2 leaves it, with a card."""
    folder = tmp_path_factory.mktemp("served")
    processor = TKREProcessor(word_piece_tokenizer(), "entity_marker", max_length=64)
    model = TKREForPreTraining.from_backbone(
        str(backbone), vocab_size=len(processor.tokenizer), new_tokens=processor.new_tokens, projection_dim=16
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def loaded(checkpoint: Path) -> RelationExtractionPipeline:
    """The checkpoint's pipeline, with no relations; not to be changed."""
    pipe = pipeline("relation-extraction", model=str(checkpoint), device="cpu")  # type: ignore[call-overload]
    assert isinstance(pipe, RelationExtractionPipeline)
    return pipe


@pytest.fixture
def pipe(loaded: RelationExtractionPipeline) -> Iterator[RelationExtractionPipeline]:
    """The same with six relations, known by their descriptions."""
    loaded.fit(descriptions={label: RelationInfo(name, text) for label, (name, text, _) in RELATIONS.items()})
    yield loaded
    loaded.prototypes, loaded.ner = None, None


@pytest.fixture(scope="module")
def page(checkpoint: Path) -> Iterator[Page]:
    """The page, served with six relations."""
    pytest.importorskip("gradio", reason="the page needs Gradio, of the extra [serve]")
    from tkre_hf.serve.app import build, launch_settings
    from tkre_hf.serve.session import Extractor

    pipe = pipeline("relation-extraction", model=str(checkpoint), device="cpu")  # type: ignore[call-overload]
    pipe.fit(descriptions={label: RelationInfo(name, text) for label, (name, text, _) in RELATIONS.items()})
    demo = build(Extractor(pipe), CARD)
    _, url, _ = demo.launch(server_port=None, prevent_thread_lock=True, quiet=True, **launch_settings())
    yield Page(url, demo)
    demo.close()


class Page:
    """A served page, as a program sees it."""

    def __init__(self, url: str, demo: Any) -> None:
        self.url, self.demo = url, demo

    def post(self, path: str, body: Any) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}gradio_api/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def extract(self, text: Any, top_k: int = 1) -> Any:
        """Calls the public endpoint; an error it answers with is raised."""
        event = self.post("call/extract", {"data": [text, top_k]})["event_id"]
        for kind, data in self._events(f"call/extract/{event}"):
            if kind == "complete":
                return data[0]
            if kind == "error":
                raise RuntimeError(data["error"] if isinstance(data, dict) else data)
        raise AssertionError("the stream ended without a result")

    def act(self, visitor: str, name: str, *values: Any) -> list[Any]:
        """Does what a button does, as the browser of a visitor: ``None`` stands for the session."""
        (number,) = (fn._id for fn in self.demo.fns.values() if fn.name == name)
        call = {"data": list(values), "fn_index": number, "session_hash": visitor, "event_data": None}
        event = self.post("queue/join", call)["event_id"]
        for _, data in self._events(f"queue/data?session_hash={visitor}"):
            if data.get("msg") == "process_completed" and data.get("event_id") == event:
                if not data["success"]:
                    raise RuntimeError(data["output"]["error"])
                found: list[Any] = data["output"]["data"]
                return found
        raise AssertionError("the stream ended without a result")

    def _events(self, path: str) -> Iterator[tuple[str, Any]]:
        kind = ""
        with urllib.request.urlopen(f"{self.url}gradio_api/{path}", timeout=60) as stream:
            for raw in stream:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield kind, json.loads(line.removeprefix("data: "))
