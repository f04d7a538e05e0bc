"""The intent to send: an attempt with its number, its body and the most that it can cost."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from batcher.clock import Clock
from batcher.ledger.write.records import Intent
from batcher.ledger.write.writer import Writer
from batcher.messages.request import (
    Attempt,
    Outcome,
    Submitted,
    attempt_id_of,
    invocation_of,
)
from batcher.pipeline.choices import LaneChoice
from batcher.pipeline.engine.decide import cut_off
from batcher.pipeline.engine.known_rows import DoneRows
from batcher.pipeline.engine.rater import CacheRates, Rater
from batcher.pipeline.engine.work import Returns, Underway, Work
from batcher.pipeline.progress import Progress
from batcher.transport.endpoint import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """Makes the attempts of one invocation.

    `attempt_uids` is what their uids begin with, `numbers` counts those of the process.
    """

    invocation_id: int
    attempt_uids: str
    rater: Rater
    clock: Clock
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def open(self, work: Work) -> Attempt:
        """The next attempt of `work`, or the one that left for it some time ago."""
        return self._next(work) if work.underway is None else self._again(work, work.underway)

    def _next(self, work: Work) -> Attempt:
        request = work.request
        number = next(self.numbers)
        attempt_id = attempt_id_of(self.invocation_id, number)
        body = work.body()
        now = self.clock.now_us()
        work.attempts += 1
        attempt = Attempt(
            attempt_id=attempt_id,
            uid=f"{self.attempt_uids}{number:x}",
            request_id=work.request_id or attempt_id,
            request=request,
            number=work.attempts,
            leg=work.leg,
            purpose=work.purpose,
            body=body,
            opened_at=now,
            cost_high=self.rater.bound(body, request.model, request.max_tokens, now),
            replaces=work.last_attempt_id or None,
            asked=self.rater.asked(body),
            invocation_id=self.invocation_id,
            cached=work.cached,
        )
        work.request_id = attempt.request_id
        work.last_attempt_id = attempt_id
        return attempt

    def _again(self, work: Work, underway: Underway) -> Attempt:
        body = work.body()
        return Attempt(
            attempt_id=underway.attempt_id,
            uid=underway.uid,
            request_id=work.request_id,
            request=work.request,
            number=work.attempts,
            leg=work.leg,
            purpose=work.purpose,
            body=body,
            opened_at=underway.opened_at,
            cost_high=underway.cost_high,
            asked=self.rater.asked(body),
            invocation_id=invocation_of(underway.attempt_id),
            lane=LaneChoice.BATCH.value,
        )

    def cache_rates(self, model: str) -> CacheRates | None:
        """What a token costs with and without the prompt cache; see `Rater.cache_rates`."""
        return self.rater.cache_rates(model, self.clock.now_us())

    def bound(self, work: Work) -> int | None:
        """The most that the next attempt can cost in pico-USD; `None`: there is no bound."""
        request, now = work.request, self.clock.now_us()
        return self.rater.bound(work.body(), request.model, request.max_tokens, now)


class Carrying(Protocol):
    """What an engine has that attempts are carried by."""

    writer: Writer
    lane: Lane
    returns: Returns
    clock: Clock
    done: DoneRows
    progress: Progress


class Carrier:
    """Makes intents durable and sends them; what comes of an attempt is told, never raised."""

    def __init__(self, engine: Carrying) -> None:
        self._writer, self._lane, self._returns = engine.writer, engine.lane, engine.returns
        self._clock, self._done, self._progress = engine.clock, engine.done, engine.progress

    async def carry(
        self, work: Work, attempt: Attempt
    ) -> tuple[Outcome | Submitted, BaseException | None]:
        """What came of the attempt, and what ended it where it ended badly."""
        if work.underway is not None:
            return self._returns.outcome(attempt, work.underway), None
        durable = False
        self._done.opened(attempt.attempt_id)
        self._progress.sent += 1
        try:
            await self._writer.durable(Intent(attempt=attempt))
            durable = True
            self._progress.recorded += 1
            return await self._lane.send(attempt), None
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - the engine hears it
            return cut_off(attempt, self._clock.now_us(), sent=durable), exc
