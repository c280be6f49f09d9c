"""Who answers: one small asynchronous interface, and the faults it may report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tkre_hf.knowledge.prompts import Message

# What a prompt looks like to a model that is shown the messages as they are.
PLAIN_PROMPT = "{prompt}"


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn.

    Attributes:
        max_tokens: The most tokens of an answer.
        temperature: 0 for the likeliest answer.
        top_p: The probability mass drawn from; 1 for all.
        seed: The attempt's number is added to it, so that a second try asks for something new.
    """

    max_tokens: int = 1024
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """One question to the language model.

    Attributes:
        job: What it is for: a labelled row's id, or a relation.
        attempt: How many times the job has asked before.
        relation: The relation's label.
        messages: The prompt as chat messages.
        json_schema: The shape of the answer.
        sampling: How it is drawn; its seed is this attempt's own.
        count: How many rows are asked for.
        offset: How many the job has asked for before.
        about: What a recorded answer is found by: ``row``, ``head`` and ``tail`` of a labelled row.
    """

    job: str
    attempt: int
    relation: str
    messages: list[Message]
    json_schema: dict[str, Any]
    sampling: Sampling
    count: int = 1
    offset: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    def key(self, model: str, prompt_format: str = PLAIN_PROMPT) -> str:
        """The hash under which the answer is kept: of everything the answer depends on, not of who serves it."""
        parts = [self.job, self.attempt, model, self.messages, self.json_schema, vars(self.sampling)]
        if prompt_format != PLAIN_PROMPT:
            # Only then, so that the same messages have the same key whatever client sends them.
            parts.append(prompt_format)
        # As repr and not as JSON: all of it is made here, key by key in one order, and this is asked for each request.
        return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]

    def prompt_chars(self) -> int:
        """How long the prompt is, for estimates."""
        return sum(len(message["content"]) for message in self.messages)


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: The model's words.
        finish: Why it ended: ``stop``, or ``length`` when it was cut off.
        prompt_tokens: As the server counted them, or None. ``completion_tokens`` likewise.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Backend(Protocol):
    """A language model, wherever it runs.

    ``model`` names it in each record's provenance. One that is sent the prompt within other words has them as
    ``prompt_format``, since the answer depends on them.
    """

    model: str

    async def complete(self, request: Request) -> Answer:
        """Answers one request.

        Raises:
            UnconstrainedError: The server doesn't know the constraint; the backend sends none from here on, so the
                same request may succeed at once.
            TransientError: The same request may succeed later.
            RefusedError: This request will never be answered; others may be.
            TkreError: No request will be answered; the run stops.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections and threads."""
        ...


class TransientError(Exception):
    """A fault that may pass: a timeout, a full server, a broken connection.

    Args:
        reason: What happened, without any secret.
        retry_after: The seconds the server asked to wait, or None.
        spent: Whether the server may have written an answer all the same, as after a timeout.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, spent: bool = False) -> None:
        super().__init__(reason)
        self.retry_after, self.spent = retry_after, spent


class RefusedError(Exception):
    """A request that is at fault itself, such as one too long for the model."""


class UnconstrainedError(Exception):
    """The server doesn't know the constraint; the same request without it may be answered."""
