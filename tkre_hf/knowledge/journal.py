"""What a run has done so far, on disk: so that a run killed at any moment goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tkre_hf.data.schema import Record
from tkre_hf.errors import TkreError
from tkre_hf.knowledge.backends import PLAIN_PROMPT, Answer

# Windows would write each line break as two bytes.
_BINARY: int = getattr(os, "O_BINARY", 0)

_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


class JsonLines:
    """A file of JSON lines that only grows.

    A line is written by one system call, so a killed process leaves whole lines and at most one torn one at the end;
    opening the file cuts that off, and so does the next row after a disk was full.

    Args:
        path: The file; made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY, 0o644)
        self.size = self._whole_lines(os.fstat(self._file).st_size)
        os.ftruncate(self._file, self.size)
        self._synced = self.size
        self._torn = False

    def _whole_lines(self, size: int) -> int:
        """The number of bytes up to and with the last line break."""
        end = size
        while end > 0:
            start = max(0, end - 2**16)
            os.lseek(self._file, start, os.SEEK_SET)
            newline = os.read(self._file, end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def append(self, *rows: Mapping[str, Any]) -> int:
        """Writes rows and returns the offset of the first; they are on the disk after the next ``sync``.

        Raises:
            TkreError: The disk is full or broken; the file is as it was before.
        """
        if not rows:
            return self.size
        # A lone surrogate, which JSON can spell and UTF-8 can't, becomes its JSON escape again.
        text = "".join(_ENCODER.encode(row) + "\n" for row in rows)
        data = text.encode("utf-8", "backslashreplace")
        offset, view = self.size, memoryview(data)
        try:
            self._cut()
            self._torn = True
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            # Of a line that fits in part nothing may stay, or the next one is glued to it.
            with contextlib.suppress(OSError):
                self._cut()
            raise _cannot_write(self.path, error) from None
        self._torn = False
        self.size += len(data)
        return offset

    def _cut(self) -> None:
        if self._torn:
            os.ftruncate(self._file, self.size)
            self._torn = False

    def sync(self) -> None:
        """Waits until what was appended is on the disk.

        Raises:
            TkreError: It can't be written there.
        """
        size = self.size
        if size != self._synced:
            try:
                os.fsync(self._file)
            except OSError as error:
                raise _cannot_write(self.path, error) from None
            self._synced = size

    def read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every row with its offset, one at a time.

        Raises:
            TkreError: A line is no JSON object: something else wrote into the file.
        """
        offset = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield offset, self._parse(line, number)
                offset += len(line)

    def read_at(self, offset: int) -> dict[str, Any]:
        """The row that begins at an offset."""
        with self.path.open("rb") as lines:
            lines.seek(offset)
            return self._parse(lines.readline(), f"at byte {offset}")

    def _parse(self, line: bytes, place: int | str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise TkreError(f"{self.path}, line {place}: no JSON object; the file was changed by something else")
        return row

    def close(self) -> None:
        try:
            self.sync()
        finally:
            os.close(self._file)


@dataclass
class Processed:
    """What became of one answer so far: whether each of its candidates, by number, was accepted."""

    of: int
    accepted: dict[int, bool] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return len(self.accepted) == self.of


class RunFolder:
    """The files of one run.

    ``answers.jsonl`` holds what the model said, as it arrived; ``records.jsonl`` the records and ``rejected.jsonl``
    the refused candidates with the reason, in the order of the requests; ``run.json`` the settings that the answers
    depend on. All but the last only grow. Every row names the request it comes from by its key, so after a kill each
    candidate of each answer is known to be written or not.

    Args:
        path: The folder; made if it is missing.
        settings: What a resumed run must have in common with this one.

    Raises:
        TkreError: Another process works in the folder, or it holds a run of other settings.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._lock = lock_folder(self.path)
        try:
            keep_settings(self.path, settings)
            self.answers = JsonLines(self.path / "answers.jsonl")
            self.records = JsonLines(self.path / "records.jsonl")
            self.rejected = JsonLines(self.path / "rejected.jsonl")
            self._read()
        except BaseException:
            self._lock.release()
            raise

    def _read(self) -> None:
        self._offsets: dict[str, int] = {row["key"]: offset for offset, row in self.answers.read()}
        self.processed: dict[str, Processed] = {}
        self.reasons: Counter[tuple[str, str]] = Counter()
        for _, row in self.records.read():
            key, index, of = (row["provenance"][name] for name in ("request", "index", "of"))
            self.processed.setdefault(key, Processed(of)).accepted[index] = True
            self.reasons[row["relation"], "accepted"] += 1
        for _, row in self.rejected.read():
            self.processed.setdefault(row["request"], Processed(row["of"])).accepted[row["index"]] = False
            self.reasons[row["relation"], row["reason"]] += 1

    def earlier_records(self) -> Iterator[Record]:
        """The records written before this run."""
        return (row for _, row in self.records.read())

    def answer(self, key: str) -> Answer | str | None:
        """The answer to a request, the reason why it failed, or None when it was not answered yet."""
        if key not in self._offsets:
            # Rows on the disk whose answer is not can only be the trace of a power cut: the request was answered.
            return Answer("") if key in self.processed and self.processed[key].whole else None
        row = self.answers.read_at(self._offsets[key])
        return row["failed"] if "failed" in row else Answer(row["text"], row["finish"])

    def keep(self, key: str, job: str, attempt: int, outcome: Answer | str, prompt_format: str = PLAIN_PROMPT) -> None:
        """Appends an answer, or the reason why there will be none."""
        row: dict[str, Any] = {"key": key, "job": job, "attempt": attempt}
        if prompt_format != PLAIN_PROMPT:
            # By which the answer is found again where it is replayed.
            row["prompt_format"] = prompt_format
        if isinstance(outcome, str):
            row["failed"] = outcome
        else:
            row |= {"text": outcome.text, "finish": outcome.finish}
            row["tokens"] = [outcome.prompt_tokens, outcome.completion_tokens]
        self.answers.append(row)

    def write(self, relation: str, accepted: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> None:
        """Appends what became of one answer's candidates."""
        self.records.append(*accepted)
        self.rejected.append(*rejected)
        self.reasons[relation, "accepted"] += len(accepted)
        for row in rejected:
            self.reasons[relation, row["reason"]] += 1

    def sync(self) -> None:
        """Waits until every row is on the disk; answers first, since the others follow from them."""
        for file in (self.answers, self.records, self.rejected):
            file.sync()

    async def sync_forever(self) -> None:
        """Syncs again and again in a thread, so that no request waits for the disk."""
        while True:
            await asyncio.to_thread(self.sync)
            await asyncio.sleep(0.1)

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.release)
            for file in (self.rejected, self.records, self.answers):
                stack.callback(file.close)


def lock_folder(path: Path) -> FileLock:
    """Keeps other processes out of a folder, which is made if it is missing.

    Raises:
        TkreError: Another process works in it, or it can't be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise TkreError(f"another process works in {path}: wait for it, or choose another folder") from None
    except OSError as error:
        raise TkreError(f"cannot write to {path}: {error}") from None
    return lock


def keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes what a run depends on into its folder's ``run.json``, or compares it with what stands there.

    Raises:
        TkreError: The folder holds a run of other settings.
    """
    file = path / "run.json"
    if not file.exists():
        # Renamed into place, so that it is there whole or not at all.
        write_atomically(file, json.dumps(dict(settings), indent=2, ensure_ascii=False) + "\n")
        return
    earlier = json.loads(file.read_text(encoding="utf-8"))
    changed = [name for name in {**earlier, **settings} if earlier.get(name) != settings.get(name)]
    if changed:
        raise TkreError(
            f"{path} holds a run with another {', '.join(changed)}: choose another folder, or the same settings"
        )


def write_atomically(path: Path, text: str) -> None:
    """Writes a file so that a reader finds the old text or the new one, whatever happens.

    Raises:
        TkreError: The disk is full or broken; the old text is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # As in the rows: what UTF-8 can't spell becomes its escape.
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> TkreError:
    return TkreError(f"cannot write to {path}: {error.strerror or error}")
