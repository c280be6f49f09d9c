"""``tkre doctor``: what is required decides the exit code, and no token is shown."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

import pytest

import tkre_hf.doctor
from tkre_hf.cli import main
from tkre_hf.doctor import Check, extra_checks, hub_checks, library_checks

from .hub.conftest import hub, online  # noqa: F401
from .hub.server import TOKEN, Hub


def test_this_environment_is_fine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in report["checks"]}
    assert (code == 0) == report["ok"] == all(check["ok"] for check in report["checks"] if check["required"])
    for name in ("torch", "transformers", "huggingface-hub"):
        assert checks[name]["detail"] == metadata.version(name) and checks[name]["required"]
    assert {"[demo]", "[peft]", "[tune]", "[tgi]", "[constrained]", "[retrieval]", "[hin]", "[pyg]"} <= set(checks)
    assert "bfloat16" in checks["cpu"]["detail"] and checks["login"]["detail"] == "yes"

    assert main(["doctor"]) == code
    text = capsys.readouterr().out
    assert "all that is required is fine" in text or code == 1
    assert TOKEN not in text + json.dumps(report)
    for check in checks.values():
        (line,) = [line for line in text.splitlines() if f"  {check['name']} " in line and check["detail"] in line]
        assert check["fix"] in line


def test_what_is_missing_or_too_old_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fine, old, missing, other = library_checks(
        ["pytest", "pytest>=9999", "surely-not-there>=1", 'not-here; extra == "x"', "numpy>=1"]
    )[:4]
    assert fine.ok and fine.detail == metadata.version("pytest") and not fine.fix
    assert not old.ok and old.detail == f"{metadata.version('pytest')}, which isn't >=9999"
    assert not missing.ok and missing.fix == "pip install 'surely-not-there>=1'" and "not installed" in missing.detail
    assert other.name == "numpy"
    monkeypatch.setattr(tkre_hf.doctor, "library_checks", lambda: [fine, missing])
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "MISSING  surely-not-there" in out and "something that is required is wrong" in out
    monkeypatch.setattr(tkre_hf.doctor, "library_checks", lambda: [fine])
    assert main(["doctor"]) == 0


def test_an_extra_lacks_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version

    def version(name: str) -> str:
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    (check,) = (check for check in extra_checks() if check.name == "[peft]")
    assert not check.ok and not check.required and check.fix == "pip install 'tkre-hf[peft]'"
    assert check.detail.startswith("peft: not installed")


def test_the_hub_answers_or_does_not(
    hub: Hub,  # noqa: F811
    online: Callable[[str], None],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def endpoint() -> Check:
        return hub_checks()[0]

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert endpoint().ok and "offline mode is on" in endpoint().detail
    online(hub.url)
    found = endpoint()
    assert found.ok and found.detail == f"{hub.url}: answers (404)"
    monkeypatch.setattr(tkre_hf.doctor, "_TIMEOUT_S", 0.2)
    with socket.socket() as silent:  # takes the connection, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        online(f"http://127.0.0.1:{silent.getsockname()[1]}")
        found = endpoint()
    assert not found.ok and not found.required and "no answer within 0.2 s" in found.detail


@pytest.mark.parametrize("offline", [True, False])
def test_an_endpoint_is_shown_without_its_password(
    offline: bool,
    hub: Hub,  # noqa: F811
    online: Callable[[str], None],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    online(hub.url.replace("://", "://me:S3cret@"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    found = hub_checks()[0]
    assert found.detail.startswith(f"{hub.url}: ") and "S3cret" not in found.detail
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://me:S3cret@127.0.0.1:1")
    found = hub_checks()[0]
    assert found.detail.startswith("http://127.0.0.1:1: ") and "S3cret" not in found.detail


def test_it_works_where_packaging_is_missing() -> None:
    code = (
        "import sys\n"
        "sys.modules['packaging'] = sys.modules['packaging.requirements'] = None\n"
        "from tkre_hf.doctor import extra_checks, library_checks\n"
        "(check,) = library_checks()\n"
        "assert not check.ok and check.required and check.fix == 'pip install packaging'\n"
        "assert extra_checks() == []\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    login = hub_checks()[-1]
    assert (login.name, login.ok, login.detail, login.fix) == ("login", False, "no", "hf auth login")
