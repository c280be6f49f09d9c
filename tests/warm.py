"""Programs that start at once: one process imports torch and transformers, and each command is a fork of it.

A newcomer's page has dozens of commands, and what is killed and resumed or launched on two processes starts a dozen:
each would spend ten seconds on imports. What stands in a ``bin`` (``programs.py``) under the names ``python``,
``tkre``, ``hf``, ``accelerate`` and ``pip`` hands its arguments, folder, environment and streams to this process,
whose fork does what the program of that name would do. A ``stranger`` is another process' fork, which came away before
tkre_hf was imported and can't import it.

``python warm.py ADDRESS``; what follows is handed to ``docs.small.make_small``.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "gradio",
    "matplotlib.figure",
    "optuna",
    "peft",
    "sklearn.linear_model",
    "torch.distributed",
    "accelerate.commands.launch",
    "huggingface_hub.cli.hf",
    "transformers.models.auto.modeling_auto",
)
PRELOADED = (
    "tkre_hf.cli",
    "tkre_hf.demo",
    "tkre_hf.hin_tasks",
    "tkre_hf.kshot",
    "tkre_hf.training_cli",
    "tkre_hf.evaluation.cli",
    "tkre_hf.evaluation.metrics",
    "tkre_hf.knowledge.inference",
    "tkre_hf.knowledge.retrieve",
    "tkre_hf.serve.app",
)


def python(argv: Sequence[str]) -> None:
    """``python``, with a module, a command, a script or a standard input to run."""
    words = [word for word in argv if word != "-u"] if argv[:1] == ["-u"] else list(argv)
    if words[:1] == ["-m"]:
        sys.argv, sys.path[:0] = words[1:], [os.getcwd()]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif not words or words[0] in ("-c", "-"):
        sys.argv, sys.path[:0] = words[:1], [os.getcwd()]
        code = words[1] if words[:1] == ["-c"] else sys.stdin.read()
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[:0] = words, [os.path.dirname(os.path.abspath(words[0]))]
        runpy.run_path(words[0], run_name="__main__")


def tkre(argv: Sequence[str]) -> None:
    """The project's own command line."""
    from tkre_hf.cli import main

    raise SystemExit(main(argv))


def accelerate(argv: Sequence[str]) -> None:
    """The launcher itself; the processes it starts are forks too, for it starts what ``sys.executable`` names."""
    from accelerate.commands.accelerate_cli import main

    sys.argv = ["accelerate", *argv]
    main()


def pip(argv: Sequence[str]) -> None:
    """Installs nothing, but what is asked for must be there to be had: the project, and extras that it has."""
    from packaging.requirements import Requirement

    words = [word for word in argv if not word.startswith("-")]
    assert words.pop(0) == "install"
    extras = metadata("tkre-hf").get_all("Provides-Extra") or []
    for word in words:
        wanted = Requirement(word.replace(".", "tkre-hf", 1) if word.startswith(".") else word)
        assert wanted.name == "tkre-hf" and wanted.extras <= set(extras), f"there is no {word}"


def hf(argv: Sequence[str]) -> None:
    """The Hub's command line."""
    from huggingface_hub.cli.hf import main

    sys.argv = ["hf", *argv]
    main()


def session(_: Sequence[str]) -> None:
    """An interpreter for one block after the other: a line names a block's file and what its environment has besides,
    and is answered by an exit code."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for line in sys.stdin:
        asked = json.loads(line)
        os.environ.update(asked["env"])
        heed_environment()
        code = call(lambda file: exec(compile(file.read_text(), file.name, "exec"), names), Path(asked["file"]))
        sys.stderr.flush()
        print(f"\0{code}", flush=True)


def stranger(argv: Sequence[str]) -> None:
    """An interpreter where tkre_hf isn't installed."""
    session(argv)


PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    program.__name__: program for program in (python, tkre, hf, accelerate, pip, session, stranger)
}


def heed_environment() -> None:
    """What libraries read of the environment when they are imported: whether it is offline, which the Hub's client and
    transformers 4 do, and up to hub 0.x a session is kept as it was made (it forbids the loopback interface as well);
    and where datasets keeps what it has read."""
    client: Any = import_module("huggingface_hub")
    transformers_hub: Any = import_module("transformers.utils.hub")
    client.constants.HF_HUB_OFFLINE = transformers_hub._is_offline_mode = os.environ.get("HF_HUB_OFFLINE") == "1"
    getattr(client.utils._http, "reset_sessions", lambda: None)()
    if cache := os.environ.get("HF_DATASETS_CACHE"):
        import_module("datasets").config.HF_DATASETS_CACHE = Path(cache)


def call(program: Callable[[Any], None], argument: Any) -> int:
    """A program's exit code."""
    try:
        program(argument)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def answer(connection: socket.socket) -> None:
    """Has a fork do what a program's stand-in has asked for, and tells how it ended; it ends with the stand-in."""
    message, streams, *_ = socket.recv_fds(connection, 1 << 16, 3)
    while not message.endswith(b"\n"):
        more = connection.recv(1 << 16)
        if not more:
            return
        message += more
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (program := os.fork()) == 0:
        connection.close()
        os._exit(become(json.loads(message), streams) & 0xFF)
    for stream in streams:
        os.close(stream)
    connection.sendall(b"%d\n" % program)
    ended, status = 0, 0
    while not ended:
        is_gone, _, _ = select.select([connection], [], [], 0.02)
        if is_gone:
            os.kill(program, signal.SIGKILL)
        ended, status = os.waitpid(program, 0 if is_gone else os.WNOHANG)
    connection.sendall(b"%d" % os.waitstatus_to_exitcode(status))


def become(asked: dict[str, Any], streams: Sequence[int]) -> int:
    """Does in this fork what was asked for; gives its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    heed_environment()
    program = Path(asked["argv"][0])
    sys.executable = str(program.with_name("python"))
    code = call(PROGRAMS[program.name], asked["argv"][1:])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def serve(address: str, parent: int) -> None:
    """Answers until it is stopped, or whoever started it is gone."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.part")
        server.listen(64)
        server.settimeout(5)
        # It has this name once there is somebody to answer.
        os.rename(f"{address}.part", address)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while os.getppid() == parent:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                server.close()
                with suppress(OSError):
                    answer(connection)
                os._exit(0)
            connection.close()


def preload(modules: Sequence[str]) -> None:
    """Imports what is there; the garbage is then collected and what is left is none, for the Trainer has it collected
    again and again."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            # An extra that isn't installed: who needs it says so.
            if (error.name or "").startswith("tkre_hf"):
                raise
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    starter, me = os.getppid(), os.getpid()
    preload(LIBRARIES)
    if os.fork() == 0:
        assert not [name for name in sys.modules if name.partition(".")[0] == "tkre_hf"]
        sys.modules["tkre_hf"] = None  # type: ignore[assignment]
        serve(f"{sys.argv[1]}-stranger", me)
        os._exit(0)
    preload(PRELOADED)
    if sys.argv[2:]:
        import_module("tests.docs.small").make_small(*sys.argv[2:])
    gc.freeze()
    serve(sys.argv[1], starter)
