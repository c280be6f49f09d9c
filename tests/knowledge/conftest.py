from __future__ import annotations

import pytest


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub's offline mode forbids the loopback interface too; these tests go no further than that."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("TKRE_API_KEY", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
