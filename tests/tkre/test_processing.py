"""The processor: both entities marked and inside the window, and everybody's text taken as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tkre_hf.data import make_record, tokenize_text
from tkre_hf.tkre.inputs import read_input
from tkre_hf.tkre.markers import MARKERS
from tkre_hf.tkre.processing_tkre import CUE, ENTITY, OTHER, SPECIAL, TKREProcessor

from ..conftest import byte_level_tokenizer, word_piece_tokenizer
from .conftest import MakeProcessor

WORDS = [
    "the",
    "Ada",
    "bridge",
    "don't",
    "co-op",
    "[SEP]",
    "[E1]",
    "[/E2]",
    "<mask>",
    "</s>",
    "@",
    "#",
    "日本",
    "é",
    " ",
]
TYPES = ["", "PERSON", "BIG_CITY"]


def record(words: Sequence[str], head: tuple[int, int], tail: tuple[int, int], **more: Any) -> dict[str, Any]:
    return make_record(id="r", tokens=words, head=head, tail=tail, relation="x", **more)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Any sentence with any two spans: apart, adjacent, overlapping or nested."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=14))
    spans = [
        (start, end)
        for start in range(len(words))
        for end in range(start + 1, len(words) + 1)
        if "".join(words[start:end]).strip()
    ]
    if len(spans) < 2:
        words, spans = ["Ada", "Bruno"], [(0, 1), (1, 2)]
    head, tail = draw(st.lists(st.sampled_from(spans), min_size=2, max_size=2, unique=True))
    cues = draw(st.lists(st.sampled_from(spans), max_size=2))
    types = {"head_type": draw(st.sampled_from(TYPES)), "tail_type": draw(st.sampled_from(TYPES))}
    return record(words, head, tail, cues=cues, **types)


PROCESSORS = {
    (kind, marker): TKREProcessor(make(), marker, max_length=64, entity_types=TYPES[1:])
    for kind, make in (("wordpiece", word_piece_tokenizer), ("byte-level", byte_level_tokenizer))
    for marker in MARKERS
}


def tokens_of(processor: TKREProcessor, words: Sequence[str]) -> list[int]:
    """The words' tokens, special tokens in them read as text."""
    return processor.tokenizer(
        list(words), is_split_into_words=True, add_special_tokens=False, split_special_tokens=True
    )["input_ids"]


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=map("-".join, PROCESSORS))
@given(records(), st.integers(8, 64))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entities_are_marked_and_inside_the_window(
    processor: TKREProcessor, row: dict[str, Any], max_length: int
) -> None:
    processor.max_length = max_length
    roles = ("head", "tail")
    strategy = processor._strategy
    before = [processor._marker_ids(strategy.before(i, row[role]["type"])) for i, role in enumerate(roles)]
    after = [processor._marker_ids(strategy.after(i, row[role]["type"])) for i, role in enumerate(roles)]
    entity_words = [row["tokens"][row[role]["start"] : row[role]["end"]] for role in roles]
    in_entities = {i for role in roles for i in range(row[role]["start"], row[role]["end"])}
    needed = sum(map(len, [*before, *after, processor._prefix, processor._suffix]))
    if strategy.keeps_words:
        needed += len(tokens_of(processor, [row["tokens"][i] for i in sorted(in_entities)]))
    if needed > max_length:
        with pytest.raises(ValueError, match=f"record 'r': the two entities alone take {needed} tokens"):
            processor.encode([row])
        return

    (encoded,) = processor.encode([row])
    ids = encoded["input_ids"]
    assert len(ids) == len(encoded["roles"]) == len(encoded["units"]) <= max_length
    assert ids[: len(processor._prefix)] == processor._prefix
    assert ids[-len(processor._suffix) :] == processor._suffix
    everything = len(tokens_of(processor, row["tokens"])) + needed
    if strategy.keeps_words:
        everything -= len(tokens_of(processor, [row["tokens"][i] for i in sorted(in_entities)]))
        assert encoded["truncated"] == (everything > max_length)
    for i, (start, end) in enumerate(encoded["entity_spans"]):
        assert 0 < start < end < len(ids)
        inside = ids[start:end]
        assert inside[: len(before[i])] == before[i]
        if after[i]:
            assert inside[-len(after[i]) :] == after[i]
        if strategy.keeps_words and strategy.special:
            # Without the markers, of which another entity's may stand inside, it is the entity, word for word.
            markers = {*before[0], *before[1], *after[0], *after[1]}
            assert [token for token in inside if token not in markers] == tokens_of(processor, entity_words[i])
    # Markers and special tokens are never masked, words always have a unit.
    assert all(
        (role == SPECIAL) == (unit == -1) for role, unit in zip(encoded["roles"], encoded["units"], strict=True)
    )
    for start, end in encoded["cue_spans"]:
        assert 0 < start < end < len(ids)
    assert 0 <= encoded["cues_lost"] <= len(row["cues"])
    assert encoded["truncated"] or encoded["cues_lost"] == 0


def test_special_tokens_in_a_text_are_text(processor: TKREProcessor) -> None:
    inputs = processor("Ada said [SEP] to [E1] Bruno [MASK]", head=(0, 3), tail=(23, 28))
    ids = inputs["input_ids"][0].tolist()
    tokenizer = processor.tokenizer
    for token in ("[SEP]", "[CLS]", "[E1]", "[E2]", "[/E1]", "[/E2]"):
        assert ids.count(tokenizer.convert_tokens_to_ids(token)) == 1
    assert tokenizer.mask_token_id not in ids


def test_words_and_text_agree(processor: TKREProcessor) -> None:
    text = "In 1901 Carla wrote Hull again"
    by_text = processor(text, head=(20, 24), tail=(8, 13))
    by_words = processor(words=text.split(), head=(4, 5), tail=(2, 3))
    assert by_text["input_ids"].tolist() == by_words["input_ids"].tolist()
    assert by_text["entity_spans"].tolist() == by_words["entity_spans"].tolist()
    decoded = processor.tokenizer.decode(by_text["input_ids"][0])
    assert decoded == "[CLS] In 1901 [E2] Carla [/E2] wrote [E1] Hull [/E1] again [SEP]"


@pytest.mark.parametrize("make", [word_piece_tokenizer, byte_level_tokenizer])
def test_a_text_and_its_record_agree(make: Any) -> None:
    """What is trained on and what is asked are the same tokens, a sign beside a word among them."""
    processor = TKREProcessor(make(), max_length=128)
    text = "Ada's (9×19mm) gun, says Kiel, is दिल्ली's."
    spans = [(0, 3), (25, 29)]
    tokens, _, (head, tail) = tokenize_text(text, spans)
    asked = processor(text, head=spans[0], tail=spans[1])
    (trained,) = processor.encode([record(tokens, head, tail)])
    sentence = read_input({"text": text, "head": spans[0], "tail": spans[1]}, "inputs", 0)
    assert asked["input_ids"][0].tolist() == trained["input_ids"]
    assert sentence.records()[0]["tokens"] == tokens and "दिल्ली" in tokens


def test_a_span_may_cut_a_word(processor: TKREProcessor) -> None:
    inputs = processor("unKiel", head=(2, 6), tail=(0, 2))
    (head_start, head_end), _ = inputs["entity_spans"][0].tolist()
    assert processor.tokenizer.decode(inputs["input_ids"][0, head_start:head_end]) == "[E1] Kiel [/E1]"


def test_a_batch_is_padded(processor: TKREProcessor) -> None:
    sentences = [["Ada", "works", "for", "Kiel"], ["Ada", "Kiel"]]
    inputs = processor(words=sentences, head=[(0, 1), (0, 1)], tail=[(3, 4), (1, 2)])
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (2, 10)
    assert inputs["attention_mask"].sum(1).tolist() == [10, 8]
    assert (inputs["input_ids"][1, 8:] == processor.tokenizer.pad_token_id).all()
    assert inputs["entity_spans"].shape == (2, 2, 2)
    alone = processor(words=sentences[1], head=(0, 1), tail=(1, 2))
    assert alone["input_ids"][0].tolist() == inputs["input_ids"][1, :8].tolist()


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        ((0, 1), (2, 3), "[E1] a [/E1] b [E2] c [/E2] d"),
        ((2, 3), (0, 1), "[E2] a [/E2] b [E1] c [/E1] d"),
        ((0, 2), (2, 4), "[E1] a b [/E1] [E2] c d [/E2]"),
        ((0, 3), (1, 2), "[E1] a [E2] b [/E2] c [/E1] d"),
        ((0, 1), (0, 3), "[E2] [E1] a [/E1] b c [/E2] d"),
        ((0, 3), (2, 3), "[E1] a b [E2] c [/E2] [/E1] d"),
        ((0, 3), (1, 4), "[E1] a [E2] b c [/E1] d [/E2]"),
    ],
)
def test_entities_apart_adjacent_nested_overlapping(
    processor: TKREProcessor, head: tuple[int, int], tail: tuple[int, int], expected: str
) -> None:
    (encoded,) = processor.encode([record(list("abcd"), head, tail)])
    assert processor.tokenizer.decode(encoded["input_ids"]) == f"[CLS] {expected} [SEP]"


def test_a_window_keeps_far_entities_and_the_words_nearest_to_them(make_processor: MakeProcessor) -> None:
    processor = make_processor(max_length=14)
    words = ["x", "Ada", *"abcdefghij", "Kiel", "y", "z"]
    (encoded,) = processor.encode([record(words, (1, 2), (12, 13), cues=[(6, 7), (2, 3)])])
    assert encoded["truncated"]
    assert processor.tokenizer.decode(encoded["input_ids"]) == "[CLS] x [E1] Ada [/E1] a b i j [E2] Kiel [/E2] y [SEP]"
    assert encoded["cues_lost"] == 1
    assert [processor.tokenizer.decode(encoded["input_ids"][start:end]) for start, end in encoded["cue_spans"]] == [
        "a"
    ]
    assert processor(words=words, head=(1, 2), tail=(12, 13))["truncated"].tolist() == [True]


def test_without_quoted_cues_the_words_between_are(processor: TKREProcessor) -> None:
    words = ["Ada", "works", "for", "Kiel", "."]
    (encoded,) = processor.encode([record(words, (0, 1), (3, 4))])
    ((start, end),) = encoded["cue_spans"]
    assert processor.tokenizer.decode(encoded["input_ids"][start:end]) == "works for"
    of = {OTHER: ".", ENTITY: "Ada Kiel", CUE: "works for"}
    for role, text in of.items():
        ids = [id for id, other in zip(encoded["input_ids"], encoded["roles"], strict=True) if role == other]
        assert processor.tokenizer.decode(ids) == text
    (adjacent,) = processor.encode([record(["Ada", "Kiel"], (0, 1), (1, 2))])
    assert adjacent["cue_spans"] == []


def test_all_mentions_of_an_entity_are_one_unit(processor: TKREProcessor) -> None:
    words = ["Ada", "met", "Kiel", "and", "ada", "II"]
    (encoded,) = processor.encode([record(words, (0, 1), (2, 3))])
    units: dict[int, list[int]] = {}
    for id, unit, role in zip(encoded["input_ids"], encoded["units"], encoded["roles"], strict=True):
        if role == ENTITY:
            units.setdefault(unit, []).append(id)
    assert sorted(processor.tokenizer.decode(ids).lower().replace(" ##", "") for ids in units.values()) == [
        "ada ada",
        "kiel",
    ]


@pytest.mark.parametrize("swap", [False, True])
def test_a_name_inside_another_does_not_cut_it(processor: TKREProcessor, swap: bool) -> None:
    words = ["Ada", "Kiel", "Lima", "met", "Kiel", ",", "ada", "kiel", "lima", "too"]
    long, short = (0, 3), (4, 5)
    (encoded,) = processor.encode([record(words, short, long) if swap else record(words, long, short)])
    units: dict[int, list[int]] = {}
    for id, unit, role in zip(encoded["input_ids"], encoded["units"], encoded["roles"], strict=True):
        if role == ENTITY:
            units.setdefault(unit, []).append(id)
    found = {processor.tokenizer.decode(ids).lower().replace(" ##", "") for ids in units.values()}
    assert found == {"ada kiel lima ada kiel lima", "kiel"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "Ada", "words": ["Ada"], "head": (0, 1), "tail": (1, 2)}, "give either text"),
        ({"head": (0, 1), "tail": (1, 2)}, "give either text"),
        ({"text": "Ada Kiel", "head": (0, 9), "tail": (4, 8)}, r"the head \[0, 9\) is no span of its 8 characters"),
        ({"words": ["Ada", "Kiel"], "head": (0, 1), "tail": (1, 3)}, r"the tail \[1, 3\) is no span of its 2 words"),
        ({"words": ["Ada", "Kiel"], "head": (1, 1), "tail": (0, 1)}, r"the head \[1, 1\) is no span"),
        ({"words": ["Ada", "Kiel"], "head": (2, 1), "tail": (0, 1)}, r"the head \[2, 1\) is no span"),
        ({"text": "Ada  Kiel", "head": (3, 5), "tail": (0, 3)}, r"the span \[3, 5\) holds only white space"),
        ({"words": [["a", "b"], ["c", "d"]], "head": [(0, 1)], "tail": [(1, 2), (1, 2)]}, "2 sentences, but 1 values"),
    ],
)
def test_a_wrong_input_is_refused(processor: TKREProcessor, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor(**arguments)


def test_an_unknown_entity_type_is_refused(make_processor: MakeProcessor) -> None:
    processor = make_processor("typed_entity_marker", entity_types=["CITY"])
    with pytest.raises(ValueError, match=r"no marker <S:BOAT> for this entity type; entity_types has: CITY"):
        processor(words=["a", "b"], head=(0, 1), tail=(1, 2), head_type="BOAT", tail_type="CITY")


def test_types_are_shown(make_processor: MakeProcessor) -> None:
    processor = make_processor("typed_entity_marker", entity_types=["CITY"])
    ids = processor(words=["Ada", "Kiel"], head=(0, 1), tail=(1, 2), tail_type="CITY")["input_ids"][0]
    assert processor.tokenizer.decode(ids) == "[CLS] <S> Ada </S> <O:CITY> Kiel </O:CITY> [SEP]"
    masked = make_processor("entity_mask", entity_types=["CITY"])
    ids = masked(words=["Ada", "Kiel"], head=(0, 1), tail=(1, 2), tail_type="CITY")["input_ids"][0]
    assert masked.tokenizer.decode(ids) == "[CLS] [SUBJ] [OBJ-CITY] [SEP]"


@pytest.mark.parametrize("marker", MARKERS)
def test_saved_and_loaded_it_is_the_same(make_processor: MakeProcessor, marker: str, tmp_path: Path) -> None:
    processor = make_processor(marker, max_length=40, entity_types=["CITY", "PERSON"])
    processor.save_pretrained(tmp_path)
    loaded = TKREProcessor.from_pretrained(tmp_path)
    assert (loaded.marker, loaded.max_length, loaded.entity_types) == (marker, 40, ["CITY", "PERSON"])
    assert len(loaded.tokenizer) == len(processor.tokenizer)
    row = record(["Ada", "[E1]", "Kiel"], (0, 1), (2, 3), head_type="PERSON", tail_type="CITY")
    assert loaded.encode([row]) == processor.encode([row])
    assert loaded.new_tokens == processor.new_tokens


def test_a_byte_level_tokenizer_reads_words_with_a_space(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    processor = TKREProcessor.from_backbone(str(tmp_path), max_length=64)
    ids = processor(words=["the", "Ada", "the", "Kiel"], head=(1, 2), tail=(3, 4))["input_ids"][0].tolist()
    assert ids.count(processor.tokenizer.convert_tokens_to_ids("Ġthe")) == 2
    assert processor.tokenizer.decode(ids, clean_up_tokenization_spaces=False).replace(" ", "") == (
        "<s>the[E1]Ada[/E1]the[E2]Kiel[/E2]</s>"
    )


def test_a_backbone_that_wants_no_space_gets_one(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = tmp_path / name
        path.write_text(path.read_text().replace('"add_prefix_space": true', '"add_prefix_space": false'))
    assert AutoTokenizer.from_pretrained(tmp_path)("the", add_special_tokens=False)["input_ids"] != [
        tokenizer.convert_tokens_to_ids("Ġthe")
    ]
    processor = TKREProcessor.from_backbone(str(tmp_path), max_length=64)
    ids = processor(words=["the", "Ada"], head=(0, 1), tail=(1, 2))["input_ids"][0].tolist()
    assert ids.count(processor.tokenizer.convert_tokens_to_ids("Ġthe")) == 1


def test_anchors(processor: TKREProcessor) -> None:
    ids = processor.encode_anchors(["crosses", "[SEP]"], ["what a bridge leads over", ""])
    assert processor.tokenizer.decode(ids[0]) == "[CLS] crosses : what a bridge leads over [SEP]"
    assert ids[1].count(processor.tokenizer.sep_token_id) == 1  # the other one is text
    processor.max_length = 6
    (short,) = processor.encode_anchors(["a b c d e f g h"])
    assert len(short) == 6 and short[-1] == processor.tokenizer.sep_token_id


def test_padding(processor: TKREProcessor) -> None:
    padded = processor.pad([[5, 6, 7], [8]])
    assert padded["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert processor.pad([[1], [2, 3]], -1)["input_ids"].tolist() == [[1, -1], [2, 3]]
    assert padded["input_ids"].dtype == torch.int64
