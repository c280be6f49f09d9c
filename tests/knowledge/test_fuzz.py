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

Span = tuple[int, int]
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
    "\u202e",
    "\U000e0041",
    "\u0301",
    "राम",
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


def nested(choose: random.Random, one: dict[str, str]) -> None:
    """Puts entities into a context several times, mostly such that one entity is part of the other."""
    head, filler = one["head_entity"], choose.sample(WORDS, 9)
    tail = choose.choice([f"{filler[0]} {head}", f"{head} {filler[0]}", f"{filler[0]} {head} {filler[1]}"])
    tail = choose.choice([tail, tail, head.split()[-1] + " " + filler[0], one["tail_entity"]])
    if choose.random() < 0.5:
        head, tail = tail, head
    pieces = [choose.choice([head, tail]) for _ in range(choose.randint(2, 5))] + filler[2:]
    choose.shuffle(pieces)
    one["context"] = choose.choice([" ", " ", ", "]).join(pieces) + "."
    one["head_entity"], one["tail_entity"] = head, tail


def mutated(choose: random.Random) -> tuple[str, bool, bool]:
    """An answer, whether it is as a good model would write it, and whether nothing but its entities can be wrong."""
    samples: list[Any] = [sample(choose, HEAD_TYPES, TAIL_TYPES) for _ in range(choose.choice([1, 1, 1, 2]))]
    kind = choose.randrange(18)
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
    elif kind == 16:
        words = one["context"].split(" ")
        for _ in range(choose.randint(1, 4)):
            words.insert(choose.randrange(len(words)), one[choose.choice(["head_entity", "tail_entity"])])
        one["context"] = " ".join(words)
    elif kind == 17:
        nested(choose, one)
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
    return text, kind in (0, 14), kind in (16, 17)


def squash(text: str) -> str:
    # An accent behind a space has no letter to join until the space is gone.
    return unicodedata.normalize("NFC", re.sub(r"\s+", "", unicodedata.normalize("NFC", text))).lower()


def places(context: str, head: str, tail: str) -> tuple[set[Span], set[Span], tuple[Span, Span] | None]:
    """Where two entities of plain ASCII stand, by regular expressions and sets of positions.

    Returns:
        The head's mentions outside of the tail's and the other way round; and the nearest two that lie apart, None
        when no two do.
    """

    def found(entity: str) -> list[Span]:
        before = r"(?<!\w)" if re.match(r"\w", entity) else ""
        after = r"(?!\w)" if re.search(r"\w\Z", entity) else ""
        return [m.span() for m in re.finditer(before + re.escape(entity) + after, context, re.I)]

    heads, tails = ({span: set(range(*span)) for span in found(entity)} for entity in (head, tail))
    own_heads = {span for span, at in heads.items() if not any(at <= other for other in tails.values())}
    own_tails = {span for span, at in tails.items() if not any(at <= other for other in heads.values())}
    pairs = [(h, t) for h in own_heads for t in own_tails if not heads[h] & tails[t]]
    nearest = min(pairs, key=lambda pair: (max(pair)[0] - min(pair)[1], pair), default=None)
    if nearest is None:
        return own_heads, own_tails, None
    own_heads = {span for span in own_heads if not heads[span] & tails[nearest[1]]}
    own_tails = {span for span in own_tails if not tails[span] & heads[nearest[0]]}
    return own_heads, own_tails, nearest


def stands_where_it_should(record: dict[str, Any], further: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Whether the spans of a record are those of ``places``, counted in letters."""
    context, *entities = (" ".join(fields[name].split()) for name in ("context", "head_entity", "tail_entity"))
    if not all(text.isascii() for text in (context, *entities)):
        return True
    heads, tails, nearest = places(context, *entities)
    if nearest is None:
        return False

    def in_text(span: Span) -> Span:
        return len(squash(context[: span[0]])), len(squash(context[: span[1]]))

    def in_tokens(span: Span) -> Span:
        return len("".join(record["tokens"][: span[0]])), len("".join(record["tokens"][: span[1]]))

    pair = [(record[side]["start"], record[side]["end"]) for side in ("head", "tail")]
    return [in_tokens(span) for span in pair] == [in_text(span) for span in nearest] and all(
        {in_tokens(span) for span in further[f"{side}_mentions"]} == {in_text(span) for span in spans}
        for side, spans in (("head", heads), ("tail", tails))
    )


def is_right(record: dict[str, Any], further: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Whether a record says what the sample says, judged from their plain texts."""
    tokens, head, tail = record["tokens"], record["head"], record["tail"]
    words = [squash("".join(tokens[entity["start"] : entity["end"]])) for entity in (head, tail)]
    # Letters before and after an entity's place, to see that no word was cut.
    whole = []
    context = " ".join(unicodedata.normalize("NFC", fields["context"]).split())
    for side in ("head_entity", "tail_entity"):
        entity = " ".join(unicodedata.normalize("NFC", fields[side]).split())
        stands = [m.span() for m in re.finditer(re.escape(entity.lower()), context.lower())]
        whole.append(
            any(
                not re.match(r"\w\w", context[max(start - 1, 0) : start + 1])
                and not re.match(r"\w\w", context[end - 1 : end + 1])
                for start, end in stands
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
        and not re.search(
            r"[\x00-\x08\ufffd\ud800-\udfff\u200b\u202e\U000e0041]|<\||rel:one|ignore the previous", context, re.I
        )
        and all((mention in further["head_mentions"]) for mention in [(head["start"], head["end"])])
        and stands_where_it_should(record, further, fields)
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
        text, pristine, whole = mutated(choose)
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
                if whole and refused.reason != "same_entity":
                    said = [" ".join(fields[name].split()) for name in ("context", "head_entity", "tail_entity")]
                    assert refused.reason in ("overlap", "head_not_in_text", "tail_not_in_text"), (refused, fields)
                    assert places(*said)[2] is None, (refused, fields)
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
