"""The served page, as programs see it: the endpoint, the visitors' sessions, and what is refused."""

from __future__ import annotations

import asyncio
import http.client
import threading
import urllib.error
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from tkre_hf.errors import TkreError
from tkre_hf.serve.limits import BODY_BYTES, BodyLimit

from ..conftest import RELATIONS
from .conftest import Page

pytest.importorskip("gradio", reason="the page needs Gradio, of the extra [serve]")

MARKED = "[E1]Kiel[/E1] is the capital of [E2]Elba[/E2] ."
THRESHOLD = 0.65
REQUESTS, AT_ONCE = 60, 20


def test_the_endpoint_gives_the_pipelines_results(page: Page) -> None:
    found = page.extract(MARKED, 3)
    assert len(found) == 3 and {entry["relation"] for entry in found} <= {*RELATIONS, None}
    assert [entry["score"] for entry in found] == sorted((entry["score"] for entry in found), reverse=True)
    assert found[0]["head"] == {"start": 0, "end": 4, "text": "Kiel"}
    assert page.extract(MARKED) == found[:1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Kiel is the capital of Elba."], "mark head and tail"),
        (["[E1]Kiel[/E1] is the capital of Elba."], "marks of the tail"),
        ([""], "expected a sentence"),
        ([["a", "list"]], "expected a text, found list"),
        (["x" * 20_001], "20,001 characters; at most 20,000"),
        ([MARKED, 0], "top_k is 0"),
    ],
)
def test_the_endpoint_says_what_is_wrong(arguments: list[Any], message: str, page: Page) -> None:
    with pytest.raises(RuntimeError, match=message):
        page.extract(*arguments)


def test_many_requests_at_once_all_end_well(page: Page) -> None:
    names = ["Kiel", "Elba", "Jena", "Lima"]
    sentences = [f"[E1]{names[i % 4]}[/E1] is {'again ' * (i % 7)}of [E2]Hull[/E2]" for i in range(REQUESTS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(page.extract, sentences))
    # Each request got its own answer, not a neighbour's.
    assert [result[0]["head"]["text"] for result in results] == [names[i % 4] for i in range(REQUESTS)]
    assert [result[0]["tail"]["start"] for result in results] == [11 + 6 * (i % 7) for i in range(REQUESTS)]


def test_a_visitors_examples_are_theirs_alone(page: Page) -> None:
    _, table, choices, *_ = page.act("ours", "on_add", "rules", "who decides", MARKED, None)
    assert "rules" in table and "who decides" in table
    assert [label for label, _ in choices["choices"]] == [*RELATIONS, "rules"]
    ranked, words = page.act("ours", "ranking", MARKED, None, THRESHOLD, None)
    theirs, _ = page.act("theirs", "ranking", MARKED, None, THRESHOLD, None)
    assert "rules" in ranked and "rules" not in theirs and "none of the above" in theirs
    assert 'class="tkre-entity tkre-head">Kiel<' in words and "data-effect" in words
    _, table, *_ = page.act("theirs", "on_remove", "capital", None)
    assert "capital" not in table
    assert "rules" not in [entry["relation"] for entry in page.extract(MARKED, 7)]
    again, _ = page.act("ours", "ranking", MARKED, None, THRESHOLD, None)
    assert again == ranked


def test_a_sentence_becomes_an_example(page: Page) -> None:
    picked = {
        "text": "Kiel rules Elba .",
        "words": [[0, 4], [5, 10], [11, 15], [16, 17]],
        "head": [0, 1],
        "tail": [2, 3],
    }
    _, table, *_ = page.act("third", "on_add_sentence", "rules", "", "Kiel rules Elba .", picked, None)
    assert "<li>[E1]Kiel[/E1] rules [E2]Elba[/E2] .</li>" in table


def test_a_mistake_is_told_as_text(page: Page) -> None:
    with pytest.raises(RuntimeError, match="&lt;b&gt;x&lt;/b&gt;"):
        page.act("fourth", "on_remove", "<b>x</b>", None)


def test_a_paragraph_becomes_a_graph(page: Page) -> None:
    picture, table = page.act("fifth", "graph", "[Kiel] is the capital of [Elba].", 0.0, None)
    # Whether the tiny model finds a relation here is its own affair, but it is one or the other.
    assert ("<img" in picture and "Download as CSV" in table) or "No relation reaches" in picture


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_beyond_the_limit_is_refused(declared: bool, page: Page) -> None:
    place = urlsplit(page.url)
    assert place.hostname is not None
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    body = b'{"data": ["' + b"x" * BODY_BYTES + b'"]}'
    path = f"{place.path}gradio_api/call/extract"
    try:
        if declared:
            connection.request("POST", path, headers={"Content-Length": str(len(body))})
        else:
            pieces = (body[i : i + 100_000] for i in range(0, len(body), 100_000))
            connection.request("POST", path, pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        answer = connection.getresponse()
        assert answer.status == 413 and b"larger than 1,000,000 bytes" in answer.read()
    finally:
        connection.close()
    assert page.extract(MARKED)


def test_broken_requests_leave_the_page_alive(page: Page) -> None:
    for body in (b"", b"{", b"[]", b'{"data": 3}', b'{"data": []}'):
        try:
            page.post("call/extract", body)
        except urllib.error.HTTPError as error:
            assert error.code < 500, body
    assert page.extract(MARKED)


def test_a_body_within_the_limit_arrives_whole() -> None:
    seen: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["body"])

    parts = [b"a" * 6, b"b" * 4]

    async def call(parts: list[bytes]) -> list[MutableMapping[str, Any]]:
        messages = [
            {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)
        ]
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return messages.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await BodyLimit(app, limit=10)({"type": "http", "method": "POST", "headers": []}, receive, send)
        return sent

    assert asyncio.run(call(parts)) == [] and seen == [b"aaaaaabbbb"]
    (start, _) = asyncio.run(call([*parts, b"c"]))
    assert start["status"] == 413 and len(seen) == 1


def test_words_of_a_typed_sentence() -> None:
    from tkre_hf.serve.app import chosen, marked, read_words

    value = read_words(" [E2]Ada Hull[/E2] wrote [E1]Elba[/E1]. ")
    assert value["text"] == "Ada Hull wrote Elba." and (value["head"], value["tail"]) == ([3, 4], [0, 2])
    assert marked(chosen("[E2]Ada Hull[/E2] wrote [E1]Elba[/E1].", value)) == "[E2]Ada Hull[/E2] wrote [E1]Elba[/E1]."
    assert read_words("[E1]Ada")["words"] and read_words("") == {"text": "", "words": [], "head": None, "tail": None}
    # What was chosen counts more than what is marked, as long as it belongs to the text.
    picked = {**value, "head": [2, 3], "tail": [3, 4]}
    assert marked(chosen("[E2]Ada Hull[/E2] wrote [E1]Elba[/E1].", picked)) == "Ada Hull [E1]wrote[/E1] [E2]Elba[/E2]."
    assert chosen("[E1]Ada[/E1] [E2]Hull[/E2]", picked).text == "Ada Hull"


@pytest.mark.parametrize(
    "picked",
    [None, 3, "x", {}, {"text": "Ada Hull"}]
    + [{"text": "Ada Hull", "head": head, "tail": [1, 2]} for head in (None, [0], [0, 9], [-1, 1], [1, 1], ["0", 1])],
)
def test_what_a_browser_sends_may_be_anything(picked: Any) -> None:
    from tkre_hf.serve.app import chosen

    with pytest.raises(TkreError, match="choose the head"):
        chosen("Ada Hull", picked)


def test_nothing_comes_from_another_server(page: Page) -> None:
    place = urlsplit(page.url)
    assert place.hostname is not None
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    connection.request("GET", "/theme.css")
    css = connection.getresponse().read().decode()
    connection.close()
    assert "--color-accent" in css and "http" not in css.replace("http://www.w3.org", "")
    assert not [thread for thread in threading.enumerate() if "version_check" in thread.name]
