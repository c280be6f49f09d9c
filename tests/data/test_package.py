from __future__ import annotations

import subprocess
import sys

import pytest

import tkre_hf.data


def test_every_public_name_is_there_and_listed() -> None:
    assert tkre_hf.data.__all__ == sorted(tkre_hf.data.__all__)
    assert set(tkre_hf.data.__all__) == {name for names in tkre_hf.data._MODULES.values() for name in names}
    for name in tkre_hf.data.__all__:
        assert getattr(tkre_hf.data, name) is not None
        assert name in dir(tkre_hf.data)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tkre_hf.data.nothing  # noqa: B018


def test_importing_it_imports_no_heavy_package() -> None:
    code = "import sys, tkre_hf.data; print({'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_episodes_need_numpy_alone() -> None:
    code = "import sys; from tkre_hf.data import EpisodeDataset; print({'torch', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
