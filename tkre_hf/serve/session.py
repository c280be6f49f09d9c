"""What one visitor has taught the model: relations of their own, over a model that all visitors share."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tkre_hf.errors import TkreError
from tkre_hf.tkre.attribution import WordEffect, word_effects
from tkre_hf.tkre.inputs import read_input
from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
from tkre_hf.tkre.pipeline import RelationExtractionPipeline
from tkre_hf.tkre.prototypes import RelationPrototypes

from . import limits

# Where neither checkpoint nor examples say below which similarity a sentence has none of the relations. The cosines of
# `tkre demo`'s checkpoint and of larger ones, of sentences with a relation and without, meet near it.
THRESHOLD = 0.65

# What a visitor finds where nobody said which relations there are.
STARTER = {
    "capital of": "city that is the seat of government of a country",
    "spouse": "person that somebody is married to",
    "author": "writer of a book or another written work",
    "founded by": "person who founded an organization",
}


@dataclass(frozen=True)
class Session:
    """One visitor's relations; nothing of it changes, what changes it makes another.

    Args:
        known: The relations as the model sees them; ``None`` where there are none, or the model is a classifier.
        examples: Each one's sentences that this visitor gave, as they were typed.
    """

    known: RelationPrototypes | None = None
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Similarity below which a sentence has none of the relations."""
        known = self.known
        return THRESHOLD if known is None or known.na_threshold is None else known.na_threshold


class Extractor:
    """Answers for every visitor with their own relations; model and processor are there once.

    Args:
        pipe: The pipeline, with the relations that every visitor starts with.
    """

    def __init__(self, pipe: RelationExtractionPipeline) -> None:
        self.pipe = pipe
        self.learns = not isinstance(pipe.model, TKREForRelationClassification)
        if self.learns and pipe.prototypes is None:
            pipe.fit(descriptions=STARTER)
        self.start = Session(pipe.prototypes if self.learns else None)

    def relations(self, session: Session) -> list[str]:
        """The labels of the relations that a visitor's answers are chosen from."""
        if not self.learns:
            return self.pipe.relations
        return list(session.known.relations) if session.known is not None else []

    def view(self, session: Session, threshold: float | None = None) -> RelationExtractionPipeline:
        """A pipeline of its own with a visitor's relations, over the shared model.

        Args:
            session: The visitor's.
            threshold: Of none of the above; the session's by default.
        """
        pipe = copy.copy(self.pipe)
        known = session.known
        if known is not None:
            known = replace(known, na_threshold=session.threshold if threshold is None else threshold)
        pipe.prototypes = known
        return pipe

    def explain(
        self, session: Session, sentence: Any, threshold: float | None = None
    ) -> tuple[list[dict[str, Any]], list[WordEffect]]:
        """All relations of a sentence, the best first, and what each word does for the best.

        Raises:
            TkreError: The sentence is wrong, or there are no relations.
        """
        return word_effects(self.view(session, threshold), sentence)

    def add(self, session: Session, relation: str, sentences: Sequence[str], description: str = "") -> Session:
        """The session with one relation more, or with more examples of one that is known.

        Args:
            session: The visitor's.
            relation: The label.
            sentences: Marked sentences.
            description: What a new relation means; that of a known one stays.

        Raises:
            TkreError: There is nothing to learn, a sentence is wrong, or there are too many.
        """
        if not relation:
            raise TkreError("name the relation first: choose one, or type a new one")
        for sentence in sentences:
            pairs = read_input(limits.checked_text(sentence, "an example", limits.SENTENCE_CHARACTERS), "examples", 0)
            if pairs.pairs is None:
                raise TkreError(
                    "mark head and tail of each example, as in '[E1]Oslo[/E1] is the capital of [E2]Norway[/E2].'"
                )
        known = session.known
        supports = len(known.support_labels) if known is not None else 0
        if supports + len(sentences) > limits.SUPPORTS:
            raise TkreError(f"that would be more than {limits.SUPPORTS:,} examples: start over, or leave some out")
        if known is None or relation not in known.relations:
            if known is not None and len(known.relations) >= limits.RELATIONS:
                raise TkreError(f"there are {limits.RELATIONS} relations already: remove one first")
            view = copy.copy(self.pipe)
            view.prototypes = known
            made = view.add(relation, sentences, description).prototypes
        elif not sentences:
            raise TkreError(f"{relation!r} is known already: give it examples, or remove it first")
        else:
            made = self._more(known, relation, sentences)
        examples = {**session.examples, relation: (*session.examples.get(relation, ()), *sentences)}
        return Session(made, examples)

    def _more(self, known: RelationPrototypes, relation: str, sentences: Sequence[str]) -> RelationPrototypes:
        """With more examples of a known relation, of which none is encoded twice."""
        number = known.relations.index(relation)
        info, anchor = known.info[number], known.anchors[number : number + 1]
        alone = copy.copy(self.pipe)
        alone.prototypes = None
        new = alone.fit({relation: sentences}, {relation: info}).prototypes
        assert new is not None
        embeds = torch.cat([known.support_embeds[known.support_labels == number], new.support_embeds])
        return known.remove(relation).add(self._model, relation, info, anchor, embeds)

    @property
    def _model(self) -> Any:
        return self.pipe.model

    def remove(self, session: Session, relation: str) -> Session:
        """The session with one relation less.

        Raises:
            TkreError: It isn't known.
        """
        view = self.view(session)
        if relation not in self.relations(session):
            raise TkreError(f"there is no relation {relation!r} to remove")
        assert session.known is not None
        known = view.remove(relation).prototypes
        if known is not None:
            known = replace(known, na_threshold=session.known.na_threshold)
        return Session(known, {name: texts for name, texts in session.examples.items() if name != relation})
