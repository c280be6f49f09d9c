from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tkre_hf.knowledge.parse import MAX_ANSWER_CHARS, Fragment, UnparseableError, parse_explanation, parse_samples

SAMPLE = {"context": "Ann runs Acme.", "head_entity": "Ann", "head_type": "P", "tail_entity": "Acme", "tail_type": "O"}
LINE = "Relation: org:head. Context: Ann runs Acme. Head Entity: Ann. Head Type: P. Tail Entity: Acme. Tail Type: O."
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"samples": [SAMPLE]}),
        json.dumps({"samples": [SAMPLE]}, indent=2),
        json.dumps([SAMPLE]),
        json.dumps(SAMPLE),
        f"Sure!\n```json\n{json.dumps({'samples': [SAMPLE]})}\n```\nAnything else?",
        f"<think>a {{ b</think>{json.dumps(SAMPLE)}",
        f"1. {json.dumps(SAMPLE)}",
        json.dumps({key.replace("_", " ").title(): value for key, value in SAMPLE.items()}),
        f"Maybe {json.dumps(SAMPLE | {'context': 'A draft.'})}? No, better:</think>{json.dumps(SAMPLE)}",
        f'<think>one</think> {{ two 5" </THINK>\n{json.dumps(SAMPLE)}',
    ],
)
def test_json_is_found_with_anything_around_it(text: str) -> None:
    assert parse_samples(text) == [SAMPLE]


def test_a_thought_s_end_within_a_string_ends_no_thought() -> None:
    said = {**SAMPLE, "context": "Ann wrote </think> on Acme's wall."}
    assert parse_samples(f"Thus: {json.dumps([said])}") == [said]
    assert parse_samples(f"So</think>{json.dumps([said, SAMPLE])}") == [said, SAMPLE]


def test_thoughts_are_no_explanation() -> None:
    final = {"explanation": "FINAL"}
    text = f'maybe {{"explanation":"DRAFT"}} no, better:</think>{json.dumps(final)}'
    assert parse_explanation(text) == final
    assert parse_explanation("The head, or is it? Yes.</think>\n\nIt says so.") == {"explanation": "It says so."}
    with pytest.raises(UnparseableError, match="empty"):
        parse_explanation('{"explanation": "a draft"} and that was all</think> ')


WHOLE = json.dumps(SAMPLE)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ('{"samples": [' + WHOLE + ', {"context": "cut o', ['{"context": "cut o']),
        ('{"samples": [' + WHOLE + ", {", ["{"]),
        ('{"samples": [' + WHOLE + ",", []),
        ('{"samples": [{"context": "a" "b"}, ' + WHOLE + "]}", ['{"context": "a" "b"}, ']),
        (f'[{WHOLE}, "Ann runs it", 3, ["x"]]', ['"Ann runs it"', "3", '["x"]']),
        (f"As in [1] and {{that}}: {WHOLE}", []),
        (f"{WHOLE} {'[' * 60}{']' * 60}", ["[" * 60 + "]" * 60]),
        (
            f"{LINE}\nContext: Bea runs Bolt. Head Entity: Bea.\nRelation: x",
            ["Context: Bea runs Bolt. Head Entity: Bea.\n"],
        ),
        (f"Context: No more. {LINE}", ["Context: No more. "]),
    ],
)
def test_what_cannot_be_read_is_kept_to_be_refused(text: str, broken: list[str]) -> None:
    sample, *fragments = parse_samples(text)
    assert sample.items() >= {**SAMPLE, "context": sample["context"]}.items() and "Acme" in sample["context"]
    assert fragments == broken and all(isinstance(each, Fragment) and each.reason for each in fragments)


def test_a_fragment_is_short_and_there_are_few() -> None:
    _, *fragments = parse_samples(WHOLE + '{"a" ' * 500 + "b" * 9_000)
    assert len(fragments) == 64
    _, fragment = parse_samples(WHOLE + '{"a" ' + "b" * 9_000)
    assert len(fragment) == 2_000


@pytest.mark.parametrize("depth", [51, 900, 20_000])
def test_what_is_nested_too_deep_is_refused(depth: int) -> None:
    deep = "[" * depth + "1" + "]" * depth
    for text in (deep, '{"samples": ' + deep + "}", '{"context": "x", "head_entity": ' + deep + "}"):
        with pytest.raises(UnparseableError):
            parse_samples(text)
        with pytest.raises(UnparseableError):
            parse_explanation(text)
    with pytest.raises(UnparseableError, match="nested deeper than 50"):
        parse_samples(f"Here: {'[' * 51}{']' * 51}")
    flat = {**SAMPLE, "head_type": json.loads("[" * 40 + "]" * 40)}
    assert parse_samples(json.dumps(flat)) == [flat]


def test_json_lines_are_several_samples() -> None:
    assert parse_samples("\n".join([json.dumps(SAMPLE)] * 3)) == [SAMPLE] * 3


@pytest.mark.parametrize("separator", ["\n", "\n\n", " "])
def test_the_paper_s_lines_are_understood(separator: str) -> None:
    relation = {"relation": "org:head"}
    context = {"context": "Ann runs Acme."}
    assert parse_samples(separator.join([LINE] * 2)) == [SAMPLE | relation | context] * 2
    unlabelled = LINE.partition(". ")[2]
    assert parse_samples(f"1) {unlabelled}") == [SAMPLE | context]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot do that.",
        "{",
        "[",
        "[1, 2]",
        '{"samples": []}',
        "null",
        "<think>{}",
        LINE[:-30],
        "x" * (MAX_ANSWER_CHARS + 1),
    ],
)
def test_what_holds_no_sample_is_refused(text: str) -> None:
    with pytest.raises(UnparseableError):
        parse_samples(text)


def test_an_explanation_is_an_object_or_prose() -> None:
    fields = {"explanation": "It says so.", "cues": ["runs"]}
    assert parse_explanation(json.dumps(fields)) == fields
    assert parse_explanation(f"```\n{json.dumps([fields])}\n```") == fields
    assert parse_explanation(" It says so. ") == {"explanation": "It says so."}


@pytest.mark.parametrize(
    "text", ["", '{"explanation": "cut', '{"cues": []}', "[]", '```json\n{"explanation"', "<think>hm"]
)
def test_broken_json_is_no_prose(text: str) -> None:
    with pytest.raises(UnparseableError):
        parse_explanation(text)


@given(
    st.text()
    | JSON.map(json.dumps)
    | st.lists(st.sampled_from([LINE, '{"', "samples", "[", "Context:", "```"])).map("".join)
)
def test_no_text_crashes_the_parser(text: str) -> None:
    for parse in (parse_samples, parse_explanation):
        try:
            found = parse(text)
        except UnparseableError:
            continue
        assert found


@given(
    st.lists(
        st.dictionaries(st.sampled_from(sorted(SAMPLE)), st.text(max_size=20), min_size=1), min_size=1, max_size=4
    )
)
def test_what_was_written_as_json_is_read_back(samples: list[dict[str, Any]]) -> None:
    assert parse_samples(f"Here: {json.dumps({'samples': samples})} .") == samples


@pytest.mark.parametrize(
    "text", ["[" * 99_000, '{"a":' * 19_000, '{"a":"' * 16_000, "Context: " * 11_000, "Relation: " * 9_000]
)
def test_no_answer_takes_long(text: str) -> None:
    start = time.process_time()
    with pytest.raises(UnparseableError):
        parse_samples(text)
    assert time.process_time() - start < 2
