from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("outlines_core", reason="needs the extra [constrained]")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tkre_hf.errors import TkreError
from tkre_hf.knowledge.backends import Answer, RefusedError, Request, Sampling
from tkre_hf.knowledge.constrained import JsonConstraint, _byte_letters
from tkre_hf.knowledge.local import TransformersBackend
from tkre_hf.knowledge.parse import parse_samples
from tkre_hf.knowledge.schema import RelationSchema, explanation_json_schema, samples_json_schema

SCHEMA = RelationSchema("x", head_types=("PERSON", "WORK"), tail_types=("PLACE",), relation="x")


def tokenizer(*merges: tuple[str, str], byte_level: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a few merges, or one of whole characters in SentencePiece's manner."""
    if byte_level:
        pieces = [*_byte_letters(), *("".join(merge) for merge in merges)]
        made = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate([*pieces, "<eos>"])}, merges=list(merges)))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    else:
        pieces = ["<unk>", "▁", *(chr(code) for code in range(33, 127)), *(f"<0x{byte:02X}>" for byte in range(256))]
        vocabulary = {p: i for i, p in enumerate([*pieces, "<eos>"])}
        made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>")


def language_model(words: PreTrainedTokenizerFast, positions: int = 1024) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    end = words.eos_token_id
    shape = {
        "n_positions": positions,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "bos_token_id": end,
        "eos_token_id": end,
    }
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(words), **shape))


def request(job: str = "x", schema: dict[str, Any] | None = None, prompt: str = "hi", **sampling: Any) -> Request:
    shape = samples_json_schema(SCHEMA, 3) if schema is None else schema
    return Request(
        job, 0, "x", [{"role": "user", "content": prompt}], shape, Sampling(**{"max_tokens": 200, **sampling})
    )


def complete(backend: TransformersBackend, *requests: Request) -> list[Any]:
    async def go() -> list[Any]:
        try:
            return list(await asyncio.gather(*map(backend.complete, requests), return_exceptions=True))
        finally:
            await backend.close()

    return asyncio.run(go())


@pytest.mark.parametrize("byte_level", [True, False])
def test_all_of_100_answers_of_a_random_model_parse(byte_level: bool) -> None:
    words = tokenizer(("Ġ", "a"), ('"', ","), ("c", "o"), byte_level=byte_level)
    backend = TransformersBackend(language_model(words), words, batch_size=25)
    answers = complete(backend, *(request(f"job {i}") for i in range(100)))
    for answer in answers:
        said = json.loads(answer.text)
        assert said["samples"] and parse_samples(answer.text) == said["samples"]
        for sample in said["samples"]:
            assert list(sample) == ["context", "head_entity", "head_type", "tail_entity", "tail_type"]
            assert sample["head_type"] in SCHEMA.head_types and sample["tail_type"] == "PLACE"
        assert answer.completion_tokens <= 200
    assert len({answer.text for answer in answers}) == 100


def test_an_answer_depends_on_its_request_and_not_on_its_batch() -> None:
    words = tokenizer()
    requests = [request(f"job {i}", prompt="hi " * i) for i in range(5)]
    together = complete(TransformersBackend(language_model(words), words, batch_size=5), *requests)
    alone = complete(TransformersBackend(language_model(words), words, batch_size=1), *requests)
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [answer.prompt_tokens for answer in together] == [answer.prompt_tokens for answer in alone]


def test_temperature_zero_is_the_likeliest_and_lengths_are_kept_apart() -> None:
    words = tokenizer()
    backend = TransformersBackend(language_model(words), words)
    mixed = [request("a", temperature=0), request("b", temperature=0), request("c", max_tokens=150, top_p=0.5)]
    first, second, third = complete(
        backend,
        *mixed,
    )
    assert first.text == second.text != third.text
    assert third.completion_tokens <= 150 and json.loads(third.text)


def test_what_cannot_fit_is_said() -> None:
    words = tokenizer()
    backend = TransformersBackend(language_model(words, positions=300), words)
    long, short = complete(backend, request("a", prompt="long " * 30), request("b"))
    assert isinstance(long, RefusedError) and "do not fit into the model's 300" in str(long)
    assert isinstance(short, Answer)
    (error,) = complete(TransformersBackend(language_model(words), words), request("a", max_tokens=20))
    assert isinstance(error, TkreError) and "raise --max-new-tokens" in str(error)


def test_the_chat_template_is_used_with_or_without_a_system_message() -> None:
    words = tokenizer()
    words.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    backend = TransformersBackend(language_model(words), words)
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert backend._prompt(messages) == "<system>S<user>U"
    words.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    )
    assert backend._prompt(messages) == "<user>S\n\nU"
    words.chat_template = None
    assert backend._prompt(messages) == "S\n\nU\n"


@pytest.mark.parametrize(
    "schema", [explanation_json_schema(), samples_json_schema(SCHEMA, 8), samples_json_schema(RelationSchema(""), 1)]
)
def test_from_every_state_the_end_can_be_reached(schema: dict[str, Any]) -> None:
    constraint = JsonConstraint(schema, tokenizer(('"', ":"), ("}", "]")))
    state, text, remaining = constraint.initial, [], constraint.shortest
    while remaining:
        allowed = constraint.allowed(state, remaining)
        assert len(allowed)
        text.append(int(allowed[0]))
        state = constraint.next_state(state, text[-1])
        remaining -= 1
    assert constraint.eos in constraint.states[state].tokens
    assert len(constraint.allowed(constraint.initial, constraint.shortest - 1)) == 0
    assert constraint.next_state(state, constraint.eos) == state


def test_a_tokenizer_that_cannot_write_exact_text_is_refused() -> None:
    made = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "<eos>": 2}, unk_token="[UNK]"))
    made.decoder = decoders.WordPiece()
    with pytest.raises(TkreError, match="WordPiece"):
        JsonConstraint(explanation_json_schema(), PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>"))
    endless = PreTrainedTokenizerFast(tokenizer_object=made)
    with pytest.raises(TkreError, match="end-of-sequence"):
        JsonConstraint(explanation_json_schema(), endless)


def test_a_checkpoint_is_loaded_by_its_folder(tmp_path: Path) -> None:
    words = tokenizer()
    language_model(words).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    backend = TransformersBackend(str(tmp_path), batch_size=2)
    (answer,) = complete(backend, request())
    assert json.loads(answer.text) and backend.model == str(tmp_path)
    with pytest.raises(TkreError, match="cannot load the language model"):
        TransformersBackend(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="tokenizer"):
        TransformersBackend(language_model(words))
