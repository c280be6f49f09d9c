"""Which words an answer rests on: leaving one out is scoring the sentence without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import pipeline

import tkre_hf  # noqa: F401  (registers the task)
from tkre_hf.errors import TkreError
from tkre_hf.tkre.attribution import word_effects, word_spans
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.tkre.pipeline import RelationExtractionPipeline
from tkre_hf.tkre.processing_tkre import TKREProcessor

from ..conftest import RELATIONS

SENTENCE = "In 1901 [E2]Kiel II[/E2] wrote [E1]Elba[/E1] again, and Ada works."


@pytest.fixture
def pipe(model: TKREForPreTraining, processor: TKREProcessor, tmp_path: Path) -> RelationExtractionPipeline:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    pipe = pipeline("relation-extraction", model=str(tmp_path), device="cpu")  # type: ignore[call-overload]
    assert isinstance(pipe, RelationExtractionPipeline)
    return pipe.fit(descriptions={label: text for label, (_, text, _) in RELATIONS.items()})


def test_an_effect_is_what_the_score_loses_without_the_word(pipe: RelationExtractionPipeline) -> None:
    result, effects = word_effects(pipe, SENTENCE, batch_size=3)
    assert result == pipe(SENTENCE, top_k=None)
    assert [effect.text for effect in effects] == ["In", "1901", "wrote", "again", "and", "Ada", "works"]
    best = result[0]
    for effect in effects:
        # Each of these words stands once in the sentence, whose marks are the same without it.
        found = pipe(SENTENCE.replace(effect.text, "", 1), top_k=None)
        (score,) = (entry["score"] for entry in found if entry["relation"] == best["relation"])
        assert effect.effect == pytest.approx(best["score"] - score, abs=1e-5)
    assert len({round(effect.effect, 6) for effect in effects}) > 3


def test_none_of_the_above_is_explained_too(pipe: RelationExtractionPipeline) -> None:
    pipe.na_threshold = 0.999
    result, effects = word_effects(pipe, SENTENCE)
    assert result[0]["relation"] is None and any(effect.effect for effect in effects)


def test_spans_are_those_of_the_text_without_marks(pipe: RelationExtractionPipeline) -> None:
    _, effects = word_effects(pipe, SENTENCE)
    text = "In 1901 Kiel II wrote Elba again, and Ada works."
    assert all(text[effect.start : effect.end] == effect.text for effect in effects)


def test_the_nearest_words_are_left_out_where_there_are_many(pipe: RelationExtractionPipeline) -> None:
    _, effects = word_effects(pipe, SENTENCE, limit=3)
    assert [effect.text for effect in effects] == ["1901", "wrote", "again"]


def test_a_sentence_of_two_entities_alone_has_no_effects(pipe: RelationExtractionPipeline) -> None:
    assert word_effects(pipe, "[E1]Kiel[/E1] [E2]Elba[/E2]")[1] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "Kiel and Elba",
        {"text": "Kiel and Elba", "entities": [[0, 4], [9, 13]]},
        {"words": ["Kiel", "and", "Elba"], "head": [0, 1], "tail": [2, 3]},
    ],
)
def test_what_is_no_text_with_one_pair_is_refused(sentence: object, pipe: RelationExtractionPipeline) -> None:
    with pytest.raises(TkreError, match="give (one head and one tail|a text)"):
        word_effects(pipe, sentence)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "The mother-in-law's U.S. firm (née Ærø), 3.5%",
            ["The", "mother-in-law's", "U.S", ".", "firm", "(", "née", "Ærø", ")", ",", "3.5", "%"],
        ),
        # Marks that combine with their letter; the last é is two characters.
        ("दिल्ली-वासी, cafe\u0301's", ["दिल्ली-वासी", ",", "cafe\u0301's"]),
    ],
)
def test_words_keep_what_belongs_to_them(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in word_spans(text)] == words
