"""``tkre serve``: the page, or the Space that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from transformers.utils.hub import cached_file

from tkre_hf.arguments import parse_arguments
from tkre_hf.console import quiet_libraries
from tkre_hf.data import load_records, load_relation_info
from tkre_hf.data.reading import RowView
from tkre_hf.errors import TkreError
from tkre_hf.tkre.inputs import read_sentence
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.pipeline import RelationExtractionPipeline

_DESCRIPTION = """Extracts relations in the browser, with a classifier or with relations that every visitor teaches.

tkre serve --model tkre-bert
tkre serve --model tkre-bert --relations relations.yaml --supports supports.jsonl --port 8000
tkre serve --model tkre-bert --ner dslim/bert-base-NER
tkre serve --model tkre-bert --export-space my-space
"""
_PACKAGES = ("gradio", "matplotlib", "networkx")


@dataclass
class ServeArguments:
    """What is served, and where."""

    model: str = field(metadata={"help": "Checkpoint: a folder or Hub id."})
    relations: str | None = field(
        default=None,
        metadata={
            "help": "Relation names and descriptions that visitors start with, instead of the checkpoint's own: YAML, "
            "JSON lines, or pid2name.json."
        },
    )
    supports: str | None = field(
        default=None, metadata={"help": "Labelled sentences of these relations: a file of any format read."}
    )
    ner: str | None = field(
        default=None, metadata={"help": "Token classification model that finds a paragraph's entities."}
    )
    device: str | None = field(
        default=None, metadata={"help": "Such as cpu or cuda:1; the accelerator by default, if there is one."}
    )
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen at; 0.0.0.0 lets other machines in."})
    port: int = field(default=7860, metadata={"help": "Port to listen at; 0 takes the first free one from 7860 on."})
    share: bool = field(
        default=False, metadata={"help": "Let anybody in by a public address, through Gradio's servers."}
    )
    export_space: str | None = field(
        default=None, metadata={"help": "Write a Space for the Hub into this folder instead of serving."}
    )


def load(args: ServeArguments) -> RelationExtractionPipeline:
    """The pipeline, with the relations that visitors start with.

    Raises:
        TkreError: Checkpoint or relations are wrong.
    """
    info = load_relation_info(args.relations) if args.relations is not None else {}
    records = load_records(args.supports) if args.supports is not None else []
    supports = [read_sentence(RowView(str(args.supports), record["id"], record)) for record in records]
    pipe = load_pipeline(args.model, args.ner, args.device)
    return pipe.fit(supports, info) if info or supports else pipe


def model_card(model: str) -> str | None:
    """The text of a checkpoint's README.md, or ``None`` if it has none."""
    path = cached_file(
        model,
        "README.md",
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return None
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def serve(args: ServeArguments) -> int:
    """Serves the page until it is interrupted.

    Raises:
        TkreError: The checkpoint or the relations are wrong, or the address is taken.
    """
    from .app import build, launch_settings
    from .session import Extractor

    with quiet_libraries():
        demo = build(Extractor(load(args)), model_card(args.model))
        try:
            _, url, public = demo.launch(
                server_name=args.host,
                server_port=args.port or None,
                share=args.share,
                prevent_thread_lock=True,
                quiet=True,
                **launch_settings(),
            )
        except OSError as error:
            raise TkreError(f"can't listen at {args.host}, port {args.port}: {error}") from error
    print(f"Serving {args.model} at {public or url}; stop with Ctrl+C.", flush=True)
    demo.block_thread()
    return 0


def main(argv: Sequence[str], prog: str) -> int:
    """Parses the command line, and serves or exports.

    Raises:
        TkreError: A setting is wrong, or a package is missing.
    """
    parsed: tuple[Any, ...] = parse_arguments((ServeArguments,), argv, _DESCRIPTION, prog)
    args: ServeArguments = parsed[0]
    if not 0 <= args.port <= 65535:
        raise TkreError(f"port is {args.port}; expected a number up to 65535, or 0 for one that is free")
    if args.export_space is not None:
        from .space import export_space

        print(export_space(args))
        return 0
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise TkreError(f"serving needs {' and '.join(missing)}: pip install 'tkre-hf[serve]'")
    return serve(args)
