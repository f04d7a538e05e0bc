"""The intent to send: an attempt with its number, its body and the most that it can cost."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from batcher.clock import Clock
from batcher.messages.attempt import Attempt, attempt_id_of
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.engine.work import Work


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
        """The next attempt of `work`, which counts it."""
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
        )
        work.request_id = attempt.request_id
        work.last_attempt_id = attempt_id
        return attempt

    def bound(self, work: Work) -> int | None:
        """The most that the next attempt can cost in pico-USD; `None`: there is no bound."""
        request, now = work.request, self.clock.now_us()
        return self.rater.bound(work.body(), request.model, request.max_tokens, now)
