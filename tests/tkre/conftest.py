"""Processors and models of the text family, tiny."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor

from ..conftest import word_piece_tokenizer

MakeProcessor = Callable[..., TKREProcessor]


@pytest.fixture
def make_processor() -> MakeProcessor:
    """Makes a processor with a WordPiece tokenizer of its own: ``make_processor("entity_mask", max_length=30)``."""

    def make(marker: str = "entity_marker", **settings: Any) -> TKREProcessor:
        return TKREProcessor(word_piece_tokenizer(), marker, **{"max_length": 64, **settings})

    return make


@pytest.fixture
def processor(make_processor: MakeProcessor) -> TKREProcessor:
    """Entity markers, WordPiece."""
    return make_processor()


@pytest.fixture
def model(backbone: Path, processor: TKREProcessor) -> TKREForPreTraining:
    """A model that fits the processor, from the tiny backbone."""
    model = TKREForPreTraining.from_backbone(
        str(backbone),
        vocab_size=len(processor.tokenizer),
        new_tokens=processor.new_tokens,
        projection_dim=16,
        lambda_mslm=0.5,
    )
    return model.eval()
