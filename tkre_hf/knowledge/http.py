"""What each client of a language-model server needs: its token, errors sorted, bodies read, and no secret told."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tkre_hf.errors import TkreError
from tkre_hf.knowledge.backends import Answer, RefusedError, TransientError, UnconstrainedError

logger = logging.getLogger(__name__)

API_KEY_VARIABLE = "TKRE_API_KEY"
# In bytes; a token may come with its probability and its neighbours, so an answer is far smaller than its JSON.
_MAX_BODY = 64 * 2**20
# Hosts that the token of `hf auth login` is meant for; nobody else is sent it.
_HUB_HOSTS = ("huggingface.co", "hf.co", "huggingface.cloud", "hf.space")
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
