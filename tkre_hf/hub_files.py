"""Files of a checkpoint that is named by its folder or by its Hub id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def is_hub_id(model: str | Path) -> bool:
    """Whether a checkpoint is one of the Hub's, ``NAMESPACE/NAME``: no folder has the name."""
    return not Path(model).exists() and _HUB_ID.fullmatch(str(model)) is not None


def optional_file(name: str, file: str, settings: Mapping[str, Any] | None = None) -> str | None:
    """A file of a checkpoint, which it needn't have.

    Args:
        name: Folder or Hub id.
        file: The file's name.
        settings: Of the download.
    """
    return cached_file(
        name,
        file,
        **(settings or {}),
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
