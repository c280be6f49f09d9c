"""``pipeline("relation-extraction")``: what it finds is what the model says, in whatever batches, saved or not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

import tkre_hf  # noqa: F401  (registers the task)
from tkre_hf.data.relations import RelationInfo
from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.modeling_classification import TKREForRelationClassification
from tkre_hf.tkre.modeling_tkre import TKREForFewShotClassification, TKREForPreTraining, TKREModel
from tkre_hf.tkre.pipeline import RelationExtractionPipeline
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.prototypes import RelationPrototypes

from ..conftest import RELATIONS, tiny_bert

DESCRIPTIONS: dict[str, str | RelationInfo] = {
    label: RelationInfo(name, text) for label, (name, text, _) in RELATIONS.items()
}
MARKED = "[E1]Kiel[/E1] is the capital of [E2]Elba[/E2] ."


@pytest.fixture
def checkpoint(model: TKREForPreTraining, processor: TKREProcessor, tmp_path: Path) -> Path:
    """A folder as stage 2 leaves it."""
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def pipe(checkpoint: Path) -> RelationExtractionPipeline:
    """Without relations as yet."""
    return load(checkpoint)


@pytest.fixture
def split(records: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Three supports of each of six relations, and sentences of other lengths to extract from."""
    supports = [record for record in records if int(record["id"].split("-")[1]) < 3]
    return supports, [record for record in records if record not in supports]


def load(folder: Path, **settings: Any) -> RelationExtractionPipeline:
    pipe = pipeline("relation-extraction", model=str(folder), device="cpu", **settings)  # type: ignore[call-overload]
    assert isinstance(pipe, RelationExtractionPipeline)
    return pipe


def similarities(results: list[list[dict[str, Any]]]) -> list[dict[str | None, float]]:
    return [{entry["relation"]: entry["similarity"] for entry in result} for result in results]


def assert_same(found: list[dict[str | None, float]], expected: list[dict[str | None, float]]) -> None:
    """To the last bit but one, which a product of matrices of another shape may change."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=5e-7)


def assert_alike(found: list[list[dict[str, Any]]], expected: list[list[dict[str, Any]]]) -> None:
    """The same relations in the same order, but for those as good as equal; scores to rounding."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("head", "tail", "truncated"):
            assert [entry[name] for entry in ours] == [entry[name] for entry in theirs]
        for name in ("score", "similarity"):
            assert {e["relation"]: e[name] for e in ours} == pytest.approx(
                {e["relation"]: e[name] for e in theirs}, abs=2e-5
            )


def test_scores_are_the_models_own(
    pipe: RelationExtractionPipeline, split: tuple[list[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    supports, queries = split
    pipe.fit(supports, DESCRIPTIONS)
    pipe.na_threshold = 0.3
    results = pipe(queries, batch_size=4, top_k=None)

    processor, labels = pipe.processor, list(RELATIONS)
    model = TKREForFewShotClassification.from_pretrained(pipe.model.name_or_path).eval()
    model.config.na_threshold = 0.3

    def inputs(rows: list[dict[str, Any]], prefix: str = "") -> dict[str, torch.Tensor]:
        encoded = processor.encode(rows)
        padded = processor.pad([features["input_ids"] for features in encoded])
        padded["entity_spans"] = torch.tensor([features["entity_spans"] for features in encoded])
        return {f"{prefix}{name}": value for name, value in padded.items()}

    names, texts = [RELATIONS[label][0] for label in labels], [RELATIONS[label][1] for label in labels]
    anchors = {
        f"anchor_{name}": value for name, value in processor.pad(processor.encode_anchors(names, texts)).items()
    }
    with torch.no_grad():
        logits = model(
            **inputs(queries),
            **inputs(supports, "support_"),
            support_labels=torch.tensor([labels.index(row["relation"]) for row in supports]),
            **anchors,
        ).logits
    assert logits.shape == (len(queries), 7)
    for result, row in zip(results, logits, strict=True):
        expected = dict(zip([*labels, None], row.softmax(-1).tolist(), strict=True))
        assert {entry["relation"]: entry["score"] for entry in result} == pytest.approx(expected, abs=1e-5)
        cosines = dict(zip([*labels, None], (row * model.config.tau).tolist(), strict=True))
        assert {entry["relation"]: entry["similarity"] for entry in result} == pytest.approx(cosines, abs=1e-5)
        assert [entry["score"] for entry in result] == sorted((entry["score"] for entry in result), reverse=True)


def test_batches_and_order_do_not_matter(
    pipe: RelationExtractionPipeline, split: tuple[list[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    supports, queries = split
    pipe.fit(supports, DESCRIPTIONS)
    alone = [pipe(query, top_k=None) for query in queries]
    order = list(range(len(queries)))
    random.Random(0).shuffle(order)
    shuffled = [queries[i] for i in order]
    for batch_size in (1, 3, 64):
        assert_alike(pipe(queries, batch_size=batch_size, top_k=None), alone)
        assert_alike(pipe(shuffled, batch_size=batch_size, top_k=None), [alone[i] for i in order])
        streamed = pipe((query for query in shuffled), batch_size=batch_size, top_k=None)
        assert not isinstance(streamed, list)
        assert_alike(list(streamed), [alone[i] for i in order])


def test_a_list_mixes_sentences_of_any_number_of_pairs(pipe: RelationExtractionPipeline) -> None:
    pipe.fit(descriptions=DESCRIPTIONS)
    text = "Kiel is the capital of Elba and Lima ."
    spans = [(0, 4), (23, 27), (32, 36)]
    inputs = [
        {"text": text, "entities": []},
        {"text": text, "entities": spans},
        MARKED,
        {"text": text, "entities": spans[:1]},
        {"text": text, "head": spans[2], "tail": spans[0]},
        {"text": text, "entities": []},
    ]
    for batch_size in (1, 2, 4):
        results = pipe(inputs, batch_size=batch_size)
        assert [len(result) for result in results] == [0, 6, 1, 0, 1, 0]
        ends = [(entry["head"]["text"], entry["tail"]["text"]) for entry in results[1]]
        assert ends == [("Kiel", "Elba"), ("Kiel", "Lima"), ("Elba", "Kiel")] + [
            ("Elba", "Lima"), ("Lima", "Kiel"), ("Lima", "Elba")
        ]  # fmt: skip
        (pair,) = results[4]
        assert pair["head"] == {"start": 32, "end": 36, "text": "Lima"} == results[1][4]["head"]
        assert pair["similarity"] == pytest.approx(results[1][4]["similarity"], abs=1e-5)
    assert pipe([]) == [] and list(pipe(iter([]))) == []


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_data_set_and_its_column_are_read_as_they_come(batch_size: int, pipe: RelationExtractionPipeline) -> None:
    pipe.fit(descriptions=DESCRIPTIONS)
    texts = [MARKED, "[E1]Lima[/E1] spans [E2]Kiel[/E2] .", "[E2]Elba[/E2] has its capital , [E1]Oslo[/E1] ."]
    rows = Dataset.from_dict({"text": texts, "page": [1, 2, 3]})
    expected = similarities(pipe(texts, top_k=None))
    for inputs in (rows, rows["text"], KeyDataset(rows, "text"), iter(texts)):
        assert_same(similarities([*pipe(inputs, top_k=None, batch_size=batch_size)]), expected)


def test_marks_and_spans_and_words_are_the_same_sentence(pipe: RelationExtractionPipeline) -> None:
    pipe.fit(descriptions=DESCRIPTIONS)
    text = MARKED.replace("[E1]", "").replace("[/E1]", "").replace("[E2]", "").replace("[/E2]", "")
    forms = [
        MARKED,
        {"text": text, "head": (0, 4), "tail": (23, 27)},
        {"words": text.split(), "head": [0, 1], "tail": [5, 6]},
    ]
    scores = [result[0]["score"] for result in pipe(forms, batch_size=3)]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-6)


def test_another_relation_leaves_the_others_alone(
    pipe: RelationExtractionPipeline, split: tuple[list[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    supports, queries = split
    first = list(RELATIONS)[:5]
    pipe.fit([row for row in supports if row["relation"] in first], {label: DESCRIPTIONS[label] for label in first})
    threshold = pipe.na_threshold
    before = similarities(pipe(queries, batch_size=8, top_k=None))
    pipe.add("part_of", [row for row in supports if row["relation"] == "part_of"], "the whole of a part", "part of")
    assert pipe.relations == [*first, "part_of"] and pipe.na_threshold == threshold
    after = similarities(pipe(queries, batch_size=8, top_k=None))
    added = [found.pop("part_of") for found in after]
    assert_same(after, before)
    # The new prototype is what all would have given it together.
    whole = pipe.fit(supports, DESCRIPTIONS)(queries, batch_size=8, top_k=None)
    assert [found["part_of"] for found in similarities(whole)] == pytest.approx(added, abs=1e-5)

    before = similarities(whole)
    pipe.remove("capital")
    assert "capital" not in pipe.relations
    after = similarities(pipe(queries, batch_size=8, top_k=None))
    for found in before:
        del found["capital"]
    assert_same(after, before)
    # And it comes back where its supports are counted right.
    pipe.add(
        "capital", [row for row in supports if row["relation"] == "capital"], "city that rules a country", "capital of"
    )
    again = similarities(pipe(queries, batch_size=8, top_k=None))
    expected = similarities(whole)
    assert [found["capital"] for found in again] == pytest.approx([found["capital"] for found in expected], abs=1e-5)


def test_many_descriptions_are_encoded_in_portions(
    pipe: RelationExtractionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"{relation}-{i}": text for relation, text in DESCRIPTIONS.items() for i in range(15)}
    encoder, sizes = pipe.model.tkre, []
    forward = encoder.forward
    monkeypatch.setattr(
        encoder, "forward", lambda **inputs: sizes.append(len(inputs["input_ids"])) or forward(**inputs)
    )
    pipe.fit(descriptions=many)
    assert len(sizes) > 1 and max(sizes) < sum(sizes) == len(many) == len(pipe.relations)


def test_relations_grow_from_nothing_and_shrink_to_it(pipe: RelationExtractionPipeline) -> None:
    pipe.add("capital", description="city that rules a country")
    pipe.add("crosses", [{"text": "[E1]Kiel[/E1] spans the wide [E2]Elba[/E2] ."}])
    assert pipe.relations == ["capital", "crosses"]
    assert pipe.remove("capital").remove("crosses").relations == []
    with pytest.raises(TkreError, match="no relations yet"):
        pipe(MARKED)


@pytest.mark.parametrize("with_supports", [True, False])
def test_saved_relations_travel_with_the_checkpoint(
    with_supports: bool,
    pipe: RelationExtractionPipeline,
    split: tuple[list[dict[str, Any]], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    supports, queries = split
    pipe.fit(supports if with_supports else (), DESCRIPTIONS)
    pipe.na_threshold = 0.25
    expected = pipe(queries, batch_size=8, top_k=None)
    folder = tmp_path / "mine"
    pipe.save_pretrained(folder)
    assert {"prototypes.safetensors", "relations.json", "config.json", "model.safetensors"} <= {
        file.name for file in folder.iterdir()
    }
    assert not [file for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pkl")]
    loaded = load(folder)
    assert loaded.relations == pipe.relations and loaded.na_threshold == 0.25
    assert loaded(queries, batch_size=8, top_k=None) == expected
    # Once loaded, it learns on as before.
    more = {"text": "[E1]Kiel[/E1] likes [E2]Lima[/E2] .", "relation": "likes"}
    found = [similarities(each.add("likes", [more])(queries, batch_size=8, top_k=None)) for each in (pipe, loaded)]
    assert_same(*found)
    # Of a checkpoint the relations alone may be written, and a pipeline without any leaves none.
    pipe.save_relations(folder)
    assert load(folder).relations == [*RELATIONS, "likes"]
    while pipe.relations:
        pipe.remove(pipe.relations[0])
    pipe.save_pretrained(folder)
    assert load(folder).relations == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_pipeline_in_half_precision_is_saved_as_any(
    dtype: torch.dtype, pipe: RelationExtractionPipeline, checkpoint: Path, tmp_path: Path
) -> None:
    expected = pipe.fit(descriptions=DESCRIPTIONS)(MARKED, top_k=None)
    eager = {"attn_implementation": "eager"}
    half = load(checkpoint, dtype=dtype, model_kwargs=eager).fit(descriptions=DESCRIPTIONS)
    half.save_pretrained(tmp_path / "half")
    # Nor does the tokenizer keep what was the model's.
    assert not {"dtype", "attn_implementation"} & half.tokenizer.init_kwargs.keys()
    loaded = load(tmp_path / "half", dtype="auto", model_kwargs=eager)
    assert loaded.model.dtype == dtype
    found = loaded(MARKED, top_k=None)
    assert found == half(MARKED, top_k=None)
    for ours, theirs in zip(similarities([found]), similarities([expected]), strict=True):
        assert ours == pytest.approx(theirs, abs=0.02)


def test_prototypes_of_another_model_are_refused(pipe: RelationExtractionPipeline, checkpoint: Path) -> None:
    pipe.fit(descriptions=DESCRIPTIONS).save_relations(checkpoint)
    path = checkpoint / "prototypes.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "anchors": -tensors["anchors"]}, path)
    with pytest.raises(TkreError, match="were made by another model: fit the relations anew"):
        load(checkpoint)
    anew = load_pipeline(str(checkpoint), with_relations=False)
    assert anew.fit(descriptions=DESCRIPTIONS).relations == [*DESCRIPTIONS]
    anew.save_pretrained(checkpoint.parent / "anew")
    assert "with_relations" not in (checkpoint.parent / "anew" / "tokenizer_config.json").read_text()
    save_file({**tensors, "prototypes": tensors["prototypes"][:-1]}, path)
    with pytest.raises(TkreError, match="names 6 relations, but .* has 5"):
        load(checkpoint)
    path.write_bytes(b"{}")
    with pytest.raises(TkreError, match="can't be read"):
        load(checkpoint)
    path.unlink()
    with pytest.raises(TkreError, match=r"has no prototypes\.safetensors, which belongs to relations\.json"):
        load(checkpoint)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"na_threshold": float("nan")}, "na_threshold is nan"),
        ({"na_threshold": "x"}, "na_threshold is 'x'"),
        ({"relations": [{"relation": "", "name": "x", "description": ""}]}, "expected a label"),
        ({"relations": [{"relation": "x", "name": 7, "description": ""}]}, "row x, field 'name': expected a string"),
    ],
)
def test_relations_changed_by_hand_are_checked(
    pipe: RelationExtractionPipeline, checkpoint: Path, change: dict[str, Any], reason: str
) -> None:
    pipe.fit(descriptions={"capital": "city"}).save_relations(checkpoint)
    path = checkpoint / "relations.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(TkreError, match=f"can't be read .*{reason}"):
        load(checkpoint)


def test_a_threshold_comes_from_leaving_supports_out(
    pipe: RelationExtractionPipeline, split: tuple[list[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    supports, _ = split
    pipe.model.config.na_threshold = 0.123
    # The model's own where there is one support, or there are two relations, or none has a support.
    singles = [row for row in supports if row["id"].endswith("-0")]
    pairs = [row for row in supports if row["relation"] in ("capital", "author")]
    for few in (singles, pairs, []):
        assert pipe.fit(few, DESCRIPTIONS if few is not pairs else None).na_threshold == 0.123
    pipe.fit(supports, DESCRIPTIONS)
    assert pipe.na_threshold not in (None, 0.123)
    none = {entry["relation"]: entry["similarity"] for entry in pipe(MARKED, top_k=None)}
    assert len(none) == 7 and none[None] == pytest.approx(pipe.na_threshold)
    assert pipe.model.config.na_threshold == 0.123


def on_axes(pipe: RelationExtractionPipeline, relations: int, noise: float = 0.02) -> list[Any]:
    """Arguments of ``RelationPrototypes.fit``: relations on axes of their own, with three supports near each."""
    axes = torch.eye(pipe.model.config.projection_dim)[:relations]
    labels = torch.arange(relations).repeat_interleave(3)
    generator = torch.Generator().manual_seed(0)
    supports = axes[labels] + noise * torch.randn(len(labels), axes.shape[1], generator=generator)
    names = [f"r{i}" for i in range(relations)]
    info = [RelationInfo(name) for name in names]
    return [names, info, axes, torch.nn.functional.normalize(supports, dim=-1), labels]


def test_leaving_one_out_separates_what_can_be_separated(pipe: RelationExtractionPipeline) -> None:
    # A support's own cosine is near 1, any other near 0.
    threshold = RelationPrototypes.fit(pipe.model, *on_axes(pipe, 6)).na_threshold
    assert threshold is not None and 0.2 < threshold < 0.98


def test_where_trust_in_descriptions_depends_on_all_relations_those_there_stay(
    pipe: RelationExtractionPipeline,
) -> None:
    pipe.model.config.tau = 1.0  # so that anchors are right more often than by chance, but not always
    names, info, anchors, supports, labels = on_axes(pipe, 6, noise=0.1)
    five = RelationPrototypes.fit(pipe.model, names[:5], info[:5], anchors[:5], supports[:15], labels[:15])
    six = five.add(pipe.model, names[5], info[5], anchors[5:], supports[15:])
    whole = RelationPrototypes.fit(pipe.model, names, info, anchors, supports, labels)
    assert torch.equal(six.prototypes[:5], five.prototypes)
    assert not torch.allclose(whole.prototypes[:5], five.prototypes, atol=1e-4)
    torch.testing.assert_close(six.prototypes[5:], whole.prototypes[5:])


def test_each_support_is_left_out_alone(pipe: RelationExtractionPipeline) -> None:
    pipe.model.config.tau = 1.0
    names, info, anchors, supports, labels = on_axes(pipe, 6, noise=0.1)
    made = RelationPrototypes.fit(pipe.model, names, info, anchors, supports, labels)
    cosines = []
    for i in range(len(supports)):
        rest = torch.arange(len(supports)) != i
        cosines.append(supports[i] @ pipe.model.prototypes(supports[rest], labels[rest], anchors).T)
    torch.testing.assert_close(made._left_out_cosines(pipe.model), torch.stack(cosines))
    for seed in range(4):
        order = torch.randperm(len(supports), generator=torch.Generator().manual_seed(seed))
        other = RelationPrototypes.fit(pipe.model, names, info, anchors, supports[order], labels[order])
        assert other.na_threshold == pytest.approx(made.na_threshold, abs=1e-6)


def test_relations_are_saved_whole_or_not_at_all(
    pipe: RelationExtractionPipeline, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.fit(descriptions={"capital": "city"}).save_relations(checkpoint)
    before = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    pipe.fit(descriptions={"author": "who wrote a book"})

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        pipe.save_relations(checkpoint)
    assert {file.name: file.read_bytes() for file in checkpoint.iterdir()} == before


def test_a_relation_of_an_empty_list_is_known_by_its_name(pipe: RelationExtractionPipeline) -> None:
    assert pipe.fit({"capital": [{"text": MARKED}], "part_of": []}).relations == ["capital", "part_of"]
    assert pipe.prototypes is not None and pipe.prototypes.info[1] == RelationInfo("part of")


def test_below_the_threshold_is_none_of_the_above(pipe: RelationExtractionPipeline) -> None:
    pipe.fit(descriptions=DESCRIPTIONS)
    assert pipe.na_threshold is None
    ((best, *_),) = [pipe(MARKED)]
    for threshold, expected in ((best["similarity"] + 0.01, None), (best["similarity"] - 0.01, best["relation"])):
        pipe.na_threshold = threshold
        (found,) = pipe(MARKED)
        assert found["relation"] == expected
    assert sum(entry["score"] for entry in pipe(MARKED, top_k=None)) == pytest.approx(1)
    assert len(pipe(MARKED, top_k=None)) == 7 and len(pipe(MARKED, top_k=3)) == 3 and len(pipe(MARKED, top_k=99)) == 7


@pytest.fixture
def classifier(backbone: Path, processor: TKREProcessor, tmp_path: Path) -> Path:
    """A classifier as fine-tuning leaves it."""
    torch.manual_seed(0)
    model = TKREForRelationClassification.from_backbone(
        str(backbone), vocab_size=len(processor.tokenizer), id2label={0: "capital", 1: "none", 2: "author"},
        label2id={"capital": 0, "none": 1, "author": 2}, na_label="none",
    )  # fmt: skip
    folder = tmp_path / "classifier"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_classifier_is_known_by_its_configuration(classifier: Path, records: list[dict[str, Any]]) -> None:
    pipe = load(classifier, top_k=None, batch_size=8)
    assert isinstance(pipe.model, TKREForRelationClassification) and pipe.relations == ["capital", "author"]
    results = pipe(records[:10])
    encoded = pipe.processor.encode(records[:10])
    inputs = pipe.processor.pad([features["input_ids"] for features in encoded])
    with torch.no_grad():
        spans = torch.tensor([features["entity_spans"] for features in encoded])
        logits = pipe.model(**inputs, entity_spans=spans).logits
    for result, scores in zip(results, logits.softmax(-1).tolist(), strict=True):
        expected = dict(zip(["capital", None, "author"], scores, strict=True))
        assert {entry["relation"]: entry["score"] for entry in result} == pytest.approx(expected, abs=1e-5)
        assert "similarity" not in result[0]
        # None of the above is said as a few-shot model says it; what the classifier calls it stands beside.
        assert {entry["relation"]: entry["na_label"] for entry in result if "na_label" in entry} == {None: "none"}
    changes: list[Callable[[], Any]] = [
        lambda: pipe.fit(descriptions={"x": "y"}),
        lambda: pipe.add("x", description="y"),
        lambda: pipe.remove("capital"),
        lambda: setattr(pipe, "na_threshold", 0.5),
    ]
    for change in changes:
        with pytest.raises(TkreError, match="the model is a classifier, whose relations are fixed"):
            change()
    pipe.save_pretrained(classifier.parent / "copy")
    assert load(classifier.parent / "copy", top_k=None, batch_size=8)(records[:10]) == results


def test_where_every_label_is_a_relation_each_is_one(classifier: Path) -> None:
    path = classifier / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "na_label": None}))
    pipe = load(classifier, top_k=None)
    assert pipe.relations == ["capital", "none", "author"]
    assert {entry["relation"] for entry in pipe(MARKED)} == set(pipe.relations)


def test_entities_are_found_where_none_are_given(checkpoint: Path, ner: Path) -> None:
    text = "Kiel is the capital of Elba , and Lima works ."
    by_name = load(checkpoint, ner=str(ner))
    tagger = pipeline("token-classification", model=str(ner), aggregation_strategy="first", device="cpu")
    for pipe in (by_name, load(checkpoint, ner=tagger)):
        pipe.fit(descriptions=DESCRIPTIONS)
        results = pipe([text, MARKED, "The bridge .", text], batch_size=2)
        assert [len(result) for result in results] == [6, 1, 0, 6]
        assert results[0][0]["head"] == {"start": 0, "end": 4, "text": "Kiel", "type": "THING"}
        assert {(entry["head"]["text"], entry["tail"]["text"]) for entry in results[3]} == {
            (head, tail) for head in ("Kiel", "Elba", "Lima") for tail in ("Kiel", "Elba", "Lima") if head != tail
        }
        assert pipe(text)[0]["tail"]["text"] == "Elba"


def test_the_window_says_that_it_cut(make_processor: Any, model: TKREForPreTraining, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    make_processor(max_length=14).save_pretrained(tmp_path)
    pipe = load(tmp_path).fit(descriptions=DESCRIPTIONS)
    long = "The bridge is again " * 4 + "and " + MARKED
    assert [result[0]["truncated"] for result in pipe([MARKED, long], batch_size=2)] == [False, True]
    too_long = {"text": "Kiel " * 20 + "is Elba", "head": [0, 99], "tail": [103, 107]}
    with pytest.raises(
        InvalidRowError, match=r"^inputs, row \[1\]: the two entities alone take \d+ tokens; raise max"
    ):
        pipe([MARKED, too_long], batch_size=2)
    with pytest.raises(InvalidRowError, match=r"^supports, row \[0\]: the two entities alone take \d+ tokens"):
        pipe.fit([{**too_long, "relation": "crosses"}])


def test_padding_on_the_left_is_the_tokenizers_own_affair(
    checkpoint: Path, split: tuple[list[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    supports, queries = split
    expected = load(checkpoint).fit(supports)(queries, batch_size=8, top_k=None)
    path = checkpoint / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "padding_side": "left"}))
    assert_alike(load(checkpoint).fit(supports)(queries, batch_size=8, top_k=None), expected)


def test_what_is_wrong_ends_in_one_sentence(pipe: RelationExtractionPipeline, backbone: Path) -> None:
    for use, reason in [
        (lambda: pipe(MARKED), "no relations yet"),
        (lambda: pipe.fit(), "there is no relation to learn"),
        (lambda: setattr(pipe, "na_threshold", 0.5), "no relations yet"),
        (lambda: load(backbone), "holds no TKRE model; its model type is bert"),
    ]:
        with pytest.raises(TkreError, match=reason):
            use()
    pipe.fit(descriptions=DESCRIPTIONS)
    for use, reason in [
        (lambda: pipe.add("capital"), "the relation 'capital' is known already"),
        (lambda: pipe.remove("spouse"), "no relation 'spouse' to remove, but crosses, capital"),
        (lambda: pipe(5), "expected a sentence or several, found int"),
        (lambda: pipe(MARKED, top_k=0), "top_k is 0"),
        (lambda: pipe([MARKED, {"text": "x", "head": [0, 1]}]), r"inputs, row \[1\], field 'tail': missing"),
        (lambda: pipe(["Kiel and Elba"]), r"inputs, row \[0\]: no entities are given"),
        (lambda: pipe.fit([{"text": MARKED}]), r"supports, row \[0\], field 'relation': missing"),
        (lambda: pipe.fit([{"text": MARKED, "relation": "\ud83d"}]), "field 'relation': not UTF-8"),
        (lambda: pipe.fit({"a": MARKED}), "supports of 'a': expected a list of labelled sentences"),
        (lambda: pipe.fit({"": []}), "expected a label, a string that is not empty"),
        (lambda: pipe.fit(descriptions={"a": "\ud83d"}), "row a, field 'description': not UTF-8"),
        (lambda: pipe.fit(descriptions={"a": 5}), "row a, field 'description': expected a string, found 5"),  # type: ignore[dict-item]
        (lambda: pipe.fit(descriptions={7: "a"}), "expected a label"),  # type: ignore[dict-item]
        (lambda: pipe.fit(descriptions=["a"]), "expected a mapping, from each relation to what it means"),  # type: ignore[arg-type]
        (lambda: pipe.add("b", name="\ud83d"), "row b, field 'name': not UTF-8"),
        *[
            (lambda value=value: setattr(pipe, "na_threshold", value), "na_threshold is .* expected a similarity")
            for value in (float("nan"), float("inf"), 7, "x", True)
        ],
    ]:
        with pytest.raises(TkreError, match=reason):
            use()
    with pytest.raises(TypeError, match="no argument 'topk'; it has ner and top_k"):
        pipe(MARKED, topk=3)


def test_a_model_that_says_no_relations_is_refused(processor: TKREProcessor) -> None:
    model = TKREModel(TKREConfig(tiny_bert(len(processor.tokenizer))))
    with pytest.raises(TkreError, match="not a TKREModel: save it"):
        pipeline("relation-extraction", model=model, processor=processor, device="cpu")  # type: ignore[call-overload]
