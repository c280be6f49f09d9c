from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.knowledge.servers import Server, serving, write_answer
from tkre_hf.data import make_record
from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.knowledge.backends import (
    Answer,
    Backend,
    RefusedError,
    Request,
    Sampling,
    TransientError,
    UnconstrainedError,
)
from tkre_hf.knowledge.http import Redactor, find_token, parse_retry_after, public_url, raise_for_status
from tkre_hf.knowledge.inference import InferenceBackend
from tkre_hf.knowledge.prompts import PromptTemplate, samples_values
from tkre_hf.knowledge.recorded import RecordedBackend
from tkre_hf.knowledge.schema import RelationSchema, samples_json_schema
from tkre_hf.knowledge.tasks import explanation_jobs

pytestmark = pytest.mark.usefixtures("online")
BACKENDS = ["inference", "tgi"]
SCHEMA = RelationSchema("made by", head_types=("WORK",), tail_types=("PERSON",), relation="made_by")


def request(seed: int = 0, count: int = 3) -> Request:
    return Request(
        job="made_by",
        attempt=seed,
        relation="made_by",
        messages=PromptTemplate.load("scdg").render(samples_values(SCHEMA, [], count)),
        json_schema=samples_json_schema(SCHEMA, count),
        sampling=Sampling(max_tokens=200, seed=seed),
        count=count,
    )


async def connect(kind: str, url: str, model: str | None = None, **options: Any) -> Backend:
    if kind == "inference":
        return await InferenceBackend.connect(model, url, **{"timeout": 1.0, **options})
    pytest.importorskip("text_generation", reason="needs the extra [tgi]")
    from tkre_hf.knowledge.tgi import TgiBackend

    return await TgiBackend.connect(model, url, **{"timeout": 1.0, **options})


def ask(server: Server, kind: str, *requests: Request, **options: Any) -> list[Any]:
    """The answers, or the errors in their place."""

    async def go() -> list[Any]:
        async with serving(server):
            backend = await connect(kind, server.url, **options)
            try:
                asked = requests or (request(),)
                return list(await asyncio.gather(*map(backend.complete, asked), return_exceptions=True))
            finally:
                await backend.close()

    return asyncio.run(go())


def fails(*kinds: str) -> Any:
    return lambda key, times: kinds[times] if times < len(kinds) else None


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("stream", [False, True])
def test_the_model_s_words_arrive(kind: str, stream: bool) -> None:
    server = Server()
    requests = [request(seed) for seed in range(4)]
    answers = ask(server, kind, *requests, stream=stream)
    assert server.asked.total() == 4
    prompts = ["\n\n".join(part["content"] for part in each.messages) for each in requests]
    for each, prompt, answer in zip(requests, prompts, answers, strict=True):
        assert answer.text == write_answer(prompt, each.json_schema, each.sampling.seed)
        assert answer.finish == "stop"
        assert answer.completion_tokens == len(answer.text) // 4


def test_both_servers_dialects_of_the_constraint_are_spoken() -> None:
    for tgi in (True, False):
        server = Server(tgi=tgi)
        answers = ask(server, "inference")
        assert isinstance(answers[0], Answer)
        form = server.bodies[0]["response_format"]
        assert form["type"] == ("json_object" if tgi else "json_schema")
        assert server.bodies[0]["model"] == "loopback"
        assert server.bodies[0]["max_tokens"] == 200 and server.bodies[0]["seed"] == 0


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_server_that_cannot_constrain_is_asked_without(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(tgi=kind == "tgi", constrains=False)
    each = request()
    server.schemas["\n\n".join(part["content"] for part in each.messages)] = each.json_schema

    async def go() -> list[Any]:
        async with serving(server):
            backend = await connect(kind, server.url)
            try:
                first = await asyncio.gather(*map(backend.complete, [each, each]), return_exceptions=True)
                return [*first, await backend.complete(each)]
            finally:
                await backend.close()

    with caplog.at_level(logging.WARNING):
        *refused, answer = asyncio.run(go())
    # Each call is one request, so that whoever calls can count them.
    assert server.posts == 3 and [type(error) for error in refused] == [UnconstrainedError] * 2
    assert isinstance(answer, Answer)
    assert caplog.text.count("does not constrain") == 1
    assert "response_format" not in server.bodies[-1] and not server.bodies[-1].get("parameters", {}).get("grammar")


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["timeout", "429", "500", "503", "cut", "html", "not_a_completion"])
def test_what_may_pass_is_transient(kind: str, stream: bool, fault: str) -> None:
    if stream and fault == "not_a_completion":
        pytest.skip("a stream has no body of another shape")
    (error,) = ask(Server(fails(fault), hang=3.0), kind, stream=stream, timeout=0.3)
    assert isinstance(error, TransientError | TimeoutError), error
    assert getattr(error, "retry_after", None) == (0.05 if fault == "429" else None)
    # Where the answer is lost on its way, the server has been at work.
    assert getattr(error, "spent", True) == (fault == "timeout" or (fault == "cut" and stream))


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize(
    ("status", "advice"), [("401", "TKRE_API_KEY"), ("403", "no right"), ("404", "no such model")]
)
def test_what_concerns_every_request_stops_the_run(kind: str, status: str, advice: str) -> None:
    (error,) = ask(Server(fails(status)), kind)
    assert isinstance(error, TkreError) and advice in str(error) and status in str(error)


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_request_at_fault_is_refused(kind: str) -> None:
    (error,) = ask(Server(fails("413")), kind)
    assert isinstance(error, RefusedError)


@pytest.mark.parametrize("kind", BACKENDS)
def test_an_endless_stream_is_cut(kind: str) -> None:
    (answer,) = ask(Server(fails("endless")), kind, stream=True)
    assert answer.finish == "length"


@pytest.mark.parametrize("fault", ["429", "500", "cut", "html", "not_a_completion", "timeout"])
def test_the_hub_client_s_own_way_of_posting_is_understood_too(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import AsyncInferenceClient

    monkeypatch.setattr(InferenceBackend, "_client", lambda self: AsyncInferenceClient(**self._arguments))
    (error,) = ask(Server(fails(fault), hang=3.0), "inference", timeout=0.3)
    assert isinstance(error, TransientError | TimeoutError), error
    assert getattr(error, "retry_after", None) == (0.05 if fault == "429" else None)
    (answer,) = ask(Server(), "inference")
    assert isinstance(answer, Answer)
    for status, kind in (("401", TkreError), ("413", RefusedError)):
        (error,) = ask(Server(fails(status)), "inference")
        assert isinstance(error, kind)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"usage": None},
        {"usage": []},
        {"usage": {"prompt_tokens": "7", "completion_tokens": 3}},
        {"system_fingerprint": None, "choices": []},
        {"choices": None},
        {"choices": ["text"]},
        {"choices": [{"finish_reason": "length", "message": {"role": "assistant", "content": "cut"}}]},
        {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": None, "other": {}}}]},
        {"choices": [{"finish_reason": None, "message": {"role": "assistant", "content": None}}]},
        {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": ["part"]}}]},
        {"choices": [{"finish_reason": "stop", "message": "text"}]},
        {"choices": [{"finish_reason": "stop", "text": "a completion without a chat"}]},
    ],
)
def test_a_completion_is_read_as_the_hub_client_reads_it(
    changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import AsyncInferenceClient

    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "\u00fcber \ud83d\ude00"},
    }
    body = {
        "id": "1",
        "model": "m",
        "choices": [choice],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    } | changed

    async def chat(self: Server, asked: web.Request) -> web.Response:
        return web.json_response(body)

    monkeypatch.setattr(Server, "chat", chat)
    (ours,) = ask(Server(), "inference")
    monkeypatch.setattr(InferenceBackend, "_client", lambda self: AsyncInferenceClient(**self._arguments))
    (theirs,) = ask(Server(), "inference")
    assert isinstance(ours, Answer | TransientError) and type(ours) is type(theirs)
    if isinstance(ours, Answer):
        assert ours == theirs and isinstance(ours.text, str)
        assert all(count is None or isinstance(count, int) for count in (ours.prompt_tokens, ours.completion_tokens))


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_token_goes_to_the_server_and_nowhere_else(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TKRE_API_KEY", "secret-123")
    server = Server(fails("500"), token="secret-123")
    with caplog.at_level(logging.DEBUG):
        (error,) = ask(server, kind)
    assert isinstance(error, TransientError) and "500" in str(error)
    assert "secret-123" not in str(error) + caplog.text
    assert "[token]" in str(error)
    assert server.headers[0]["Authorization"] == "Bearer secret-123"


@pytest.mark.parametrize("kind", BACKENDS)
def test_the_hub_s_token_is_the_hub_s_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_login")
    monkeypatch.setenv("HF_TOKEN", "hf_login")
    server = Server()
    assert isinstance(ask(server, kind)[0], Answer)
    assert "hf_login" not in json.dumps(server.headers)
    assert find_token("https://x.endpoints.huggingface.cloud/v1") == "hf_login" == find_token(None)
    assert find_token("https://huggingface.co.example.org") is None
    assert find_token("http://127.0.0.1:8080") is None


def test_offline_mode_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    import huggingface_hub.constants as constants

    if int(huggingface_hub.__version__.split(".")[0]) < 1:
        pytest.skip("before 1.0, offline mode did not reach this client")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (error,) = ask(Server(), "inference", stream=True)
    assert isinstance(error, TkreError) and "HF_HUB_OFFLINE" in str(error)
    # A server of one's own is no Hub; where it's up to this package, it is reached.
    assert isinstance(ask(Server(), "inference")[0], Answer)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("provider", "reason"), [("nobody", "'nobody'"), ("together", "api_key")])
def test_what_keeps_every_request_from_being_sent_stops_the_run(
    provider: str, reason: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("huggingface_hub.utils._auth", "huggingface_hub.inference._providers._common"):
        monkeypatch.setattr(f"{module}.get_token", lambda: None)

    async def go() -> Answer:
        backend = await InferenceBackend.connect("model", provider=provider, stream=stream)
        try:
            return await backend.complete(request())
        finally:
            await backend.close()

    with pytest.raises(TkreError, match=f"nothing can be sent to {provider}: .*{reason}.*TKRE_API_KEY"):
        asyncio.run(go())


@pytest.mark.usefixtures("online")
def test_bytes_that_are_no_http_pass() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        while await reader.readline() not in (b"\r\n", b""):
            pass
        asked = line.startswith(b"POST")
        writer.write(b"left over\r\n\r\n" if asked else b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def go() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            backend = await InferenceBackend.connect("model", f"http://127.0.0.1:{port}", timeout=1.0)
            try:
                await backend.complete(request())
            finally:
                await backend.close()

    with pytest.raises(TransientError, match="no HTTP answer"):
        asyncio.run(go())


def test_a_model_must_be_known() -> None:
    with pytest.raises(TkreError, match="--model"):
        asyncio.run(InferenceBackend.connect(None))
    with pytest.raises(TkreError, match="--model.*server did not"):
        asyncio.run(InferenceBackend.connect(None, "http://127.0.0.1:9"))
    pytest.importorskip("text_generation", reason="needs the extra [tgi]")
    with pytest.raises(TkreError, match="doesn't answer as a Text Generation Inference"):
        asyncio.run(connect("tgi", "http://127.0.0.1:9"))


def test_tgi_s_prompt_format_wraps_the_prompt() -> None:
    server = Server()
    (answer,) = ask(server, "tgi", prompt_format="[INST] {prompt} [/INST]")
    assert isinstance(answer, Answer)
    assert server.bodies[0]["inputs"].startswith("[INST] You write")
    (grammar,) = [body["parameters"]["grammar"] for body in server.bodies]
    assert grammar == {"type": "json", "value": request().json_schema}


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (429, "", TransientError),
        (408, "", TransientError),
        (504, "grammar compiler timed out", TransientError),
        (400, "response_format is unknown", UnconstrainedError),
        (422, "Grammar error: too complex", UnconstrainedError),
        (400, "prompt too long", RefusedError),
        (402, "pay", TkreError),
    ],
)
def test_a_status_is_sorted_by_what_can_be_done(status: int, reason: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        raise_for_status(status, reason, None, "here")
    with pytest.raises(error) as raised:
        raise_for_status(status, reason + " \ud800\n", None, "here")
    assert r"\ud800" in str(raised.value) and str(raised.value).encode().isascii()
    raise_for_status(200, "", None, "here")


def test_retry_after_is_seconds_or_a_date() -> None:
    assert parse_retry_after("7") == 7 and parse_retry_after("0.5") == 0.5 and parse_retry_after("-1") == 0
    assert parse_retry_after(None) is None and parse_retry_after("soon") is None
    date = parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert date is not None and 50 < date <= 60
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for zone in ("", " -0000", " +0000"):
        date = parse_retry_after(f"{datetime.now(UTC) + timedelta(seconds=60):%a, %d %b %Y %H:%M:%S}{zone}")
        assert date is not None and 50 < date <= 60
    assert parse_retry_after("nan") is None and parse_retry_after("inf") is None


def test_secrets_in_urls_are_not_shown() -> None:
    assert public_url("https://user:pass@host.org:81/v1?key=abc#x") == "https://host.org:81/v1"
    assert public_url("http://[::1]:80/v1") == "http://[::1]:80/v1"
    assert Redactor("abc", None, "")("key=abc") == "key=[token]"


def test_a_secret_is_known_in_every_form_a_library_writes_it() -> None:
    redact = Redactor("pä'ss\n")
    for text in ("pä'ss\n", "pä'ss", repr("Bearer pä'ss\n"), repr("pä'ss\n".encode()), json.dumps("pä'ss\n")):
        assert "ss" not in redact(text), text


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_token_with_a_line_break_at_its_end_is_sent_without(
    kind: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TKRE_API_KEY", "secret-123\n")
    server = Server(token="secret-123")
    (answer,) = ask(server, kind, stream=stream)
    assert isinstance(answer, Answer), answer
    assert server.headers[0]["Authorization"] == "Bearer secret-123"


@pytest.mark.parametrize("token", ["secret-123\nnext", "secret 123", "secret-123\x07", "sécret-123"])
def test_a_token_no_header_can_hold_is_not_repeated(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TKRE_API_KEY", token)
    with pytest.raises(TkreError, match="the token of TKRE_API_KEY holds") as error:
        find_token("http://127.0.0.1")
    assert "cret" not in str(error.value)
    monkeypatch.setenv("TKRE_API_KEY", " \n")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: f"\n{token}")
    with pytest.raises(TkreError, match="the token of `hf auth login` holds") as error:
        find_token(None)
    assert "cret" not in str(error.value)
    assert find_token("http://127.0.0.1") is None


def test_a_key_depends_on_all_an_answer_depends_on() -> None:
    keys = {request(seed).key("m") for seed in range(3)} | {request().key("n"), request(count=2).key("m")}
    assert len(keys) == 5
    assert request().key("m") == request().key("m") == request().key("m", "{prompt}")
    assert request().key("m", "[INST] {prompt} [/INST]") not in keys


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_recorded_samples_are_given_out_in_order(tmp_path: Path) -> None:
    rows = [{"relation": "made_by", "context": str(i), "head_entity": "a", "tail_entity": "b"} for i in range(4)]
    backend = RecordedBackend(write(tmp_path / "r.jsonl", *rows))

    async def take(offset: int) -> list[str]:
        asked = Request("made_by", 0, "made_by", [], {}, Sampling(), count=3, offset=offset)
        return [row["context"] for row in json.loads((await backend.complete(asked)).text)["samples"]]

    assert asyncio.run(take(0)) == ["0", "1", "2"]
    assert asyncio.run(take(3)) == ["3"]
    with pytest.raises(RefusedError, match="no further sample"):
        asyncio.run(take(4))


def test_recorded_explanations_belong_to_their_rows(tmp_path: Path) -> None:
    row = {"row": 0, "subject": "oven", "object": "water", "explanation": "it says so"}
    backend = RecordedBackend(write(tmp_path / "r.jsonl", row))

    def take(about: dict[str, Any], attempt: int = 0) -> Any:
        asked = Request("g0", attempt, "r", [], {}, Sampling(), about=about)
        return json.loads(asyncio.run(backend.complete(asked)).text)

    assert take({"row": 0, "head": "Oven", "tail": "water"}) == {"explanation": "it says so"}
    with pytest.raises(InvalidRowError, match=r"r\.jsonl, line 1, field 'subject'.*another file's"):
        take({"row": 0, "head": "fire", "tail": "water"})
    with pytest.raises(RefusedError):
        take({"row": 1, "head": "oven", "tail": "water"})
    with pytest.raises(RefusedError):
        take({"row": 0, "head": "oven", "tail": "water"}, attempt=1)


def test_a_line_ends_at_a_line_break_alone(tmp_path: Path) -> None:
    contexts = ["one\u2028two", "one\x85two", "one\u2029two", "one\r two"]
    path = tmp_path / "r.jsonl"
    lines = [json.dumps({"relation": "made_by", "context": text}, ensure_ascii=False) for text in contexts]
    path.write_text("\r\n".join(lines), encoding="utf-8", newline="")
    asked = Request("made_by", 0, "made_by", [], {}, Sampling(), count=9)
    said = json.loads(asyncio.run(RecordedBackend(path).complete(asked)).text)
    assert [row["context"] for row in said["samples"]] == contexts


def test_recorded_explanations_are_found_by_the_file_s_own_row_numbers(tmp_path: Path) -> None:
    gold = [
        make_record(id=f"g{i}", tokens=["oven", "with", f"pot{i}"], head=(0, 1), tail=(2, 3), relation=relation)
        for i, relation in enumerate(["na", "made_by", "na", "made_by"])
    ]
    told = [{"row": i, "object": f"pot{i}", "explanation": f"number {i}"} for i in range(4)]
    backend = RecordedBackend(write(tmp_path / "r.jsonl", *told))
    left = [{**record, "row": i} for i, record in enumerate(gold) if record["relation"] != "na"]
    jobs, _ = explanation_jobs(left, {"made_by": SCHEMA}, PromptTemplate.load("edkg"), Sampling())
    answers = [asyncio.run(backend.complete(job.ask(0, 1, 0))).text for job in jobs]
    assert [json.loads(answer)["explanation"] for answer in answers] == ["number 1", "number 3"]


def test_answers_of_an_earlier_run_are_replayed(tmp_path: Path) -> None:
    row = {"key": request().key("recorded"), "text": "words"}
    backend = RecordedBackend(write(tmp_path / "answers.jsonl", row, {"key": "k", "failed": "why"}))
    assert asyncio.run(backend.complete(request())).text == "words"
    with pytest.raises(RefusedError):
        asyncio.run(backend.complete(request(1)))


@pytest.mark.parametrize("content", ["{", "[]", '{"row": 1}', '{"context": "x"}'])
def test_a_wrong_recorded_line_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("\n" + content)
    with pytest.raises(InvalidRowError, match=r"r\.jsonl, line 2"):
        RecordedBackend(path)
    with pytest.raises(TkreError, match="cannot read"):
        RecordedBackend(tmp_path / "none.jsonl")
