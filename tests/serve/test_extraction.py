"""From a paragraph to a graph: sentences, entities, edges, and a picture that hostile names don't spoil."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tkre_hf.errors import TkreError
from tkre_hf.serve.extraction import Triple, extract, read_paragraph, to_csv
from tkre_hf.serve.session import Extractor
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.pipeline import RelationExtractionPipeline

from ..conftest import RELATIONS
from .conftest import HOSTILE

PARAGRAPH = (
    "[Kiel] is the capital of [Elba]. Ada wrote. In 1901 [Dr. Ada Hull] wrote [Lima]\n[Jena] belongs to [Kiel]!"
)


def test_a_paragraph_is_sentences_with_their_entities() -> None:
    sentences = read_paragraph(PARAGRAPH)
    assert [sentence.text for sentence in sentences] == [
        "Kiel is the capital of Elba.",
        "Ada wrote.",
        "In 1901 Dr. Ada Hull wrote Lima",
        "Jena belongs to Kiel!",
    ]
    pairs = [[(a.text, b.text) for a, b in sentence.pairs or ()] for sentence in sentences]
    assert pairs == [
        [("Kiel", "Elba"), ("Elba", "Kiel")],
        [],
        [("Dr. Ada Hull", "Lima"), ("Lima", "Dr. Ada Hull")],
        [("Jena", "Kiel"), ("Kiel", "Jena")],
    ]
    assert all(sentence.pairs is None for sentence in read_paragraph("Kiel rules. Elba too."))


def test_more_entities_than_make_sense_are_refused_before_their_pairs_are_made(
    pipe: RelationExtractionPipeline,
) -> None:
    text = "[a]" * 6_666
    with pytest.raises(TkreError, match="the entities make 44,428,890 pairs; at most"):
        extract(pipe, text, 0.5)
    # As many in sentences of their own make none.
    assert len(read_paragraph("[Ada] writes. " * 1_400)) == 1_400


def test_an_edge_follows_the_text_or_the_clearly_better_direction(pipe: RelationExtractionPipeline) -> None:
    pipe.na_threshold = 0.0
    triples = extract(pipe, PARAGRAPH, 0.0)
    assert len(triples) == 3
    for triple, marked in zip(
        triples,
        ("[E1]Kiel[/E1] is the capital of [E2]Elba[/E2].", "In 1901 [E1]Dr. Ada Hull[/E1] wrote [E2]Lima[/E2]"),
        strict=False,
    ):
        directions = [pipe(marked)[0], pipe(marked.translate(str.maketrans("12", "21")).replace("2902", "1901"))[0]]
        best = directions[0] if directions[1]["score"] <= directions[0]["score"] + 0.1 else directions[1]
        assert (triple.head, triple.tail) == (best["head"]["text"], best["tail"]["text"])
        assert triple.relation == best["relation"] and triple.score == pytest.approx(best["score"], abs=1e-5)
    least = sorted(triple.score for triple in triples)[1]
    assert extract(pipe, PARAGRAPH, least - 1e-4) == [t for t in triples if t.score >= least - 1e-4]


def test_the_direction_against_the_text_has_to_be_clearly_better() -> None:
    class Scores:
        """A pipeline that gives the second direction a score."""

        ner = None

        def __init__(self, second: float) -> None:
            self.second = second

        def __call__(self, sentences: list[Any], batch_size: int) -> list[list[dict[str, Any]]]:
            (sentence,) = sentences
            return [
                [
                    {"relation": "rules", "score": score, "head": head.to_dict(), "tail": tail.to_dict()}
                    for score, (head, tail) in zip((0.6, self.second), sentence.pairs, strict=True)
                ]
            ]

    heads = [extract(Scores(second), "[Kiel] rules [Elba].", 0.5)[0].head for second in (0.65, 0.75)]  # type: ignore[arg-type]
    assert heads == ["Kiel", "Elba"]


def test_none_of_the_above_and_a_name_twice_are_no_edges(pipe: RelationExtractionPipeline) -> None:
    pipe.na_threshold = 1.0
    assert extract(pipe, PARAGRAPH, 0.0) == []
    pipe.na_threshold = 0.0
    assert extract(pipe, "[Kiel] belongs to [Kiel].", 0.0) == []


@pytest.mark.parametrize("answer", ["none", "capital"])
def test_a_classifiers_label_of_no_relation_is_no_edge(answer: str, make_classifier: Callable[[str], Path]) -> None:
    from tkre_hf.serve import markup

    extractor = Extractor(load_pipeline(str(make_classifier(answer)), device="cpu"))
    assert extractor.relations(extractor.start) == ["capital"]
    triples = extract(extractor.view(extractor.start), PARAGRAPH, 0.5)
    assert [triple.relation for triple in triples] == ["capital"] * (3 if answer == "capital" else 0)
    assert "none" not in to_csv(triples)
    # In the list of all scores it has its name.
    entries, effects = extractor.explain(extractor.start, "[E1]Kiel[/E1] rules [E2]Elba[/E2]")
    page = _Tags(markup.ranking(entries))
    assert "none of the above (none)" in page.text and "below" not in page.text and "capital" in page.text
    label = "none of the above (none)" if answer == "none" else "capital"
    assert f"“{label}”" in _Tags(markup.words("Kiel rules Elba", entries[0], effects)).text


def test_what_is_found_twice_counts_once(pipe: RelationExtractionPipeline) -> None:
    pipe.na_threshold = 0.0
    assert len(extract(pipe, "[Kiel] belongs to [Elba]. [Kiel] belongs to [Elba].", 0.0)) == 1
    # Whichever way round it is told: one of the two sentences is the surer one.
    for label in list(RELATIONS)[1:]:
        pipe.remove(label)
    both = ["[Kiel] belongs to [Elba].", "[Elba] belongs to [Jena], [Kiel] too."]
    alone = [triple for text in both for triple in extract(pipe, text, 0.0)]
    assert len(alone) == 4 and len(extract(pipe, " ".join(both), 0.0)) == 3


def test_entities_are_found_where_none_are_marked(pipe: RelationExtractionPipeline) -> None:
    def ner(texts: list[str], aggregation_strategy: str) -> list[list[dict[str, Any]]]:
        names = ("Kiel", "Elba")
        return [
            [{"start": text.index(name), "end": text.index(name) + 4, "entity_group": "LOC"} for name in names]
            for text in texts
        ]

    pipe.na_threshold = 0.0
    with pytest.raises(TkreError, match="mark the entities"):
        extract(pipe, "Kiel is the capital of Elba.", 0.0)
    pipe.ner = ner
    (triple,) = extract(pipe, "Kiel is the capital of Elba.", 0.0)
    assert {triple.head, triple.tail} == {"Kiel", "Elba"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "type a paragraph"),
        ("[Kiel] rules.", "no two entities in one sentence"),
        (" and ".join(["[Kiel]"] * 30), "870 pairs; at most 600"),
    ],
)
def test_a_paragraph_without_a_graph_is_refused(text: str, message: str, pipe: RelationExtractionPipeline) -> None:
    with pytest.raises(TkreError, match=message):
        extract(pipe, text, 0.5)


def test_the_table_is_csv() -> None:
    text = to_csv([Triple('a "b", c', "is\nin", "d", 0.5, "e")])
    assert list(csv.reader(io.StringIO(text))) == [
        ["head", "relation", "tail", "score", "sentence"],
        ['a "b", c', "is\nin", "d", "0.5000", "e"],
    ]


def test_the_picture_shows_every_name_once_and_nothing_but_text() -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib, of the extra [serve]")
    pytest.importorskip("networkx", reason="the picture needs networkx, of the extra [serve]")
    from tkre_hf.serve.drawing import draw

    names = ["Kiel", "$x^2$ & <b>", "株式会社\x00", "Elba", "Jena"]
    edges = [(0, 1), (0, 3), (3, 0), (4, 2), (0, 4)]
    triples = [Triple(names[a], f"relation {a}{b}", names[b], 0.25, "") for a, b in edges]
    triples.append(Triple("<script>x</script>", HOSTILE, "Lima", 0.5, ""))
    root = ET.fromstring(draw(triples))
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    for name in ("Kiel", "$x^2$ & <b>", "Elba", "Jena", "Lima", "<script>x</script>"):
        assert texts.count(name) == 1
    assert sum("relation" in str(text) and "25%" in str(text) for text in texts) == len(edges)
    assert not [element for element in root.iter() if element.tag.endswith(("script", "image", "foreignObject"))]


class _Tags(HTMLParser):
    """Which tags a page has, and which of their attributes run scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, value in attrs if name.startswith("on") or "javascript:" in str(value)]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_are_text_on_the_page(pipe: RelationExtractionPipeline) -> None:
    from tkre_hf.serve import markup
    from tkre_hf.tkre.attribution import word_effects

    hostile = HOSTILE + "'\" onmouseover='hacked=1'"
    sentence = "[E1]Kiel<img src=x onerror='hacked=1'>[/E1] is <b onclick=hacked=1>here</b> in [E2]Elba[/E2]"
    pipe.add(hostile, ["[E1]Kiel[/E1] is in [E2]Elba[/E2]"], hostile)
    result, effects = word_effects(pipe, sentence)
    triples = [Triple(hostile, hostile, hostile, 0.5, hostile)]
    text = sentence
    for mark in ("[E1]", "[/E1]", "[E2]", "[/E2]"):
        text = text.replace(mark, "")
    allowed = {"p", "span", "sub", "b", "i", "div", "table", "thead", "tbody", "tr", "th", "td"}
    for html in (
        markup.note(hostile),
        markup.ranking([*result, {**result[0], "relation": hostile}]),
        markup.words(text, {**result[0], "relation": hostile}, effects),
        markup.relations(pipe.prototypes, {hostile: (hostile,)}),
        markup.labels([hostile]),
        markup.triples(triples),
    ):
        page = _Tags(html)
        assert page.tags <= allowed | {"details", "summary", "ul", "li", "a"}
        assert page.handlers == [] and "<img src=x onerror='hacked=1'>" in page.text
    picture = _Tags(markup.picture("<svg/>", triples))
    assert picture.tags == {"img"} and picture.handlers == []
