"""``tkre export``: a checkpoint in another format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tkre_hf.arguments import parse_arguments
from tkre_hf.console import quiet_libraries
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.onnx_export import export_onnx
from tkre_hf.tkre.pipeline import RelationExtractionPipeline

_DESCRIPTION = """Writes a checkpoint in another format: ONNX, which onnxruntime runs without torch.

tkre export tkre-bert -o tkre-onnx
tkre export tkre-bert -o tkre-onnx-int8 --int8

A few-shot model becomes model.onnx (sentences, and relations' descriptions, to vectors) and few_shot.onnx (these and
prototypes to logits); a classifier model.onnx alone. The relations that 'tkre relations' taught the checkpoint, the
tokenizer and the configuration go with it. tkre_hf.tkre.onnx_export.OnnxModel runs them.
"""


@dataclass
class ExportArguments:
    """What is exported, and how."""

    model: str = field(default="tkre-bert", metadata={"help": "Checkpoint: a folder or Hub id."})
    output: str = field(default="tkre-onnx", metadata={"help": "Folder for the graphs.", "aliases": ["-o"]})
    int8: bool = field(default=False, metadata={"help": "Compute with 8-bit integers (dynamic quantization)."})


def main(argv: Sequence[str], prog: str) -> int:
    """Parses the command line and exports the checkpoint.

    Raises:
        TkreError: A setting is wrong, there is no such checkpoint, or what the export needs isn't installed.
    """
    parsed: tuple[Any, ...] = parse_arguments((ExportArguments,), argv, _DESCRIPTION, prog, ("model",))
    args: ExportArguments = parsed[0]
    with quiet_libraries():
        pipe: RelationExtractionPipeline = load_pipeline(args.model, device="cpu")
        written = export_onnx(pipe.model, pipe.processor, args.output, args.int8)
        # Where there are none, another model's may lie there still.
        pipe.save_relations(args.output)
    for path in written:
        print(f"{path.stat().st_size / 2**20:8.2f} MiB  {Path(path)}")
    return 0
