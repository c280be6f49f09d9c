"""A terminal for a newcomer to follow a page in: bash, and an interpreter for the page's Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from ..hub.server import Hub
from ..programs import Programs


class Terminal:
    """Runs blocks in a folder.

    Args:
        folder: For what the terminal itself needs.
        backbone: The tiny encoder that ``minilm`` is.
        data: Folder of the files that are downloaded as FewRel's, and of a part of the bundled corpus.
        port: Where ``tkre serve`` listens unless it is told otherwise.
        hub: The Hub, for those who aren't offline.
    """

    def __init__(self, folder: Path, backbone: Path, data: Path, port: int, hub: Hub) -> None:
        self.folder, self.hub = folder, hub
        home = folder / "home"
        home.mkdir(parents=True)
        environment = {name: value for name, value in hub.environment().items() if name != "HF_TOKEN"}
        environment |= {"HOME": str(home), "HF_HOME": str(home / "huggingface"), "HF_HUB_OFFLINE": "1"}
        self.programs = Programs(folder, environment, str(backbone), str(data), str(port))
        self.environment, self.bin = self.programs.environment, self.programs.bin

    def __enter__(self) -> Terminal:
        self.programs.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.programs.__exit__(kind, error, trace)

    def bash(self, text: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """Runs a block of shell; gives its exit code, what it printed, and what it wrote to the error stream."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def serving(self, text: str, folder: Path, address: str) -> Iterator[None]:
        """Runs a block of shell that serves at an address until it is stopped, which Ctrl+C does at the end."""
        log = folder / ".served.txt"
        with log.open("w") as printed:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            assert answers(address, process), f"nothing answers at {address}:\n{text}\n{log.read_text()}"
            yield
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            code = process.wait(60)
        # It may answer a moment before it takes Ctrl+C for its end, and then it ends as what is interrupted.
        assert code in (0, 128 + signal.SIGINT), f"stopped, it ended with {code}:\n{text}\n{log.read_text()}"

    def python(self, folder: Path, program: str = "session") -> Interpreter:
        """An interpreter in a folder; a ``stranger`` has no tkre_hf."""
        return Interpreter(self, folder, program)


def answers(address: str, process: subprocess.Popen[bytes]) -> bool:
    """Whether a process comes to answer at its address."""
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=30):
                return True
        except OSError:
            time.sleep(0.1)
    return False


class Interpreter:
    """Python in which one block knows what the blocks before it have named."""

    def __init__(self, terminal: Terminal, folder: Path, program: str) -> None:
        self.folder = folder
        self._block, self._errors = folder / ".block.py", (folder / ".errors.txt").open("a+")
        self._process = subprocess.Popen(
            [str(terminal.bin / program)],
            cwd=folder,
            env=terminal.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._errors.close()

    def run(self, text: str, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """Runs a block; gives its exit code, what it printed, and what it wrote to the error stream."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._block.write_text(text, encoding="utf-8")
        start = self._errors.seek(0, os.SEEK_END)
        self._process.stdin.write(json.dumps({"file": str(self._block), "env": dict(environment)}) + "\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            before, end, code = line.partition("\0")
            printed += before
            if end:
                self._errors.seek(start)
                return int(code), printed, self._errors.read()
        raise AssertionError(f"the interpreter died:\n{printed}\n{self._errors.read()}")
