"""spaCy's component says what the pipeline says, in its own spans."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tkre_hf.errors import TkreError
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.modeling_tkre import TKREForFewShotClassification
from tkre_hf.tkre.processing_tkre import TKREProcessor

from .conftest import NAMES, RELATIONS

spacy = pytest.importorskip("spacy")

import tkre_hf.spacy_component  # noqa: E402, F401  (where tkre-hf isn't installed anew, spaCy doesn't find it itself)

DESCRIPTIONS = {label: text for label, (_, text, _) in RELATIONS.items()}
TEXTS = ["Kiel is the capital of Elba . Ada works for Lima .", "Nobody is here .", "Ada works for Lima ."]


@pytest.fixture(scope="module")
def checkpoint(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few-shot model without relations."""
    folder = tmp_path_factory.mktemp("checkpoint")
    processor = TKREProcessor.from_backbone(str(backbone), max_length=64)
    model = TKREForFewShotClassification.from_backbone(
        str(backbone), vocab_size=len(processor.tokenizer), new_tokens=processor.new_tokens
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make(checkpoint: Path, sentences: bool = True, **config: Any) -> Any:
    """A pipeline that takes the corpus' names for things."""
    nlp = spacy.blank("en")
    if sentences:
        nlp.add_pipe("sentencizer")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "THING", "pattern": name} for name in NAMES])
    nlp.add_pipe("tkre", config={"model": str(checkpoint), "descriptions": DESCRIPTIONS, "device": "cpu", **config})
    return nlp


def said(doc: Any) -> list[tuple[str, str, str]]:
    return [(head.text, relation, tail.text) for head, relation, tail, _ in doc._.relations]


def test_relations_are_what_the_pipeline_says(checkpoint: Path) -> None:
    doc = make(checkpoint)(TEXTS[0])
    pipe = load_pipeline(str(checkpoint), device="cpu")
    pipe.fit(descriptions=DESCRIPTIONS)
    marked = ["[E1]Kiel[/E1] is the capital of [E2]Elba[/E2] .", "[E2]Ada[/E2] works for [E1]Lima[/E1] ."]
    relations = doc._.relations
    # Entities of two sentences have no relation.
    assert [(r.head.text, r.tail.text) for r in relations] == [
        ("Kiel", "Elba"), ("Elba", "Kiel"), ("Ada", "Lima"), ("Lima", "Ada")
    ]  # fmt: skip
    for (expected,), found in zip(pipe(marked), (relations[0], relations[3]), strict=True):
        assert found.relation == expected["relation"] and found.score == pytest.approx(expected["score"], abs=1e-5)
    assert relations[0].head.label_ == "THING" and relations[0].head.doc is doc
    assert len(make(checkpoint, sentences=False)(TEXTS[0])._.relations) == 4 * 3


def test_a_stream_is_the_same_as_one_by_one(checkpoint: Path) -> None:
    nlp = make(checkpoint)
    alone = [said(nlp(text)) for text in TEXTS * 3]
    assert [said(doc) for doc in nlp.pipe(TEXTS * 3, batch_size=4)] == alone
    assert [len(relations) for relations in alone[:3]] == [4, 0, 2]


def test_a_pipeline_and_its_documents_are_saved(checkpoint: Path, tmp_path: Path) -> None:
    nlp = make(checkpoint, min_score=0.1, na_threshold=0.2)
    doc = nlp(TEXTS[0])
    config = json.loads(json.dumps(nlp.config["components"]["tkre"]))
    assert config["descriptions"] == DESCRIPTIONS and config["min_score"] == 0.1
    nlp.to_disk(tmp_path / "nlp")
    again = spacy.load(tmp_path / "nlp")
    assert said(again(TEXTS[0])) == said(doc)
    copy = spacy.tokens.Doc(nlp.vocab).from_bytes(doc.to_bytes())
    assert said(copy) == said(doc) and len(said(doc)) > 0


def test_entities_may_be_other_spans(checkpoint: Path) -> None:
    nlp = make(checkpoint, spans_key="mine")
    doc = nlp.make_doc("Kiel is the capital of Elba .")
    doc.spans["mine"] = [doc[0:1], doc[3:4], doc[0:1]]
    assert [(head, tail) for head, _, tail in said(nlp.get_pipe("tkre")(doc))] == [
        ("Kiel", "capital"),
        ("capital", "Kiel"),
    ]
    with pytest.raises(TkreError, match="the document has no spans 'mine', but none"):
        nlp("Kiel is here .")
    errors: list[Any] = []
    nlp.get_pipe("tkre").set_error_handler(lambda name, component, docs, error: errors.append((name, error)))
    (other,) = nlp.get_pipe("tkre").pipe([nlp.make_doc("Kiel")])
    assert other._.relations == [] and errors[0][0] == "tkre" and isinstance(errors[0][1], TkreError)


def test_scores_and_none_of_the_above_leave_relations_out(checkpoint: Path) -> None:
    assert said(make(checkpoint, na_threshold=1.0)(TEXTS[0])) == []
    assert said(make(checkpoint, min_score=1.0)(TEXTS[0])) == []
    with pytest.raises(TkreError, match="knows no relations yet"):
        make(checkpoint, descriptions={})


def test_a_classifiers_label_of_no_relation_is_none(make_classifier: Callable[[str], Path]) -> None:
    assert said(make(make_classifier("none"), descriptions={})(TEXTS[2])) == []
    assert said(make(make_classifier("capital"), descriptions={})(TEXTS[2])) == [
        ("Ada", "capital", "Lima"),
        ("Lima", "capital", "Ada"),
    ]


def test_what_isnt_set_is_as_the_component_has_it(checkpoint: Path) -> None:
    config = make(checkpoint).config["components"]["tkre"]
    assert config == {
        "factory": "tkre", "model": str(checkpoint), "descriptions": DESCRIPTIONS, "na_threshold": None,
        "min_score": 0.0, "spans_key": None, "batch_size": 32, "device": "cpu",
    }  # fmt: skip
    with pytest.raises(Exception, match="min_skore"):
        make(checkpoint, min_skore=0.5)
