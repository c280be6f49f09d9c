"""How hard a run may try, and what it has spent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tkre_hf.knowledge.backends import Answer, Request


@dataclass(frozen=True)
class Limits:
    """How hard a run may try.

    Attributes:
        concurrency: Requests under way at once.
        max_tries: Rounds in which a job that is short of its quota asks again.
        retries: How often a request is repeated after a fault that may pass.
        backoff: Seconds before the first repetition, doubled each time, times a random factor of 0.5 to 1.
        max_backoff: The longest of these pauses; a server's ``Retry-After`` may be longer.
        timeout: Seconds a request may take in all; None for any time.
        max_requests: Of the run, repetitions included; None for any number.
        max_tokens: Of the run, prompts and answers; None for any number.
    """

    concurrency: int = 8
    max_tries: int = 4
    retries: int = 6
    backoff: float = 1.0
    max_backoff: float = 60.0
    timeout: float | None = 300.0
    max_requests: int | None = None
    max_tokens: int | None = None


class Stop(Exception):
    """No further request is sent."""


class Budget:
    """Counts requests and tokens, and promises before each request that neither limit is passed.

    Args:
        max_requests: The most requests, repetitions included; None for any number. ``max_tokens`` likewise.

    Attributes:
        freed: Set whenever a reservation ends, which may have left room for another.
    """

    def __init__(self, max_requests: int | None, max_tokens: int | None) -> None:
        self.max_requests, self.max_tokens = max_requests, max_tokens
        self.requests = self.tokens = self._open = 0
        self.freed = asyncio.Event()

    def reserve(self, request: Request) -> int | None:
        """Takes a request's tokens at their most from the budget.

        Returns:
            How many they are; None while there is not as much left, but other reservations have not ended.

        Raises:
            Stop: There is not as much left.
        """
        # Three characters a token is on the safe side for alphabetic scripts.
        tokens = request.prompt_chars() // 3 + 16 + request.sampling.max_tokens
        if self.max_requests is not None and self.requests >= self.max_requests:
            raise Stop(f"the budget of {self.max_requests} requests is used up")
        if self.max_tokens is not None and self.tokens + tokens > self.max_tokens:
            if self._open:
                return None
            raise Stop(f"the budget of {self.max_tokens} tokens is used up: {self.tokens} are spent")
        self.requests += 1
        self._add(tokens, 1)
        return tokens

    def _add(self, tokens: int, reservations: int) -> None:
        self.tokens += tokens
        self._open += reservations
        if reservations < 0:
            self.freed.set()

    def release(self, reserved: int) -> None:
        """Ends a reservation for a request that was not sent."""
        self.requests -= 1
        self._add(-reserved, -1)

    def settle(self, reserved: int, request: Request, answer: Answer | None, spent: bool = False) -> None:
        """Replaces a reservation by what was used.

        A request that failed counts its prompt, and all of the reservation where the server may have answered
        (``spent``).
        """
        prompt = request.prompt_chars() // 4
        used = reserved if spent else prompt
        if answer is not None:
            prompt = answer.prompt_tokens if answer.prompt_tokens is not None else prompt
            completion = answer.completion_tokens
            used = prompt + (completion if completion is not None else len(answer.text) // 4)
        self._add(used - reserved, -1)
