"""``tkre doctor``: what is installed, what the machine can do, and whether the Hub answers.

It has to work where the libraries are missing or broken, so it imports them one by one, and parses its own arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tkre_hf.parsing import CommandParser
from tkre_hf.places import without_login

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PACKAGE = "tkre-hf"
# Extras for those who work on the project itself.
_NOT_FOR_USERS = ("dev",)
_TIMEOUT_S = 3.0
# A processor's own bfloat16, as Linux names it.
_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Args:
        group: What it is about: ``libraries``, ``extras``, ``devices`` or ``hub``.
        name: What was looked at.
        ok: Whether it is as it should be; what only tells something is always.
        detail: What was found.
        required: Whether nothing works without it.
        fix: The command that mends it.
    """

    group: str
    name: str
    ok: bool
    detail: str
    required: bool = False
    fix: str = ""


def library_checks(requirements: Sequence[str] | None = None) -> list[Check]:
    """Python and the libraries, against what the package's metadata ask for.

    Args:
        requirements: In the form of PEP 508; those of the installed package by default.
    """
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError as error:
        detail = f"can't be imported: {error}; without it no version can be told from another"
        return [Check("libraries", "packaging", False, detail, True, "pip install packaging")]
    if requirements is None:
        try:
            about = metadata.metadata(_PACKAGE)
        except metadata.PackageNotFoundError:
            missing = "runs from its sources and is not installed"
            return [Check("libraries", _PACKAGE, False, missing, True, "pip install -e .")]
        version = about["Requires-Python"] or ""
        fits = SpecifierSet(version).contains(platform.python_version())
        found = [Check("libraries", "python", fits, f"{platform.python_version()} (needs {version})", True)]
        requirements = about.get_all("Requires-Dist") or []
    else:
        found = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            ok, detail = _installed(requirement)
            fix = "" if ok else f"pip install '{requirement.name}{requirement.specifier}'"
            found.append(Check("libraries", requirement.name, ok, detail, True, fix))
    return found


def extra_checks() -> list[Check]:
    """Each extra, by whether all its packages are there."""
    try:
        from packaging.requirements import Requirement

        about = metadata.metadata(_PACKAGE)
    except (ImportError, metadata.PackageNotFoundError):
        return []
    requirements = [Requirement(text) for text in about.get_all("Requires-Dist") or []]
    found = []
    for extra in about.get_all("Provides-Extra") or []:
        if extra in _NOT_FOR_USERS:
            continue
        own = [
            entry
            for entry in requirements
            if entry.marker is not None
            and entry.marker.evaluate({"extra": extra})
            and not entry.marker.evaluate({"extra": ""})
        ]
        parts = {entry.name: _installed(entry) for entry in own}
        wrong = [f"{name}: {detail}" for name, (ok, detail) in parts.items() if not ok]
        detail = "; ".join(wrong) if wrong else ", ".join(f"{name} {text}" for name, (_, text) in parts.items())
        fix = f"pip install '{_PACKAGE}[{extra}]'" if wrong else ""
        found.append(Check("extras", f"[{extra}]", not wrong, detail, fix=fix))
    return found


def _installed(requirement: Requirement) -> tuple[bool, str]:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False, f"not installed (needs {requirement.specifier or 'any version'})"
    if not requirement.specifier.contains(version, prereleases=True):
        return False, f"{version}, which isn't {requirement.specifier}"
    return True, version


def device_checks() -> list[Check]:
    """What models run on, and whether in bfloat16."""
    flags = _cpu_flags()
    native = [flag for flag in _BF16_FLAGS if flag in flags]
    try:
        import torch

        from tkre_hf.precision import bf16_supported
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return [
            Check(
                "devices", "torch", False, f"can't be imported: {reason}", True, "pip install --force-reinstall torch"
            )
        ]
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    by = f" ({', '.join(native)})" if native else ""
    bf16 = f"bfloat16{by}" if bf16_supported(use_cpu=True) else f"no bfloat16 of its own{by}: float32 is used"
    found = [Check("devices", "cpu", True, f"{cores}; {bf16}")]
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        with torch.cuda.device(i):
            able = "bfloat16" if bf16_supported() else "no bfloat16"
        found.append(
            Check("devices", f"cuda:{i}", True, f"{about.name}, {about.total_memory / 2**30:.0f} GiB; {able}")
        )
    if torch.backends.mps.is_available():
        found.append(Check("devices", "mps", True, "Apple's GPU"))
    if len(found) == 1:
        found.append(Check("devices", "gpu", True, "none: models run on the processor"))
    return found


def _cpu_flags() -> frozenset[str]:
    """What the processor can do, as Linux tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    named = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(named.partition(":")[2].split())


def hub_checks() -> list[Check]:
    """Whether the Hub answers, and whether somebody is logged in; the token is never shown."""
    try:
        from huggingface_hub import constants, get_token
        from huggingface_hub.utils import get_session  # type: ignore[attr-defined]
    except ImportError as error:
        return [
            Check("hub", "huggingface_hub", False, f"can't be imported: {error}", True, "pip install huggingface-hub")
        ]
    if constants.HF_HUB_OFFLINE:
        shown = without_login(constants.ENDPOINT)
        found = [Check("hub", "endpoint", True, f"{shown}: not asked, offline mode is on (HF_HUB_OFFLINE)")]
    else:
        found = [_reach(constants.ENDPOINT, get_session())]
    login = get_token() is not None
    found.append(Check("hub", "login", login, "yes" if login else "no", fix="" if login else "hf auth login"))
    return found


def _reach(endpoint: str, session: Any) -> Check:
    shown = without_login(endpoint)
    try:
        # Any answer will do, one that refuses too.
        status = session.head(endpoint, timeout=_TIMEOUT_S).status_code
    except Exception as error:  # of requests or httpx, whichever the installed huggingface_hub has
        detail = f"{shown}: no answer within {_TIMEOUT_S:g} s ({type(error).__name__})"
        return Check("hub", "endpoint", False, detail, fix="look to the network, or to HF_ENDPOINT")
    return Check("hub", "endpoint", True, f"{shown}: answers ({status})")


def examine() -> list[Check]:
    """All checks."""
    return [*library_checks(), *extra_checks(), *device_checks(), *hub_checks()]


def main(argv: Sequence[str], prog: str = "tkre doctor") -> int:
    """Reports.

    Returns:
        0 if all that is required is fine, else 1.
    """
    parser = CommandParser(
        prog=prog,
        description="Tells the versions of the libraries against what is required, what models run on, whether the\n"
        "Hub answers and somebody is logged in, and which extras are installed. Ends with 0 if all that is required\n"
        f"is fine, else with 1; nothing need be given.\n\n{prog} --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.accept_debug()
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    args = parser.parse_args(argv)
    checks = examine()
    fine = all(check.ok for check in checks if check.required)
    if args.json:
        print(json.dumps({"ok": fine, "checks": [asdict(check) for check in checks]}, indent=1))
        return 0 if fine else 1
    width = max(len(check.name) for check in checks)
    for group in dict.fromkeys(check.group for check in checks):
        print(group)
        for check in (check for check in checks if check.group == group):
            sign = "ok" if check.ok else "MISSING" if check.required else "-"
            print(f"  {sign:<7}  {check.name.ljust(width)}  {check.detail}{f'  →  {check.fix}' if check.fix else ''}")
    print("all that is required is fine" if fine else "something that is required is wrong", file=sys.stdout)
    return 0 if fine else 1
