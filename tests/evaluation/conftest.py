"""A tiny checkpoint to measure, and random vectors in place of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tkre_hf.tkre.modeling_parts import unit
from tkre_hf.tkre.modeling_tkre import TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor


class Vectors(NamedTuple):
    """Unit vectors of labelled sentences, and of their sorted relations."""

    vectors: Tensor
    labels: list[str]
    anchors: Tensor


def random_vectors(seed: int, relations: int = 6, rows: int = 7, dim: int = 4) -> Vectors:
    """Sentences of all relations, in random order, each relation's around a centre of its own."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    numbers = torch.arange(relations).repeat_interleave(rows)[torch.randperm(relations * rows, generator=generator)]
    centres = normal(relations, dim)
    vectors = unit(centres[numbers] + normal(len(numbers), dim))
    return Vectors(vectors, [f"r{number}" for number in numbers.tolist()], unit(centres + normal(relations, dim)))


@pytest.fixture(scope="session")
def processor(backbone: Path) -> TKREProcessor:
    """The tiny encoder's."""
    return TKREProcessor.from_backbone(str(backbone), max_length=64)


@pytest.fixture(scope="session")
def model(backbone: Path, processor: TKREProcessor) -> TKREModel:
    """An untrained model over the tiny encoder."""
    return TKREModel.from_backbone(
        str(backbone), len(processor.tokenizer), processor.new_tokens, projection_dim=16
    ).eval()


@pytest.fixture(scope="session")
def checkpoint(model: TKREModel, processor: TKREProcessor, tmp_path_factory: Any) -> Path:
    """The same, saved."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
