"""A stand-in ends as the program that it stands for, and that one with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .programs import Programs


def start(programs: Programs, code: str) -> subprocess.Popen[str]:
    command = [programs.bin / "python", "-c", code]
    return subprocess.Popen(command, env=programs.environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("print('done')", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os._exit(4)", 4),
        *((f"import os; os.kill(os.getpid(), {int(kind)})", -kind) for kind in (signal.SIGKILL, signal.SIGSEGV)),
    ],
)
def test_how_it_ends(programs: Programs, code: str, ends: int) -> None:
    process = start(programs, code)
    printed, _ = process.communicate(timeout=60)
    assert (process.returncode, printed) == (ends, "done\n" if not ends else "")


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_who_ends_it_ends_the_program(programs: Programs, kind: signal.Signals) -> None:
    process = start(programs, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    assert process.stdout is not None
    program = int(process.stdout.readline())
    assert program != process.pid
    process.send_signal(kind)
    process.communicate(timeout=60)
    assert process.returncode == -kind
    end = time.monotonic() + 60
    while is_running(program):
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_ends_where_it_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(tmp_path, {})
    monkeypatch.setattr(programs, "_command", ["false"])
    with pytest.raises(AssertionError, match="could not be started"), programs:
        pass
    assert not programs._sockets.exists()
