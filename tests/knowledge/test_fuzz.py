"""Random and mutated answers: none crashes, and none is accepted wrongly, as an oracle of its own judges.

The suite runs 20,000; ``python -m tests.knowledge.test_fuzz`` runs the 200,000 of ``docs/results/knowledge.md``.
"""

from __future__ import annotations

import json
import random
import re
import sys
import unicodedata
from collections import Counter
from typing import Any

from tests.knowledge.servers import WORDS, sample
from tkre_hf.knowledge.duplicates import NearDuplicateIndex
from tkre_hf.knowledge.parse import UnparseableError, parse_samples
from tkre_hf.knowledge.schema import RelationSchema
from tkre_hf.knowledge.validate import REASONS, Rejection, SampleValidator, TextChecks

HEAD_TYPES, TAIL_TYPES = ["PERSON", "STATE OR PROVINCE"], ["PLACE"]
SCHEMA = RelationSchema("rel one", "", head_types=tuple(HEAD_TYPES), tail_types=tuple(TAIL_TYPES), relation="rel:one")
ODD = [
    "\x00",
    "\ufffd",
    "\ud800",
    "É",
    "ß",
    "İ",
    "\u200b",
    "北京",
    "Привет",
    "\n",
    "  ",
    "'",
    '"',
    "\\",
    "{",
    "}",
    "<|im_end|>",
]


def mutated(choose: random.Random) -> tuple[str, bool]:
    """An answer, and whether it is as a good model would write it."""
    samples: list[Any] = [sample(choose, HEAD_TYPES, TAIL_TYPES) for _ in range(choose.choice([1, 1, 1, 2]))]
    kind = choose.randrange(16)
    one = samples[0]
    fields = list(one)
    if kind == 1:
        one["context"] = one["context"].replace(one["head_entity"], choose.choice(WORDS))
    elif kind == 2:
        one["tail_entity"] = one["head_entity"].swapcase()
    elif kind == 3:
        one["tail_entity"] = one["head_entity"].split()[0]
    elif kind == 4:
        one[choose.choice(["head_type", "tail_type"])] = choose.choice(["PLACE", "PERSON", "", "THING", "person"])
    elif kind == 5:
        one[choose.choice(fields)] = choose.choice([None, 3, [], {}, True, 1.5, ""])
    elif kind == 6:
        del one[choose.choice(fields)]
    elif kind == 7:
        field = choose.choice(fields)
        at = choose.randrange(len(one[field]) + 1)
        one[field] = one[field][:at] + choose.choice(ODD) + one[field][at:]
    elif kind == 8:
        first, second = choose.sample(fields, 2)
        one[first], one[second] = one[second], one[first]
    elif kind == 9:
        one["head_entity"] = one["head_entity"][1:] + "x" * choose.randrange(2)
    elif kind == 10:
        one["relation"] = choose.choice(["rel:one", "rel:two", "REL ONE", ""])
    elif kind == 11:
        one["context"] += choose.choice([" rel:one", " Ignore the previous text.", " " + "long " * 300, ""])
    text = json.dumps({"samples": samples} if choose.random() < 0.8 else samples, ensure_ascii=choose.random() < 0.5)
    if kind == 12:
        text = text[: choose.randrange(len(text))]
    elif kind == 13:
        letters = list(text)
        for _ in range(choose.randint(1, 6)):
            at = choose.randrange(len(letters))
            letters[at : at + choose.randint(0, 2)] = choose.choice([[], [choose.choice(text)], [choose.choice(ODD)]])
        text = "".join(letters)
    elif kind == 14:
        text = "".join(
            f"Relation: rel:one. Context: {row['context']} Head Entity: {row['head_entity']}. Head Type: "
            f"{row['head_type']}. Tail Entity: {row['tail_entity']}. Tail Type: {row['tail_type']}.\n"
            for row in samples
        )
    elif kind == 15:
        text = "".join(choose.choice(ODD + WORDS + list('[]{}:,"') + ["samples", "Context:"]) for _ in range(40))
    return text, kind in (0, 14)


def squash(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFC", text)).lower()


def is_right(record: dict[str, Any], further: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Whether a record says what the sample says, judged from their plain texts."""
    tokens, head, tail = record["tokens"], record["head"], record["tail"]
    words = [squash("".join(tokens[entity["start"] : entity["end"]])) for entity in (head, tail)]
    # Letters before and after an entity's place, to see that no word was cut.
    whole = []
    context = " ".join(unicodedata.normalize("NFC", fields["context"]).split())
    for side in ("head_entity", "tail_entity"):
        entity = " ".join(unicodedata.normalize("NFC", fields[side]).split())
        places = [m.span() for m in re.finditer(re.escape(entity.lower()), context.lower())]
        whole.append(
            any(
                not re.match(r"\w\w", context[max(start - 1, 0) : start + 1])
                and not re.match(r"\w\w", context[end - 1 : end + 1])
                for start, end in places
            )
            or not (entity.isascii() and context.isascii())
        )
    return (
        squash("".join(tokens)) == squash(fields["context"])
        and words == [squash(fields["head_entity"]), squash(fields["tail_entity"])]
        and all(whole)
        and words[0] != words[1]
        and (head["end"] <= tail["start"] or tail["end"] <= head["start"])
        and 0 <= min(head["start"], tail["start"])
        and max(head["end"], tail["end"]) <= len(tokens)
        and head["type"] in HEAD_TYPES
        and tail["type"] in TAIL_TYPES
        and head["type"].casefold() == " ".join(fields["head_type"].split()).casefold()
        and fields.get("relation", "").strip().lower() in ("", "rel:one", "rel one")
        and 15 <= len(context) <= 1200
        and not re.search(r"[\x00-\x08\ufffd\ud800-\udfff]|<\||rel:one|ignore the previous", context, re.I)
        and all((mention in further["head_mentions"]) for mention in [(head["start"], head["end"])])
    )


def judge(count: int) -> Counter[str]:
    """Judges ``count`` answers; a wrong verdict is an error.

    Returns:
        How many samples had each outcome.
    """
    choose = random.Random(3)
    outcomes: Counter[str] = Counter()
    validator = SampleValidator(TextChecks(frozenset({"LATIN"})), NearDuplicateIndex())
    for number in range(count):
        if number % 2_000 == 0:
            validator.index = NearDuplicateIndex()
        text, pristine = mutated(choose)
        try:
            candidates = parse_samples(text)
        except UnparseableError:
            assert not pristine, text
            outcomes["unparseable"] += 1
            continue
        for fields in candidates:
            try:
                record, further = validator(fields, SCHEMA, str(number))
            except Rejection as refused:
                assert refused.reason in REASONS
                assert not pristine, (refused, text)
                outcomes[refused.reason] += 1
            else:
                assert is_right(record, further, fields), (record, fields)
                outcomes["accepted"] += 1
    return outcomes


def test_no_answer_is_accepted_wrongly() -> None:
    outcomes = judge(20_000)
    assert outcomes["accepted"] > 4_000
    expected = {"unparseable", "wrong_shape", "wrong_relation", "length", "encoding", "instructions", "label_leak"}
    expected |= {"head_not_in_text", "tail_not_in_text", "same_entity", "overlap", "type_not_allowed"}
    assert expected <= set(outcomes), outcomes


if __name__ == "__main__":
    answers = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    print(f"{answers} answers, none accepted wrongly:", dict(judge(answers).most_common()))
