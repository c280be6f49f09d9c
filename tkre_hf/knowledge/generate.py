"""Runs: from jobs to answers to records, at bounded concurrency, within a budget, and never asking twice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias

from tqdm.auto import tqdm

from tkre_hf.errors import TkreError
from tkre_hf.knowledge.backends import (
    PLAIN_PROMPT,
    Answer,
    Backend,
    RefusedError,
    Request,
    TransientError,
    UnconstrainedError,
)
from tkre_hf.knowledge.budget import Budget, Limits, Stop
from tkre_hf.knowledge.jobs import Job, judge_answer
from tkre_hf.knowledge.journal import Processed, RunFolder
from tkre_hf.places import without_folders

logger = logging.getLogger(__name__)

# A request, its key, and its outcome or the task that ends in it.
_Asked: TypeAlias = "tuple[Job, Request, str, asyncio.Task[Answer | str | None] | Answer | str]"
# How far requests may run ahead of the oldest one that is not answered, as a multiple of the concurrency.
_AHEAD = 8
# A server that asks for a longer pause, in seconds, is out of service for this run.
_LONGEST_PAUSE = 600.0
_REFUSED = "refused: "


class Runner:
    """Carries out jobs.

    Requests are sent in rounds. In each, every job short of its quota asks for what it is short of, and answers are
    judged in the order of the requests, however they arrive: which of two near-duplicates is kept doesn't depend on a
    server's timing, and a run that was killed ends with the rows of one that was not.

    Args:
        jobs: In the order in which they are asked.
        backend: Who answers.
        folder: Where answers and rows are kept.
        limits: How hard to try.
        progress: Whether a progress bar is shown.
        sleep: For tests.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        backend: Backend,
        folder: RunFolder,
        limits: Limits,
        *,
        progress: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.jobs, self.backend, self.folder, self.limits = jobs, backend, folder, limits
        self.budget = Budget(limits.max_requests, limits.max_tokens)
        self.stopped = ""
        self.failures: dict[str, str] = {}
        self._prompt_format: str = getattr(backend, "prompt_format", PLAIN_PROMPT)
        # Rows are published: where a local model lies is nobody's business.
        self._origin = {"model": without_folders(backend.model)}
        if self._prompt_format != PLAIN_PROMPT:
            self._origin["prompt_format"] = self._prompt_format
        self._fatal: BaseException | None = None
        self._sleep = sleep
        self._random = random.Random()
        self._not_before = 0.0
        self._turns = asyncio.Lock()
        self._silent: dict[str, tuple[Request, str]] = {}
        self._judged = self._good = 0
        self._gap = False
        self._refusals: Counter[str] = Counter()
        self.unjudged = 0
        self._bar = tqdm(total=sum(job.quota for job in jobs), unit="row", disable=None if progress else True)

    async def run(self) -> None:
        """Asks until every quota is filled, every job has had its tries, or something stops the run.

        Why a run stopped early is in ``stopped``, why a request got no answer in ``failures``, and in ``unjudged`` how
        many answers wait for one before them.

        Raises:
            TkreError: No request can be answered, such as for want of a token, or nothing can be written; what was
                answered is kept.
        """
        syncing = asyncio.create_task(self.folder.sync_forever())
        syncing.add_done_callback(self._stop_with)
        try:
            with _settled_heap():
                for _ in range(self.limits.max_tries):
                    if not await self._round() or self.stopped:
                        break
        finally:
            self._bar.close()
            syncing.cancel()
            await asyncio.gather(syncing, return_exceptions=True)
            self.folder.sync()
        if self._fatal is not None:
            raise self._fatal

    def _stop_with(self, syncing: asyncio.Task[None]) -> None:
        """Sends nothing more once what comes back can't be brought to the disk."""
        if not syncing.cancelled() and (error := syncing.exception()) is not None:
            self.stopped = self.stopped or str(error)
            self._fatal = self._fatal or error

    def _requests(self) -> Iterator[tuple[Job, Request]]:
        for job in self.jobs:
            missing = job.quota - job.accepted
            while missing > 0 and not job.given_up:
                count = min(missing, job.per_request)
                request = job.ask(job.attempts, count, job.asked)
                job.attempts, job.asked, missing = job.attempts + 1, job.asked + count, missing - count
                yield job, request

    async def _round(self) -> bool:
        """Sends one round of requests; says whether there were any."""
        slots = asyncio.Semaphore(self.limits.concurrency)
        waiting: deque[_Asked] = deque()
        asked: Counter[str] = Counter()
        self._refusals.clear()
        try:
            for job, request in self._requests():
                asked[job.name] += 1
                key = request.key(self.backend.model, self._prompt_format)
                known = self.folder.answer(key)
                if known is None:
                    # Sending goes first: a server that waits for a verdict on its last answer waits in vain.
                    while slots.locked() and waiting and _done(waiting[0][3]) and waiting[0][2] not in self._silent:
                        await self._take(*waiting.popleft())
                        await asyncio.sleep(0)
                    await slots.acquire()
                    if self.stopped:
                        slots.release()
                        break
                    waiting.append((job, request, key, asyncio.create_task(self._ask(request, key, slots))))
                else:
                    waiting.append((job, request, key, known))
                while len(waiting) > _AHEAD * self.limits.concurrency and await self._known(waiting[0]):
                    await self._take(*waiting.popleft())
            while waiting:
                if not await self._known(waiting[0]):
                    await asyncio.wait([item[3] for item in waiting if isinstance(item[3], asyncio.Task)])
                await self._take(*waiting.popleft())
        finally:
            tasks = [item[3] for item in waiting if isinstance(item[3], asyncio.Task)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # Not before all are known: which of them is refused first depends on the server's timing.
        for job in self.jobs:
            job.given_up |= 0 < asked[job.name] == self._refusals[job.name]
        return bool(asked)

    async def _known(self, asked: _Asked) -> bool:
        """Waits for an outcome; says whether it is final, which a silence is not until somebody else is answered.

        Requests go on being sent meanwhile, no more than it takes to see that nobody answers.
        """
        *_, key, outcome = asked
        if isinstance(outcome, asyncio.Task) and not outcome.done():
            await asyncio.wait([outcome])
        return key not in self._silent

    async def _take(self, job: Job, request: Request, key: str, outcome: Any) -> None:
        if isinstance(outcome, asyncio.Task):
            outcome = await outcome
        if self.stopped and key in self._silent:
            outcome = None
        if outcome is None or self._gap:
            # Not answered, because the run stops: what comes after it is judged when the run goes on.
            self._gap = True
            self.unjudged += isinstance(outcome, Answer)
        elif isinstance(outcome, str):
            self.failures[key] = f"{job.name}, attempt {request.attempt}: {outcome}"
            self._refusals[job.name] += outcome.startswith(_REFUSED)
        else:
            self._judge(job, request, key, outcome)

    async def _ask(self, request: Request, key: str, slots: asyncio.Semaphore) -> Answer | str | None:
        """Asks until there is an answer, or the reason why there will be none; None when the run stops first."""
        try:
            outcome = await self._answer(request)
            self._keep(key, request, outcome)
            return outcome
        except Stop as stop:
            self.stopped = self.stopped or str(stop)
        except TkreError as error:
            self.stopped = self.stopped or str(error)
            self._fatal = self._fatal or error
        finally:
            slots.release()
        return None

    def _keep(self, key: str, request: Request, outcome: Answer | str) -> None:
        """Writes an outcome down; that there was no answer, only once the server has answered another request."""
        if isinstance(outcome, Answer):
            for silent, (asked, reason) in list(self._silent.items()):
                self.folder.keep(silent, asked.job, asked.attempt, reason, self._prompt_format)
                del self._silent[silent]
        elif not outcome.startswith(_REFUSED):
            self._silent[key] = (request, outcome)
            if (count := len(self._silent)) >= max(self.limits.concurrency, 4):
                # Nobody is there: the requests are left for the next run instead of being used up.
                raise TkreError(f"{count} requests in a row got no answer, the last one because of: {outcome}")
            return
        self.folder.keep(key, request.job, request.attempt, outcome, self._prompt_format)

    async def _turn(self, request: Request) -> int:
        """Waits until a request may be sent; returns the tokens reserved for it.

        Raises:
            Stop: It may not be sent any more.
        """
        # In the order of the requests, so that a small one doesn't take what a large one before it waits for.
        async with self._turns:
            # What is under way will leave more of its reservation than it takes: not yet a reason to stop.
            while (reserved := self.budget.reserve(request)) is None:
                self.budget.freed.clear()
                await self.budget.freed.wait()
        while (pause := self._not_before - asyncio.get_running_loop().time()) > 0:
            # Not all at the same moment.
            await self._sleep(pause * self._random.uniform(1, 1.1))
        if self.stopped:
            self.budget.release(reserved)
            raise Stop(self.stopped)
        return reserved

    async def _answer(self, request: Request) -> Answer | str:
        limits, loop, reason = self.limits, asyncio.get_running_loop(), ""
        attempt, constrained = 0, True
        while attempt <= limits.retries:
            reserved = await self._turn(request)
            answer: Answer | None = None
            spent = False
            try:
                async with asyncio.timeout(limits.timeout):
                    answer = await self.backend.complete(request)
                return answer
            except RefusedError as error:
                return f"{_REFUSED}{error}"
            except UnconstrainedError as error:
                if not constrained:
                    return f"{_REFUSED}{error}"
                # The backend asks without it now. That is no repetition of what failed, but a request like any other.
                constrained = False
                continue
            except TimeoutError:
                reason, retry_after, spent = f"no answer within {limits.timeout} s", None, True
            except TransientError as error:
                reason, retry_after, spent = str(error), error.retry_after, error.spent
            finally:
                self.budget.settle(reserved, request, answer, spent)
            logger.debug("%s, attempt %d: %s", request.job, request.attempt, reason)
            if retry_after and retry_after > _LONGEST_PAUSE:
                raise TkreError(f"the server asks to wait {retry_after:.0f} s ({reason}): run the command again then")
            if retry_after:
                # A server that is full is full for every request.
                self._not_before = max(self._not_before, loop.time() + retry_after)
            if attempt < limits.retries:
                pause = min(limits.backoff * 2**attempt, limits.max_backoff) * self._random.uniform(0.5, 1)
                await self._sleep(pause)
            attempt += 1
        return f"no answer in {limits.retries + 1} attempts: {reason}"

    def _judge(self, job: Job, request: Request, key: str, answer: Answer) -> None:
        """Judges the candidates of an answer that were not judged before, and writes what became of them."""
        done = self.folder.processed.pop(key, None)
        if done is None or not done.whole:
            done = done or Processed(0)
            accepted, rejected = judge_answer(job, request, key, answer, done, self._origin)
            self.folder.write(job.relation, accepted, rejected)
        good = sum(done.accepted.values())
        job.accepted += good
        self._judged, self._good = self._judged + done.of, self._good + good
        self._bar.set_postfix_str(f"accepted {self._good / max(self._judged, 1):.0%}", refresh=False)
        self._bar.update(good)


def _done(outcome: Any) -> bool:
    return not isinstance(outcome, asyncio.Task) or outcome.done()


@contextlib.contextmanager
def _settled_heap() -> Iterator[None]:
    """Leaves what is in memory now out of garbage collection.

    To look through all that the libraries have made takes as long as hundreds of requests, and frees nothing.
    """
    if gc.get_freeze_count():
        # Somebody else has seen to it, and would be undone.
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
