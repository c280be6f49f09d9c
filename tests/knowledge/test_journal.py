from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tkre_hf.errors import TkreError
from tkre_hf.knowledge.backends import Answer
from tkre_hf.knowledge.journal import JsonLines, RunFolder, write_atomically

ROWS = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=12) | st.integers() | st.none(), max_size=3), max_size=8
)


@settings(max_examples=60)
@given(rows=ROWS, cut=st.integers(0, 200))
def test_what_a_cut_leaves_is_whole_rows_from_the_beginning(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("j") / "rows.jsonl"
    file = JsonLines(path)
    offsets = [file.append(row) for row in rows]
    file.close()
    content = path.read_bytes()
    path.write_bytes(content[: max(len(content) - cut, 0)])
    file = JsonLines(path)
    left = [row for _, row in file.read()]
    assert left == json.loads(json.dumps(rows))[: len(left)]
    assert content.startswith(path.read_bytes())
    assert [offset for offset, _ in file.read()] == offsets[: len(left)]
    assert file.append() == file.size == path.stat().st_size
    for offset, row in zip(offsets, left, strict=False):
        assert file.read_at(offset) == row
    file.append({"more": 1})
    assert [row for _, row in file.read()] == [*left, {"more": 1}]
    file.close()


class Disk:
    """A disk that is full after a number of bytes; ``os.ftruncate`` may fail on it too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room, self.stuck, self._write, self._ftruncate = room, False, os.write, os.ftruncate
        monkeypatch.setattr("tkre_hf.knowledge.journal.os.write", self.write)
        monkeypatch.setattr("tkre_hf.knowledge.journal.os.ftruncate", self.ftruncate)

    def write(self, file: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(file, data[: self.room])
        self.room -= written
        return written

    def ftruncate(self, file: int, size: int) -> None:
        if self.stuck:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._ftruncate(file, size)


@pytest.mark.parametrize("stuck", [False, True])
def test_a_full_disk_leaves_whole_rows(tmp_path: Path, stuck: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    file = JsonLines(path)
    disk = Disk(monkeypatch, room=20)
    file.append({"a": 1})
    disk.stuck = stuck
    for _ in range(2):
        with pytest.raises(TkreError, match=r"cannot write to .*rows\.jsonl: "):
            file.append({"b": "too long for what is left"}, {"c": 3})
    disk.room, disk.stuck = 1000, False
    assert file.append({"d": 4}) == len('{"a": 1}\n')
    file.close()
    assert path.read_text() == '{"a": 1}\n{"d": 4}\n'
    assert [row for _, row in JsonLines(path).read()] == [{"a": 1}, {"d": 4}]


def test_a_folder_lets_go_of_its_lock_though_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    folder = RunFolder(tmp_path, {})
    folder.keep("k", "job", 0, Answer("words"))
    with monkeypatch.context() as broken:
        broken.setattr("tkre_hf.knowledge.journal.os.fsync", fail)
        with pytest.raises(TkreError, match=r"cannot write to .*answers\.jsonl"):
            folder.close()
        with pytest.raises(TkreError, match=r"cannot write to .*report\.md"):
            write_atomically(tmp_path / "report.md", "text")
    assert not list(tmp_path.glob(".report*"))
    folder = RunFolder(tmp_path, {})
    assert folder.answer("k") == Answer("words")
    folder.close()


def test_a_lone_surrogate_survives(tmp_path: Path) -> None:
    file = JsonLines(tmp_path / "rows.jsonl")
    file.append({"text": "a\ud800b é"})
    assert [row for _, row in file.read()] == [{"text": "a\ud800b é"}]
    file.close()


def test_a_foreign_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"key": "a", "failed": "x"}\nhello\n')
    with pytest.raises(TkreError, match=r"answers\.jsonl, line 2: no JSON object"):
        RunFolder(tmp_path, {})
    # The lock went with the error.
    (tmp_path / "answers.jsonl").unlink()
    RunFolder(tmp_path, {}).close()


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    code = (
        "from tkre_hf.knowledge.journal import RunFolder\n"
        f"held = RunFolder({str(tmp_path)!r}, {{}})\nprint(1, flush=True)\ninput()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert other.stdout is not None and other.stdout.readline()
    with pytest.raises(TkreError, match="another process works in"):
        RunFolder(tmp_path, {})
    other.send_signal(signal.SIGKILL)
    other.communicate()
    for _ in range(100):
        try:
            RunFolder(tmp_path, {}).close()
            break
        except TkreError:
            time.sleep(0.01)
    else:
        pytest.fail("a killed process still holds the folder")


def test_a_folder_is_gone_on_with_under_the_same_settings(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"model": "a", "seed": 1}).close()
    RunFolder(tmp_path, {"model": "a", "seed": 1}).close()
    with pytest.raises(TkreError, match="holds a run with another model, seed"):
        RunFolder(tmp_path, {"model": "b"})
    (tmp_path / "file").write_text("")
    with pytest.raises(TkreError, match="cannot write to"):
        RunFolder(tmp_path / "file" / "run", {})


def test_answers_are_found_by_their_keys(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    folder.keep("k1", "job", 0, Answer("words", "length", 3, 4))
    folder.keep("k2", "job", 1, "no answer")
    folder.close()
    folder = RunFolder(tmp_path, {})
    assert folder.answer("k1") == Answer("words", "length")
    assert folder.answer("k2") == "no answer" and folder.answer("k3") is None
    folder.close()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
