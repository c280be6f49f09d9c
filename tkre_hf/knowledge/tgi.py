"""A Text Generation Inference server's own routes, through the ``text-generation`` client."""

from __future__ import annotations

import json
from typing import Any

from tkre_hf.errors import TkreError
from tkre_hf.knowledge.backends import PLAIN_PROMPT, Answer, RefusedError, Request, TransientError
from tkre_hf.knowledge.http import (
    Constraint,
    Redactor,
    error_message,
    find_token,
    get_json,
    one_line,
    public_url,
    raise_for_status,
    read_body,
)
from tkre_hf.knowledge.parse import MAX_ANSWER_CHARS


class TgiBackend:
    """Text Generation Inference's ``/generate`` and ``/generate_stream``, decoding under a JSON grammar.

    Request, parameters, grammar and answer are the ``text-generation`` client's own types. Its ``AsyncClient`` posts
    them itself, but opens a connection for each request and drops the response's status and headers, so it could
    neither tell a full server from a wrong request nor honour ``Retry-After``: the posting is done here.

    Args:
        base_url: The server's root.
        model: Its model's name; None to ask the server.
        timeout: Seconds until a silent connection is given up.
        concurrency: How many requests may be under way at once.
        stream: Whether ``/generate_stream`` is used.
        prompt_format: What a prompt looks like to the model, with ``{prompt}`` in it, such as
            ``[INST] {prompt} [/INST]``: these routes know no chat template.

    Raises:
        TkreError: The extra ``[tgi]`` is not installed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        timeout: float = 120.0,
        concurrency: int = 8,
        stream: bool = False,
        prompt_format: str = PLAIN_PROMPT,
    ) -> None:
        _import_types()
        if PLAIN_PROMPT not in prompt_format:
            raise TkreError(f"the prompt format must hold {{prompt}}, found {prompt_format!r}")
        import aiohttp

        self.model, self.stream, self.prompt_format = model, stream, prompt_format
        self._root, self._where = base_url.rstrip("/"), public_url(base_url)
        token = find_token(base_url)
        self._redact = Redactor(token, base_url if base_url != self._where else None)
        self._constraint = Constraint(self._where, self._redact)
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"} if token else None,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
            connector=aiohttp.TCPConnector(limit=concurrency),
            # A token may be longer than the default line.
            read_bufsize=2**20,
        )

    @classmethod
    async def connect(cls, model: str | None, base_url: str, **options: Any) -> TgiBackend:
        """Makes a backend, asking the server's ``/info`` for its model unless it is named.

        Raises:
            TkreError: The server has no ``/info``, so it is no TGI server, or it can't be reached.
        """
        _import_types()
        if model is None:
            info = await get_json(f"{base_url.rstrip('/')}/info", find_token(base_url))
            if not isinstance(info, dict) or "model_id" not in info:
                raise TkreError(
                    f"{public_url(base_url)}/info doesn't answer as a Text Generation Inference server does"
                )
            model = str(info["model_id"])
        return cls(base_url, model, **options)

    async def complete(self, request: Request) -> Answer:
        return await self._constraint.ask(lambda constrained: self._send(request, constrained))

    async def _send(self, request: Request, constrained: bool) -> Answer:
        import aiohttp
        from pydantic import ValidationError

        types = _import_types()
        sampling = request.sampling
        prompt = self.prompt_format.replace(PLAIN_PROMPT, "\n\n".join(part["content"] for part in request.messages))
        parameters = types.Parameters(
            details=True,
            do_sample=sampling.temperature > 0,
            temperature=sampling.temperature or None,
            top_p=sampling.top_p if sampling.top_p < 1 else None,
            max_new_tokens=sampling.max_tokens,
            seed=sampling.seed,
            grammar=types.Grammar(type=types.GrammarType.Json, value=request.json_schema) if constrained else None,
        )
        body = types.Request(inputs=prompt, stream=self.stream, parameters=parameters).model_dump(mode="json")
        route = "generate_stream" if self.stream else "generate"
        try:
            async with self._session.post(f"{self._root}/{route}", json=body) as response:
                if response.status != 200:
                    reason = self._redact(error_message(await response.content.read(10_000)))
                    raise_for_status(response.status, reason, response.headers.get("Retry-After"), self._where)
                if self.stream:
                    return await self._read_stream(response, types)
                content = await read_body(response)
                return _answer(types.Response(**json.loads(content)))
        except TimeoutError:
            raise TransientError("timeout", spent=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(one_line(self._redact(f"{type(error).__name__}: {error}"))) from None
        except (ValidationError, ValueError, TypeError, RecursionError) as error:
            raise TransientError(one_line(self._redact(f"no answer of a TGI server: {error}"))) from None

    async def _read_stream(self, response: Any, types: Any) -> Answer:
        """The answer of a stream of server-sent events; only the last one holds the whole text and the details."""
        text = ""
        async for line in response.content:
            if not line.startswith(b"data:"):
                continue
            event = json.loads(line[5:])
            if "error" in event:
                reason = one_line(self._redact(str(event["error"])))
                if event.get("error_type") == "validation":
                    raise RefusedError(reason)
                raise TransientError(reason)
            part = types.StreamResponse(**event)
            if part.generated_text is not None and part.details is not None:
                return _answer(part)
            text += part.token.text
            if len(text) > MAX_ANSWER_CHARS:
                # Longer than any answer that could be accepted: no use in reading on.
                return Answer(text, "length")
        raise TransientError("the stream ended before the answer did", spent=True)

    async def close(self) -> None:
        await self._session.close()


def _answer(response: Any) -> Answer:
    finish = "length" if response.details.finish_reason.value == "length" else "stop"
    # TGI doesn't count the prompt's tokens unless it is asked for all of them.
    return Answer(response.generated_text, finish, None, response.details.generated_tokens)


def _import_types() -> Any:
    try:
        import text_generation.types as types
    except ImportError:
        raise TkreError("the backend 'tgi' needs the text-generation client: pip install 'tkre-hf[tgi]'") from None
    return types
