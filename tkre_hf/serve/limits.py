"""How much anybody may send: what is longer is refused before it costs time or memory."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tkre_hf.errors import TkreError

SENTENCE_CHARACTERS = 20_000
PARAGRAPH_CHARACTERS = 20_000
LABEL_CHARACTERS, DESCRIPTION_CHARACTERS = 200, 2_000
# Of one visitor.
RELATIONS, SUPPORTS = 200, 1_000
# Ordered pairs of entities in one paragraph.
PAIRS = 600
BODY_BYTES = 1_000_000

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def checked_text(value: Any, what: str, limit: int) -> str:
    """A text that somebody sent, without white space around it.

    Args:
        value: It.
        what: What the error calls it.
        limit: How many characters it may have.

    Raises:
        TkreError: It is none, or longer.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TkreError(f"{what}: expected a text, found {type(value).__name__}")
    if len(value) > limit:
        raise TkreError(f"{what} has {len(value):,} characters; at most {limit:,} are read")
    return value.strip()


class BodyLimit:
    """ASGI middleware that refuses a request whose body is too large, with status 413 and a sentence.

    Args:
        app: What answers the other requests.
        limit: Bytes a body may have.
    """

    def __init__(self, app: App, limit: int = BODY_BYTES) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.limit:
            await self._refuse(send)
            return
        # A body that comes in pieces declares no length, so it is counted; so little may well be kept.
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.limit:
                await self._refuse(send)
                return
        waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self.app(scope, replay, send)

    async def _refuse(self, send: Send) -> None:
        body = json.dumps(
            {"error": f"the request is larger than {self.limit:,} bytes, the most that is read"}
        ).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        # The rest of the body stays unread, so the connection is of no further use.
        headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
