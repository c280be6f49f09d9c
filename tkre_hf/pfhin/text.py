"""Nodes' texts as vectors, by a frozen encoder: each text is encoded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer


@torch.inference_mode()
def encode_texts(
    texts: Sequence[str], encoder: str, batch_size: int = 64, max_length: int = 64, revision: str = "main"
) -> NDArray[np.float32]:
    """Means of a frozen encoder's states, at length one.

    Args:
        texts: Of nodes; one that is empty has no vector.
        encoder: Folder or Hub id that ``AutoModel`` loads.
        batch_size: Texts at once; those of like length together.
        max_length: Tokens that are read of each.
        revision: Of a Hub id.

    Returns:
        ``(texts, hidden)``, NaN in the rows of empty texts.
    """
    tokenizer = AutoTokenizer.from_pretrained(encoder, revision=revision)
    model = AutoModel.from_pretrained(encoder, revision=revision).eval()
    distinct = sorted({text for text in texts if text.strip()}, key=lambda text: (len(text), text))
    found: dict[str, NDArray[np.float32]] = {}
    steps = range(0, len(distinct), batch_size)
    for start in tqdm(steps, desc="Encoding texts", unit_scale=batch_size, disable=None, leave=False):
        batch = distinct[start : start + batch_size]
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
        vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        found.update(zip(batch, vectors.float().numpy(), strict=True))
    absent = np.full(model.config.hidden_size, np.nan, np.float32)
    return np.stack([found.get(text, absent) for text in texts])
