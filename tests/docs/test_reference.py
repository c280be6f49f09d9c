"""The reference has what is public, and what how-to pages send their readers to: ``make docs`` holds it to that."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

CONF = Path(__file__).parents[2] / "docs" / "conf.py"


@pytest.fixture(scope="module")
def conf() -> Any:
    """The site's configuration, as Sphinx runs it."""
    spec = importlib.util.spec_from_file_location("tkre_docs_conf", CONF)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = """Call `tkre_hf.data.from_triples`, or see `tkre_hf.errors` and `tkre_hf/data/sample`.

```python
import tkre_hf
from tkre_hf.data import load_records, draw_kshot as draw  # both
from tkre_hf.errors import (
    InvalidRowError,
    TkreError,
)

tkre_hf.TKREProcessor.from_pretrained("x")
```
"""


def test_a_page_names_what_it_imports_and_what_it_spells_out(conf: Any) -> None:
    assert {name.rpartition(".")[2] for name in conf.names_on(PAGE)} == {
        "data", "from_triples", "errors", "load_records", "draw_kshot", "InvalidRowError", "TkreError",
        "from_pretrained",
    }  # fmt: skip
    assert conf.names_on("The file `tkre_hf/errors.py`, and `tkre_hf._hidden`.") == set()


def test_a_name_leads_to_a_module_or_to_a_class_and_no_further(conf: Any) -> None:
    import tkre_hf.errors
    from tkre_hf import TKREProcessor

    assert conf.named("tkre_hf.errors") is tkre_hf.errors
    assert conf.named("tkre_hf.TKREProcessor.from_pretrained") is TKREProcessor
    with pytest.raises(AttributeError):
        conf.named("tkre_hf.errors.NoSuchError")


def test_what_has_no_entry_is_told(conf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "PUBLIC", ())
    entries = ["tkre_hf.load_records", "tkre_hf.TKREProcessor", "tkre_hf.errors.TkreError", "tkre_hf.draw_kshot"]
    page = f"{PAGE}\n`tkre_hf.data.no_such_thing`"
    # An entry under another module that exports the same thing is one.
    assert list(conf.missing({"how-to/x": page}, entries)) == [
        "how-to/x names tkre_hf.data.from_triples, which is in no page of docs/reference",
        "how-to/x names tkre_hf.data.no_such_thing, which isn't there",
        "how-to/x names tkre_hf.errors.InvalidRowError, which is in no page of docs/reference",
    ]
    monkeypatch.setattr(conf, "PUBLIC", ("tkre_hf.knowledge",))
    assert "tkre_hf.knowledge.Runner is public, and in no page of docs/reference" in list(conf.missing({}, entries))
