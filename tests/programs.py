"""Stand-ins for programs, which ask a warm process (``warm.py``) to be them and so start at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from . import warm

# Asks the warm process to be the program under whose name it is called, passes signals on, and ends as that one does,
# which may be by a signal.
_STAND_IN = """#!{python} -ISE
import json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
asked = dict(argv=[os.path.abspath(__file__), *sys.argv[1:]], cwd=os.getcwd(), env=dict(os.environ))
message = json.dumps(asked).encode() + b"\\n"
sent = socket.send_fds(connection, [message], [0, 1, 2])
connection.sendall(message[sent:])
answers = connection.makefile()
program = int(answers.readline())
for each in (signal.SIGINT, signal.SIGTERM):
    signal.signal(each, lambda number, _: os.kill(program, number))
code = int(answers.readline() or 1)
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Programs:
    """A folder of stand-ins, and the process that they ask.

    Args:
        folder: For both.
        environment: What the process has besides, and so the programs; some of it is read when a library is imported.
        small: What makes things small (``docs.small``), if anything does.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], *small: str) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        # Not there: a socket's address is a short one.
        self._sockets = Path(tempfile.mkdtemp(prefix="tkre-"))
        self._address, self._stranger = (self._sockets / name for name in ("warm", "warm-stranger"))
        for name in warm.PROGRAMS:
            program = self.bin / name
            address = self._stranger if name == "stranger" else self._address
            program.write_text(_STAND_IN.format(python=sys.executable, address=str(address)))
            program.chmod(0o755)
        # What a test that ran here before has left is not the programs'.
        inherited = {name: value for name, value in os.environ.items() if name != "ACCELERATE_MIXED_PRECISION"}
        self.environment = {
            **inherited,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path(warm.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **environment,
        }
        self._command = [sys.executable, "-P", warm.__file__, str(self._address), *small]

    def __enter__(self) -> Programs:
        # A session of its own, so that what it has started ends with it.
        self._process = subprocess.Popen(self._command, env=self.environment, start_new_session=True)
        end = time.monotonic() + 120
        try:
            while not (self._address.exists() and self._stranger.exists()):
                started = self._process.poll() is None and time.monotonic() < end
                assert started, "the warm process could not be started"
                time.sleep(0.05)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._sockets)
