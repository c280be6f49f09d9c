"""A causal language model on this machine, in batches, writing nothing but JSON of the schema."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from tkre_hf.errors import TkreError
from tkre_hf.knowledge.backends import Answer, RefusedError, Request
from tkre_hf.knowledge.constrained import ConstrainedSampling, JsonConstraint
from tkre_hf.knowledge.prompts import Message


class TransformersBackend:
    """A local model. Requests that wait at the same time share a batch.

    Args:
        model: A causal language model, or the name or folder of one.
        tokenizer: Its tokenizer; None to load it from the same place.
        name: What provenance calls it; by default where it came from.
        batch_size: The most requests of a batch.
        trust_remote_code: Whether the checkpoint's own code may run.

    Raises:
        TkreError: There is no such checkpoint.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        name: str | None = None,
        batch_size: int = 8,
        trust_remote_code: bool = False,
    ) -> None:
        if isinstance(model, str):
            name = name or model
            try:
                tokenizer = tokenizer or AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
                model = AutoModelForCausalLM.from_pretrained(model, dtype="auto", trust_remote_code=trust_remote_code)
            except (OSError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise TkreError(f"cannot load the language model {name}: {reason}") from None
            model.to("cuda" if torch.cuda.is_available() else "cpu")
        if tokenizer is None:
            raise ValueError("a model that is loaded already needs its tokenizer beside it")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"
        self.model = name or "local"
        self._network, self._tokenizer, self._batch_size = model.eval(), tokenizer, batch_size
        self._constraints: dict[str, JsonConstraint] = {}
        self._waiting: asyncio.Queue[tuple[Request, asyncio.Future[Answer]]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    async def complete(self, request: Request) -> Answer:
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self._waiting.put((request, future))
        return await future

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            # One turn of the loop lets every request that is ready join.
            await asyncio.sleep(0)
            while len(batch) < self._batch_size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [(request, future) for request, future in batch if not future.done()]
            # One generation has one length and one temperature.
            while batch:
                sampling = batch[0][0].sampling
                together = [
                    item
                    for item in batch
                    if (item[0].sampling.max_tokens, item[0].sampling.temperature, item[0].sampling.top_p)
                    == (sampling.max_tokens, sampling.temperature, sampling.top_p)
                ]
                batch = [item for item in batch if item not in together]
                try:
                    answers = await asyncio.to_thread(self.generate, [request for request, _ in together])
                except Exception as error:
                    for _, future in together:
                        future.set_exception(error)
                    continue
                for (_, future), answer in zip(together, answers, strict=True):
                    if not future.done():
                        if isinstance(answer, Answer):
                            future.set_result(answer)
                        else:
                            future.set_exception(answer)

    @torch.no_grad()
    def generate(self, requests: list[Request]) -> list[Answer | RefusedError]:
        """Answers requests of the same sampling in one batch.

        Raises:
            TkreError: The answer's shape needs more than ``max_tokens``, or the batch doesn't fit into memory.
        """
        prompts = [self._prompt(request.messages) for request in requests]
        lengths = [len(ids) for ids in self._tokenizer(prompts, add_special_tokens=not self._chats)["input_ids"]]
        sampling = requests[0].sampling
        room = getattr(self._network.config, "max_position_embeddings", None)
        fits = [room is None or length + sampling.max_tokens <= room for length in lengths]
        answers = iter(self._generate([(r, p) for r, p, fit in zip(requests, prompts, fits, strict=True) if fit]))
        too_long = "a prompt of {} tokens and an answer of {} do not fit into the model's {}"
        return [
            next(answers) if fit else RefusedError(too_long.format(length, sampling.max_tokens, room))
            for fit, length in zip(fits, lengths, strict=True)
        ]

    def _generate(self, asked: list[tuple[Request, str]]) -> list[Answer]:
        if not asked:
            return []
        tokenizer, sampling = self._tokenizer, asked[0][0].sampling
        constraints = [self._constraint(request) for request, _ in asked]
        if (shortest := max(constraint.shortest for constraint in constraints)) > sampling.max_tokens:
            raise TkreError(
                f"an answer needs at least {shortest} tokens: raise --max-new-tokens ({sampling.max_tokens})"
            )
        inputs = tokenizer(
            [prompt for _, prompt in asked], padding=True, add_special_tokens=not self._chats, return_tensors="pt"
        )
        seeds = [int(request.key(self.model)[:15], 16) for request, _ in asked]
        processor = ConstrainedSampling(constraints, seeds, sampling.max_tokens, sampling.temperature, sampling.top_p)
        config = GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        try:
            output = self._network.generate(
                input_ids=inputs["input_ids"].to(self._network.device),
                attention_mask=inputs["attention_mask"].to(self._network.device),
                generation_config=config,
                logits_processor=[processor],
            )
        except torch.cuda.OutOfMemoryError:
            raise TkreError(
                f"a batch of {len(asked)} does not fit into the GPU's memory: lower --concurrency"
            ) from None
        answers = []
        for row, mask in zip(
            output[:, inputs["input_ids"].shape[1] :].tolist(), inputs["attention_mask"], strict=True
        ):
            length = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
            text = str(tokenizer.decode(row[:length], skip_special_tokens=True, clean_up_tokenization_spaces=False))
            finish = "stop" if length < len(row) or length < sampling.max_tokens else "length"
            answers.append(Answer(text, finish, int(mask.sum()), length))
        return answers

    @property
    def _chats(self) -> bool:
        return bool(getattr(self._tokenizer, "chat_template", None))

    def _prompt(self, messages: list[Message]) -> str:
        if not self._chats:
            return "\n\n".join(message["content"] for message in messages) + "\n"
        from jinja2 import TemplateError

        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError:
            # Some templates refuse a system message.
            joined = [{"role": "user", "content": "\n\n".join(message["content"] for message in messages)}]
            return str(self._tokenizer.apply_chat_template(joined, tokenize=False, add_generation_prompt=True))

    def _constraint(self, request: Request) -> JsonConstraint:
        shape = json.dumps(request.json_schema)
        if shape not in self._constraints:
            self._constraints[shape] = JsonConstraint(request.json_schema, self._tokenizer)
        return self._constraints[shape]

    async def close(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
