"""A server or a hosted provider, through ``huggingface_hub.AsyncInferenceClient``'s chat route."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import getproxies

import aiohttp

from tkre_hf.errors import TkreError
from tkre_hf.knowledge.backends import Answer, RefusedError, Request, TransientError, UnconstrainedError
from tkre_hf.knowledge.http import (
    API_KEY_VARIABLE,
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


class _Answered(Exception):
    """Brings an answer that the backend has read past the hub's client.

    Of a completion's fields the client makes objects that copy all they hold, level by level: that takes longer than
    the rest of what it does.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class _Verbatim:
    """A ``response_format`` that goes over the wire as it is.

    For a URL the client rewrites ``json_schema`` formats, which it knows by ``get("type")``, into TGI's older dialect,
    and other servers do not read that one. And no dictionary, or the client would copy it level by level.
    """

    def __init__(self, form: dict[str, Any]) -> None:
        self.form = form

    def get(self, key: str, default: Any = None) -> Any:
        return default if key == "type" else self.form.get(key, default)


class _VerbatimDict(dict[str, Any]):
    """The same where the client posts itself, and so must be able to write it."""

    def get(self, key: Any, default: Any = None) -> Any:
        return default if key == "type" else super().get(key, default)


class InferenceBackend:
    """TGI, vLLM, any OpenAI-compatible server, or a provider reached through the Hub.

    Use ``connect`` to make one: it asks a server who it is.

    Args:
        model: The model's name, sent with each request.
        base_url: The server, with or without ``/v1``; None for a hosted provider.
        provider: The provider's name, such as ``together``; None for the Hub's choice.
        timeout: Seconds until a silent connection is given up.
        concurrency: How many requests may be under way at once.
        stream: Whether answers are streamed, which keeps long ones alive behind impatient gateways.
        tgi_dialect: Whether the server speaks TGI's own form of a JSON constraint.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        provider: str | None = None,
        timeout: float = 120.0,
        concurrency: int = 8,
        stream: bool = False,
        tgi_dialect: bool = False,
    ) -> None:
        self.model, self.stream = model, stream
        self._where = public_url(base_url) if base_url else provider or "the Hub's provider"
        token = find_token(base_url)
        self._redact = Redactor(token, base_url if base_url and base_url != self._where else None)
        # Without a token of ours the client would take the Hub's, which is nobody else's business.
        self._arguments: dict[str, Any] = {"token": token or ("none" if base_url else None), "timeout": timeout}
        if base_url:
            self._arguments["base_url"] = base_url
        else:
            self._arguments |= {"model": model, "provider": provider}
        self._verbatim = base_url is not None and not tgi_dialect
        self._constraint = Constraint(self._where, self._redact)
        self._posted = False
        self._session: aiohttp.ClientSession | None = None
        if base_url and not stream:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
                connector=aiohttp.TCPConnector(limit=concurrency),
                # It reads the environment anew for each request, which takes as long as the request itself.
                trust_env=bool(getproxies()),
            )
        self._client_class = _posting_client(self)
        self._main = self._client()

    @classmethod
    async def connect(cls, model: str | None, base_url: str | None = None, **options: Any) -> InferenceBackend:
        """Makes a backend, asking the server for what the user didn't say: its dialect, and its model's name.

        Raises:
            TkreError: No model is named and none can be found.
        """
        tgi_model = openai_model = None
        if base_url:
            root = base_url.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
            info = await get_json(f"{root}/info", find_token(base_url))
            tgi_model = info.get("model_id") if isinstance(info, dict) else None
            if not tgi_model and not model:
                models = await get_json(f"{root}/v1/models", find_token(base_url))
                listed = models.get("data") if isinstance(models, dict) else None
                openai_model = listed[0].get("id") if listed and isinstance(listed[0], dict) else None
        name = model or tgi_model or openai_model
        if not name:
            raise TkreError("name the model with --model" + (": the server did not" if base_url else ""))
        return cls(name, base_url, tgi_dialect=bool(tgi_model), **options)

    async def complete(self, request: Request) -> Answer:
        return await self._constraint.ask(lambda constrained: self._send(request, constrained))

    async def _send(self, request: Request, constrained: bool) -> Answer:
        import huggingface_hub.errors as errors

        sampling = request.sampling
        arguments: dict[str, Any] = {
            "messages": request.messages,
            "model": self.model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }
        if constrained:
            schema = {"name": "answer", "schema": request.json_schema, "strict": True}
            form: Any = {"type": "json_schema", "json_schema": schema}
            if self._verbatim:
                form = _Verbatim(form) if self._session is not None else _VerbatimDict(form)
            arguments["response_format"] = form
        try:
            if self.stream:
                return await self._streamed(arguments)
            return _answer(await self._main.chat_completion(**arguments))
        except _Answered as answered:
            return answered.answer
        except (TransientError, RefusedError, UnconstrainedError, TkreError):
            raise
        except (TimeoutError, errors.InferenceTimeoutError):
            raise TransientError("timeout", spent=True) from None
        except errors.OfflineModeIsEnabled:
            raise TkreError(
                "HF_HUB_OFFLINE=1 keeps huggingface_hub from every server, your own too: unset it to use this backend"
            ) from None
        except Exception as error:
            self._sort(error)
            raise

    async def _streamed(self, arguments: dict[str, Any]) -> Answer:
        text, finish, usage = "", "", None
        # The client keeps every stream it has opened until it is closed, so each has a client of its own.
        async with self._client() as client:
            options = {"include_usage": True}
            async for chunk in await client.chat_completion(**arguments, stream=True, stream_options=options):
                for choice in chunk.choices[:1]:
                    text += choice.delta.content or ""
                    finish = choice.finish_reason or finish
                usage = chunk.usage or usage
                if len(text) > MAX_ANSWER_CHARS:
                    finish = "length"
                    break
        if not finish:
            # A stream that merely ends looks complete to an HTTP client.
            raise TransientError("the stream ended before the answer did", spent=True)
        return Answer(text, _finish(finish), *_usage(usage))

    def _client(self) -> Any:
        return self._client_class(**self._arguments)

    async def post(self, parameters: Any) -> Answer | None:
        """Posts a request through one session, with a connection for each that is under way.

        Before 1.0 the hub's client opens a connection for every request; since then it looks through all connections
        of its pool for every one, and has at most a hundred: at 64 requests at once either takes longer than all the
        rest.

        Returns:
            The answer; None where the hub's client is to post, which it does for streams and hosted providers.
        """
        self._posted = True
        if self._session is None:
            return None
        body = parameters.json
        if isinstance(form := body.get("response_format"), _Verbatim):
            body = {**body, "response_format": form.form}
        try:
            async with self._session.post(parameters.url, json=body, headers=parameters.headers) as response:
                if response.status != 200:
                    said = self._redact(error_message(await response.content.read(10_000)))
                    raise_for_status(response.status, said, response.headers.get("Retry-After"), self._where)
                return _read(await read_body(response))
        except aiohttp.ClientResponseError as error:
            # No status of the server's: aiohttp's own for bytes that are no HTTP, as of a connection that broke.
            raise TransientError(one_line(self._redact(f"no HTTP answer: {error.message}"))) from None

    def _sort(self, error: Exception) -> None:
        """Raises the fault that an error of either HTTP library (aiohttp to hub 0.x, httpx from 1.0) stands for."""
        response = getattr(error, "response", None)
        status = getattr(error, "status", None) or getattr(response, "status_code", None)
        if status is not None:
            headers = getattr(response, "headers", None) or getattr(error, "headers", None) or {}
            reason = _server_message(error, response)
            raise_for_status(status, self._redact(reason), headers.get("retry-after"), self._where)
        from huggingface_hub.errors import TextGenerationError

        module = type(error).__module__.partition(".")[0]
        if isinstance(error, OSError | TextGenerationError) or module in (
            "aiohttp",
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "anyio",
        ):
            raise TransientError(one_line(self._redact(f"{type(error).__name__}: {error}"))) from None
        if type(error) is ValueError and not self._posted:
            # What keeps the client from posting, such as a provider it doesn't know or a key it lacks, will not pass.
            advice = f"check --provider, --model and the token ({API_KEY_VARIABLE}, or `hf auth login`)"
            reason = one_line(self._redact(str(error)))
            raise TkreError(f"nothing can be sent to {self._where}: {reason}; {advice}") from None
        if isinstance(error, ValueError | TypeError | KeyError | AttributeError | IndexError | RecursionError):
            # The client reads an answer before it hands it on: what it can't read was no chat completion.
            raise TransientError(one_line(self._redact(f"no chat completion: {error}"))) from None

    async def close(self) -> None:
        await self._main.close()
        if self._session is not None:
            await self._session.close()


def _posting_client(backend: InferenceBackend) -> type[Any]:
    """The hub's client, posting as the backend does; should a later one not ask to, its own way is as right."""
    from huggingface_hub import AsyncInferenceClient

    class PostingClient(AsyncInferenceClient):
        async def _inner_post(self, request_parameters: Any, *, stream: bool = False) -> Any:
            answer = await backend.post(request_parameters)
            if answer is None:
                return await super()._inner_post(request_parameters, stream=stream)
            raise _Answered(answer)

    return PostingClient


def _answer(output: Any) -> Answer:
    """The answer in what the hub's client returns."""
    choice = output.choices[0]
    return _checked(choice.message.content, choice.finish_reason, output.usage)


def _read(body: bytes) -> Answer:
    """The answer in the body of a chat completion.

    Raises:
        TransientError: There is none in it; ValueError, LookupError, TypeError, AttributeError and RecursionError
            likewise.
    """
    completion = json.loads(body.decode())
    choice = completion["choices"][0]
    return _checked(choice["message"].get("content"), choice.get("finish_reason"), completion.get("usage"))


def _checked(text: Any, finish: Any, usage: Any) -> Answer:
    if text is None and finish is None:
        raise TransientError("no chat completion: neither text nor a reason for its end")
    if not isinstance(text, str | None):
        raise TransientError("no chat completion: what should be the text is something else")
    return Answer(text or "", _finish(finish), *_usage(usage))


def _finish(reason: Any) -> str:
    return "length" if reason in ("length", "max_tokens") else "stop"


def _usage(usage: Any) -> tuple[int | None, int | None]:
    """The tokens of prompt and answer; what is no count is none."""
    counts = usage if type(usage) is dict else getattr(usage, "__dict__", {})
    prompt, answer = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return prompt if isinstance(prompt, int) else None, answer if isinstance(answer, int) else None


def _server_message(error: Exception, response: Any) -> str:
    payload = getattr(error, "response_error_payload", None)
    if payload is not None:
        return error_message(json.dumps(payload).encode())
    try:
        return error_message(response.content)
    except Exception:  # noqa: BLE001  (whatever keeps a body from being read, the error itself serves)
        return str(error)
