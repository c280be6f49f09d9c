"""Who answers: one small asynchronous interface, the faults it may report, and answers replayed from a file."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.knowledge.align import clean_text, fold
from tkre_hf.knowledge.prompts import Message

logger = logging.getLogger(__name__)

API_KEY_VARIABLE = "TKRE_API_KEY"
# What a prompt looks like to a model that is shown the messages as they are.
PLAIN_PROMPT = "{prompt}"
# In bytes; a token may come with its probability and its neighbours, so an answer is far smaller than its JSON.
_MAX_BODY = 64 * 2**20
# Hosts that the token of `hf auth login` is meant for; nobody else is sent it.
_HUB_HOSTS = ("huggingface.co", "hf.co", "huggingface.cloud", "hf.space")


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn.

    Attributes:
        max_tokens: The most tokens of an answer.
        temperature: 0 for the likeliest answer.
        top_p: The probability mass drawn from; 1 for all.
        seed: The attempt's number is added to it, so that a second try asks for something new.
    """

    max_tokens: int = 1024
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """One question to the language model.

    Attributes:
        job: What it is for: a labelled row's id, or a relation.
        attempt: How many times the job has asked before.
        relation: The relation's label.
        messages: The prompt as chat messages.
        json_schema: The shape of the answer.
        sampling: How it is drawn; its seed is this attempt's own.
        count: How many rows are asked for.
        offset: How many the job has asked for before.
        about: What a recorded answer is found by: ``row``, ``head`` and ``tail`` of a labelled row.
    """

    job: str
    attempt: int
    relation: str
    messages: list[Message]
    json_schema: dict[str, Any]
    sampling: Sampling
    count: int = 1
    offset: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    def key(self, model: str, prompt_format: str = PLAIN_PROMPT) -> str:
        """The hash under which the answer is kept: of everything the answer depends on, not of who serves it."""
        parts = [self.job, self.attempt, model, self.messages, self.json_schema, vars(self.sampling)]
        if prompt_format != PLAIN_PROMPT:
            # Only then, so that the same messages have the same key whatever client sends them.
            parts.append(prompt_format)
        # As repr and not as JSON: all of it is made here, key by key in one order, and this is asked for each request.
        return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]

    def prompt_chars(self) -> int:
        """How long the prompt is, for estimates."""
        return sum(len(message["content"]) for message in self.messages)


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: The model's words.
        finish: Why it ended: ``stop``, or ``length`` when it was cut off.
        prompt_tokens: As the server counted them, or None. ``completion_tokens`` likewise.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Backend(Protocol):
    """A language model, wherever it runs.

    ``model`` names it in each record's provenance. One that is sent the prompt within other words has them as
    ``prompt_format``, since the answer depends on them.
    """

    model: str

    async def complete(self, request: Request) -> Answer:
        """Answers one request.

        Raises:
            UnconstrainedError: The server doesn't know the constraint; the backend sends none from here on, so the
                same request may succeed at once.
            TransientError: The same request may succeed later.
            RefusedError: This request will never be answered; others may be.
            TkreError: No request will be answered; the run stops.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections and threads."""
        ...


class TransientError(Exception):
    """A fault that may pass: a timeout, a full server, a broken connection.

    Args:
        reason: What happened, without any secret.
        retry_after: The seconds the server asked to wait, or None.
        spent: Whether the server may have written an answer all the same, as after a timeout.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, spent: bool = False) -> None:
        super().__init__(reason)
        self.retry_after, self.spent = retry_after, spent


class RefusedError(Exception):
    """A request that is at fault itself, such as one too long for the model."""


class UnconstrainedError(Exception):
    """The server doesn't know the constraint; the same request without it may be answered."""


_NO_CONSTRAINT = re.compile(r"response_format|json_schema|json_object|grammar|guided|structured.?output", re.I)


def one_line(text: str) -> str:
    """What a server or a library said, as a short line that every file and terminal takes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())[:300]


def raise_for_status(status: int, reason: str, retry_after: str | None, where: str) -> None:
    """Sorts an HTTP error by what can be done about it.

    Args:
        status: The HTTP status; 200 to 299 is no error.
        reason: What the server said.
        retry_after: The ``Retry-After`` header, in seconds or as a date.
        where: The server, for the message.

    Raises:
        TransientError: 408, 409, 425, 429 and 5xx.
        UnconstrainedError: 400, 422 or 501 that speaks of the constraint.
        RefusedError: Any other 4xx that concerns the request alone.
        TkreError: 401, 402, 403 and 404, which concern every request.
    """
    if status < 300:
        return
    reason = one_line(reason) or "no reason given"
    if status in (400, 422, 501) and _NO_CONSTRAINT.search(reason):
        raise UnconstrainedError(reason)
    if status in (408, 409, 425, 429) or status >= 500:
        raise TransientError(f"{status}: {reason}", parse_retry_after(retry_after))
    advice = {
        401: f"the server wants a token: set {API_KEY_VARIABLE}, or for the Hub log in with `hf auth login`",
        402: "the account has no credit left",
        403: "the token has no right to this model",
        404: "there is no such model or route: check --model and --base-url",
    }
    if status in advice:
        raise TkreError(f"{where} answered {status} ({reason}): {advice[status]}")
    raise RefusedError(f"{status}: {reason}")


def parse_retry_after(value: str | None) -> float | None:
    """The seconds a ``Retry-After`` header asks to wait (RFC 9110, 10.2.3: seconds or a date); None without one."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    if date.tzinfo is None:
        # HTTP knows no other time; not every server says so.
        date = date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)


def public_url(url: str) -> str:
    """A URL without user, password and query, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))


def find_token(url: str | None) -> str | None:
    """The API token for a server: ``TKRE_API_KEY``, or the Hub's own login for the Hub's own hosts.

    Args:
        url: The server; None for providers reached through the Hub.

    Raises:
        TkreError: The token holds what no header can: a client's error would repeat it.
    """
    if token := _checked(os.environ.get(API_KEY_VARIABLE), API_KEY_VARIABLE):
        return token
    host = urlsplit(url).hostname or "" if url else "huggingface.co"
    if any(host == known or host.endswith("." + known) for known in _HUB_HOSTS):
        from huggingface_hub import get_token

        return _checked(get_token(), "`hf auth login`")
    return None


def _checked(token: str | None, source: str) -> str | None:
    # A secret that is mounted as a file often ends with a line break.
    token = (token or "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise TkreError(f"the token of {source} holds a space, a line break or a letter that no token has")
    return token or None


async def get_json(url: str, token: str | None) -> Any:
    """What a server says at a URL, or None where it has no such route or no answer."""
    import aiohttp

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(url, headers=headers) as response,
        ):
            return await response.json() if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


async def read_body(response: Any) -> bytes:
    """The body of a response, up to a size that no answer has.

    Raises:
        ValueError: It goes on.
    """
    content = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        content += chunk
        if len(content) > _MAX_BODY:
            raise ValueError(f"longer than {_MAX_BODY} bytes")
    return bytes(content)


def error_message(body: bytes) -> str:
    """What a server says in the body of an error: ``error``, as a string or an object with a message, or all of it."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
    message = payload.get("error", payload) if isinstance(payload, dict) else payload
    return str(message.get("message", message) if isinstance(message, dict) else message)


class Redactor:
    """Takes secrets out of text before it reaches a file, a log or an error.

    Args:
        secrets: The strings that may not appear; None and "" are no secrets.
    """

    def __init__(self, *secrets: str | None) -> None:
        # A library names a value as it was given, without its edges, or with the escapes of a literal.
        forms = {
            form
            for secret in secrets
            if secret
            for form in (
                secret,
                secret.strip(),
                repr(secret)[1:-1],
                repr(secret.encode("utf-8", "backslashreplace"))[2:-1],
                json.dumps(secret)[1:-1],
            )
        }
        # The longest first: of a form that holds another, no rest may stay.
        self.secrets = sorted(filter(None, forms), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "[token]")
        return text


class Constraint:
    """Asks a server for answers under a JSON schema, until it turns out not to know how; then without.

    Args:
        where: The server, for the warning.
        redact: Takes secrets out of what the server said.
    """

    def __init__(self, where: str, redact: Redactor) -> None:
        self.known, self._where, self._redact = True, where, redact

    async def ask(self, send: Callable[[bool], Awaitable[Answer]]) -> Answer:
        """Sends a request once: to send it again is up to the caller, who counts what is sent.

        Args:
            send: Sends it, with the constraint or without.

        Raises:
            UnconstrainedError: The server refuses the constraint; from here on requests are sent without it.
        """
        constrained = self.known
        try:
            return await send(constrained)
        except UnconstrainedError as error:
            if not constrained:
                raise RefusedError(str(error)) from None
            # Of several requests under way, each comes here.
            if self.known:
                self.known = False
                reason = self._redact(str(error))
                logger.warning(
                    "%s does not constrain answers (%s): from here on they are only checked", self._where, reason
                )
            raise


class RecordedBackend:
    """Replays answers from a file of JSON lines, for offline work and tests.

    A line is an answer of an earlier run (``key`` and ``text``, as in its ``answers.jsonl``), a sample (``relation``,
    ``context`` and its entities), or an explanation (``row``, the number of the labelled row from 0, and
    ``explanation``; ``subject`` and ``object`` are compared with the row's entities where they are given). Samples of
    a relation are given out in the file's order.

    Args:
        path: The file, or a folder whose ``.jsonl`` files are read.
        model: The name of the model that wrote it, for the provenance.

    Raises:
        InvalidRowError: A line is none of these.
    """

    def __init__(self, path: str | Path, model: str = "recorded") -> None:
        self.path, self.model = Path(path), model
        self._answers: dict[str, str] = {}
        self._formats = {PLAIN_PROMPT}
        self._samples: dict[str, list[dict[str, Any]]] = {}
        self._explanations: dict[int, dict[str, Any]] = {}
        for file in sorted(self.path.glob("*.jsonl")) if self.path.is_dir() else [self.path]:
            for number, row in _read_rows(file):
                self._add(file, number, row)

    def _add(self, file: Path, number: int, row: dict[str, Any]) -> None:
        if {"key", "text"} <= row.keys():
            self._answers[row["key"]] = row["text"]
            self._formats.add(str(row.get("prompt_format", PLAIN_PROMPT)))
        elif {"relation", "context"} <= row.keys():
            self._samples.setdefault(row["relation"], []).append(row)
        elif {"row", "explanation"} <= row.keys():
            self._explanations[row["row"]] = {**row, "place": (file, number)}
        elif not {"key", "failed"} <= row.keys():
            expected = "key and text, relation and context, or row and explanation"
            raise InvalidRowError(file, number, "", f"no recorded answer: expected the fields {expected}")

    async def complete(self, request: Request) -> Answer:
        for prompt_format in sorted(self._formats):
            if (text := self._answers.get(request.key(self.model, prompt_format))) is not None:
                return Answer(text)
        if "row" not in request.about:
            rows = self._samples.get(request.relation, [])[request.offset : request.offset + request.count]
            if not rows:
                raise RefusedError(f"{self.path} holds no further sample of {request.relation}")
            return Answer(json.dumps({"samples": rows}, ensure_ascii=False))
        row = self._explanations.get(request.about["row"])
        if row is None or request.attempt:
            raise RefusedError(f"{self.path} holds no further explanation of row {request.about['row']}")
        for name, side in (("subject", "head"), ("object", "tail")):
            if name in row and fold(clean_text(row[name])) != fold(clean_text(request.about[side])):
                found = f"the labelled row {row['row']} has {request.about[side]!r}: is this another file's knowledge?"
                file, line = row["place"]
                raise InvalidRowError(file, line, name, found)
        fields = {name: row[name] for name in ("explanation", "cues") if name in row}
        return Answer(json.dumps(fields, ensure_ascii=False))

    async def close(self) -> None:
        pass


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        # Not splitlines: a string in JSON may hold what that takes for the end of a line too, such as U+2028.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TkreError(f"cannot read the recorded answers {path}: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InvalidRowError(path, number, "", f"not JSON: {error}") from None
        if not isinstance(row, dict):
            raise InvalidRowError(path, number, "", "expected an object")
        yield number, row
