"""A visitor's relations: what they are taught, and that nobody else's change."""

from __future__ import annotations

import copy

import pytest
import torch

from tkre_hf.errors import TkreError
from tkre_hf.serve import limits
from tkre_hf.serve.session import STARTER, THRESHOLD, Extractor, Session
from tkre_hf.tkre.pipeline import RelationExtractionPipeline

from ..conftest import RELATIONS

MARKED = "[E1]Kiel[/E1] is the capital of [E2]Elba[/E2] ."
OTHER = "[E2]Ada[/E2] has hired [E1]Bruno[/E1] again ."


def test_a_visitor_starts_with_the_pipelines_relations(pipe: RelationExtractionPipeline) -> None:
    extractor = Extractor(pipe)
    assert extractor.relations(extractor.start) == list(RELATIONS)
    entries, effects = extractor.explain(extractor.start, MARKED)
    assert {entry["relation"] for entry in entries} == {*RELATIONS, None} and effects


def test_without_any_relation_there_are_some_to_begin_with(loaded: RelationExtractionPipeline) -> None:
    extractor = Extractor(loaded)
    assert extractor.relations(extractor.start) == list(STARTER)
    assert extractor.start.threshold == THRESHOLD
    loaded.prototypes = None


def test_a_new_relation_is_what_the_pipeline_makes_of_it(pipe: RelationExtractionPipeline) -> None:
    extractor = Extractor(pipe)
    session = extractor.add(extractor.start, "rules", [MARKED], "who decides")
    pipe.add("rules", [MARKED], "who decides")
    assert session.known is not None and pipe.prototypes is not None
    assert torch.equal(session.known.prototypes, pipe.prototypes.prototypes)
    assert session.examples["rules"] == (MARKED,)


def test_more_examples_are_as_good_as_all_at_once(pipe: RelationExtractionPipeline) -> None:
    extractor = Extractor(pipe)
    one = extractor.add(extractor.start, "rules", [MARKED], "who decides")
    both = extractor.add(one, "rules", [OTHER])
    at_once = extractor.add(extractor.start, "rules", [MARKED, OTHER], "who decides")
    assert both.known is not None and at_once.known is not None and one.known is not None
    assert both.known.relations == at_once.known.relations
    torch.testing.assert_close(both.known.prototypes, at_once.known.prototypes)
    assert not torch.allclose(both.known.prototypes[-1], one.known.prototypes[-1])
    torch.testing.assert_close(both.known.prototypes[:-1], one.known.prototypes[:-1])
    assert both.examples["rules"] == (MARKED, OTHER)


def test_examples_bring_a_sentence_nearer(pipe: RelationExtractionPipeline) -> None:
    extractor = Extractor(pipe)

    def similarity(session: Session) -> float:
        (found,) = (e["similarity"] for e in extractor.explain(session, OTHER)[0] if e["relation"] == "mother")
        return float(found)

    assert similarity(extractor.add(extractor.start, "mother", [OTHER])) > similarity(extractor.start)


def test_one_visitors_relations_are_not_anothers(pipe: RelationExtractionPipeline) -> None:
    extractor = Extractor(pipe)
    ours, theirs = copy.deepcopy(extractor.start), copy.deepcopy(extractor.start)
    before = extractor.explain(theirs, MARKED)
    ours = extractor.add(ours, "rules", [MARKED])
    ours = extractor.remove(ours, "capital")
    assert extractor.explain(theirs, MARKED) == before
    assert extractor.relations(theirs) == list(RELATIONS) == pipe.relations
    assert extractor.relations(ours) == [*(label for label in RELATIONS if label != "capital"), "rules"]


def test_all_may_be_removed_and_others_added(pipe: RelationExtractionPipeline) -> None:
    extractor = Extractor(pipe)
    session = extractor.start
    for label in RELATIONS:
        session = extractor.remove(session, label)
    with pytest.raises(TkreError, match="no relations yet"):
        extractor.explain(session, MARKED)
    session = extractor.add(session, "rules", [MARKED])
    assert extractor.relations(session) == ["rules"]


def test_the_threshold_is_the_visitors(pipe: RelationExtractionPipeline) -> None:
    extractor = Extractor(pipe)
    assert extractor.explain(extractor.start, MARKED, 1.0)[0][0]["relation"] is None
    assert extractor.explain(extractor.start, MARKED, 0.0)[0][0]["relation"] is not None


@pytest.mark.parametrize(
    ("relation", "sentences", "message"),
    [
        ("", [MARKED], "name the relation"),
        ("capital", [], "known already"),
        ("rules", ["Kiel is the capital of Elba."], "mark head and tail"),
        ("rules", ["[E1]Kiel[/E1] is the capital of Elba."], "marks of the tail"),
        ("rules", ["x" * (limits.SENTENCE_CHARACTERS + 1)], "at most 20,000"),
        ("rules", [MARKED] * (limits.SUPPORTS + 1), "more than 1,000 examples"),
    ],
)
def test_what_teaches_nothing_is_refused(
    relation: str, sentences: list[str], message: str, pipe: RelationExtractionPipeline
) -> None:
    extractor = Extractor(pipe)
    with pytest.raises(TkreError, match=message):
        extractor.add(extractor.start, relation, sentences)
    with pytest.raises(TkreError, match="no relation 'rules' to remove"):
        extractor.remove(extractor.start, "rules")
