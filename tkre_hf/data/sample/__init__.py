"""The bundled corpus; its data card is ``README.md``, and :func:`~tkre_hf.data.load_sample` loads it."""

from __future__ import annotations

from pathlib import Path

SAMPLE_DIR = Path(__file__).parent
SAMPLE_SPLITS = {split: SAMPLE_DIR / f"{split}.jsonl.gz" for split in ("train", "validation")}
SAMPLE_RELATIONS = SAMPLE_DIR / "relations.jsonl"
