"""TKRE models as ONNX graphs: what a checkpoint computes, where neither torch nor transformers need be installed.

========================  ============================================================================================
``model.onnx``            a few-shot model: ``input_ids``, ``attention_mask``, ``entity_spans`` to ``relation_embeds``
                          and ``anchor_embeds``; of a relation's name and description the latter counts, and the spans
                          may be zeros. A classifier: the same to ``logits``
``few_shot.onnx``         few-shot: ``relation_embeds``, ``prototypes``, ``na_threshold`` to ``logits``, of which the
                          last is none of the above's; a threshold of -inf leaves it without a chance
========================  ============================================================================================

Numbers of sentences, tokens and relations may be any. Processor and configuration stand beside them; prototypes are
those that the pipeline's ``fit`` makes, ``prototypes.safetensors``.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from tkre_hf.errors import TkreError

from .modeling_classification import TKREForRelationClassification
from .modeling_tkre import TKREForFewShotClassification
from .processing_tkre import TKREProcessor

MODEL, FEW_SHOT = "model.onnx", "few_shot.onnx"
_OPSET = 20

# What a traced graph is traced with: more than one of everything, lest it take one for the only number there is.
_BATCH, _LENGTH, _RELATIONS = 2, 9, 3

Array = NDArray[Any]


class _Encoder(nn.Module):
    """Both kinds of vectors by one pass, so that the encoder's weights stand in one file once."""

    def __init__(self, model: TKREForFewShotClassification) -> None:
        super().__init__()
        self.tkre = model.tkre

    def forward(self, input_ids: Tensor, attention_mask: Tensor, entity_spans: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.tkre.encode(input_ids, attention_mask)
        relations = self.tkre.relation_embeds(hidden, attention_mask, entity_spans)
        return relations, self.tkre.anchor_embeds(hidden, attention_mask)


class _Classifier(nn.Module):
    def __init__(self, model: TKREForRelationClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, entity_spans: Tensor) -> Tensor:
        return self.model(input_ids, attention_mask, entity_spans).logits


class _FewShot(nn.Module):
    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau

    def forward(self, relation_embeds: Tensor, prototypes: Tensor, na_threshold: Tensor) -> Tensor:
        cosine = relation_embeds @ prototypes.T  # of its shape, not its len(): that is one number for good
        return torch.cat([cosine, na_threshold.expand(cosine.shape[0], 1)], dim=1) / self.tau


def export_onnx(
    model: TKREForFewShotClassification | TKREForRelationClassification,
    processor: TKREProcessor,
    folder: str | Path,
    int8: bool = False,
) -> list[Path]:
    """Writes a model's graphs.

    Args:
        model: A few-shot model or a classifier.
        processor: Its processor.
        folder: Is made where it isn't there.
        int8: Keep the matrices of the encoder as 8-bit integers, and compute with such (dynamic quantization).

    Returns:
        The graphs' files.

    Raises:
        TkreError: onnx, onnxscript or onnxruntime isn't installed.
    """
    import_onnx()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = model.eval()
    batch, length = Dim("batch"), Dim("length")
    ids = torch.ones(_BATCH, _LENGTH, dtype=torch.long)
    spans = torch.tensor([[[1, 3], [4, 6]]] * _BATCH)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "entity_spans": spans}
    axes: dict[str, Any] = {name: {0: batch, 1: length} for name in ("input_ids", "attention_mask")}
    axes["entity_spans"] = {0: batch}
    graphs: list[tuple[str, nn.Module, dict[str, Tensor], dict[str, Any], list[str]]]
    if isinstance(model, TKREForRelationClassification):
        graphs = [(MODEL, _Classifier(model), inputs, axes, ["logits"])]
        # Another model's may lie there still.
        (folder / FEW_SHOT).unlink(missing_ok=True)
    else:
        size = model.config.projection_dim
        anchors = nn.functional.normalize(torch.ones(_RELATIONS, size), dim=-1)
        relations = Dim("relations")
        graphs = [
            (MODEL, _Encoder(model), inputs, axes, ["relation_embeds", "anchor_embeds"]),
            (
                FEW_SHOT,
                _FewShot(model.config.tau),
                {
                    "relation_embeds": anchors[:_BATCH],
                    "prototypes": anchors,
                    "na_threshold": torch.tensor([0.5]),
                },
                {"relation_embeds": {0: batch}, "prototypes": {0: relations}, "na_threshold": None},
                ["logits"],
            ),
        ]
    written = []
    for name, module, example, dynamic, outputs in graphs:
        _export(module, example, dynamic, outputs, folder / name)
        written.append(folder / name)
    if int8:
        _quantize(folder / MODEL)
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return written


class OnnxModel:
    """An exported model, run by onnxruntime.

    Args:
        folder: As :func:`export_onnx` wrote it.
        threads: Of each operation; as many as there are cores by default.

    Raises:
        TkreError: There is no such folder, or onnxruntime isn't installed.
    """

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        self.folder = Path(folder)
        if not (self.folder / MODEL).exists():
            raise TkreError(f"{folder} holds no {MODEL}: write it with 'tkre export'")
        self._runtime = import_onnxruntime()
        self._options = self._runtime.SessionOptions()
        if threads is not None:
            self._options.intra_op_num_threads = threads
        self._sessions: dict[str, Any] = {}

    def __call__(
        self, input_ids: Array, attention_mask: Array, entity_spans: Array | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """What the model says of sentences, or, without spans, of names and descriptions.

        Args:
            input_ids: ``(batch, length)``.
            attention_mask: ``(batch, length)``.
            entity_spans: ``(batch, 2, 2)``, as ``TKREProcessor`` gives them.

        Returns:
            ``relation_embeds`` and ``anchor_embeds``, or of a classifier ``logits``.
        """
        if entity_spans is None:
            entity_spans = np.zeros((len(input_ids), 2, 2))
        return self._run(MODEL, input_ids=input_ids, attention_mask=attention_mask, entity_spans=entity_spans)

    def logits(
        self, relation_embeds: Array, prototypes: Array, na_threshold: float | None = None
    ) -> NDArray[np.float32]:
        """Logits of relations, and last of none of the above, ``(batch, relations + 1)``."""
        threshold = np.array([-np.inf if na_threshold is None else na_threshold])
        inputs = {"relation_embeds": relation_embeds, "prototypes": prototypes, "na_threshold": threshold}
        return self._run(FEW_SHOT, **inputs)["logits"]

    def _run(self, name: str, **inputs: Array) -> dict[str, NDArray[np.float32]]:
        if name not in self._sessions:
            if not (self.folder / name).exists():
                raise TkreError(f"{self.folder} holds no {name}: it is no few-shot model's")
            self._sessions[name] = self._runtime.InferenceSession(
                str(self.folder / name), self._options, providers=["CPUExecutionProvider"]
            )
        session = self._sessions[name]
        kinds: Mapping[str, type] = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
        typed: dict[str, Array] = {
            entry.name: np.asarray(inputs[entry.name], kinds[entry.type]) for entry in session.get_inputs()
        }
        names: Sequence[str] = [entry.name for entry in session.get_outputs()]
        return dict(zip(names, session.run(names, typed), strict=True))


def import_onnx() -> None:
    """Checks that what the export needs is there.

    Raises:
        TkreError: It isn't.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise TkreError("the export needs onnx and onnxscript: pip install 'tkre-hf[onnx]'") from error


def import_onnxruntime() -> Any:
    """onnxruntime.

    Raises:
        TkreError: It isn't installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise TkreError("an ONNX graph is run by onnxruntime: pip install 'tkre-hf[onnx]'") from error
    return onnxruntime


@torch.no_grad()
def _export(
    module: nn.Module, inputs: dict[str, Tensor], axes: dict[str, Any], outputs: list[str], path: Path
) -> None:
    """Writes a graph into one file, which takes its place when it is whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=axes,
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(part, external_data=False)
    part.replace(path)


def _quantize(path: Path) -> None:
    import_onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    part = path.with_name(f".{path.name}.{os.getpid()}")
    with _quiet():
        quantize_dynamic(path, part, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    part.replace(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' notes to themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
