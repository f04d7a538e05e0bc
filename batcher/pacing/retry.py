"""When a failed row is tried again, and when it is given up. Pure: numbers in, a wait out."""

from dataclasses import dataclass
from typing import Final

from batcher.messages.failure import Failure, Verdict

_OVERLOAD_MAX_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient we are with one row.

    `max_attempts` counts attempts that ended in transient failures; 429, 529 and attempts that
    never left do not use them up. Waits are full-jitter exponential from `first_wait_seconds`
    up to `max_wait_seconds`.
    """

    max_attempts: int = 5
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 30.0

    def wait_seconds(
        self, failure: Failure, *, used_up: int, tries: int, chance: float
    ) -> float | None:
        """Seconds until the row's next attempt; `None` when it is given up.

        `used_up` counts the attempts that count against the row, this one included, `tries`
        all of them; `chance` is in [0, 1). A server's `retry-after` is obeyed exactly, with
        jitter only on top.
        """
        if failure.verdict is Verdict.RETRY_ROW and used_up >= self.max_attempts:
            return None
        backoff = self._backoff(failure.verdict, tries) * chance
        asked = failure.retry_after_seconds
        return backoff if asked is None else asked + min(backoff, 2.0)

    def _backoff(self, verdict: Verdict, tries: int) -> float:
        ceiling = self.max_wait_seconds
        if verdict is Verdict.OVERLOADED:
            ceiling = max(ceiling, _OVERLOAD_MAX_SECONDS)
        return min(self.first_wait_seconds * 2.0 ** min(tries, 20), ceiling)
