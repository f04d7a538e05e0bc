"""What outcomes say about the server: a pause of the quota, an outage, a recovery."""

from dataclasses import dataclass
from typing import Final

from batcher.clock import Clock
from batcher.errors import ProviderUnavailable
from batcher.messages.failure import Failure, Verdict
from batcher.messages.outcome import Answered, NotSent, Outcome, Unknown
from batcher.pacing.breaker import Breaker
from batcher.pipeline.decide import failure_of


@dataclass(frozen=True, slots=True)
class Change:
    """What follows from an outcome, besides what becomes of its row.

    `shut`: less may go than before. `recovered`: everybody who waited may try. `error`: the
    server has been down for longer than we wait.
    """

    shut: bool = False
    recovered: bool = False
    error: ProviderUnavailable | None = None


_NOTHING: Final = Change()


class Health:
    """Keeps the breaker informed."""

    def __init__(self, breaker: Breaker, clock: Clock, endpoint: str) -> None:
        self._breaker = breaker
        self._clock = clock
        self._endpoint = endpoint

    def observe(self, outcome: Outcome) -> Change:
        """Tell the pacing what `outcome` says about the server's state."""
        if isinstance(outcome, Answered):
            return self._alive()
        failure = failure_of(outcome)
        if failure.verdict is Verdict.PAUSE_QUOTA:
            return Change(shut=True, recovered=self._alive().recovered)
        if server_is_down(outcome):
            self._breaker.failed(self._clock.monotonic())
            return Change(shut=True, error=self._given_up(failure))
        return self._alive()

    def _alive(self) -> Change:
        was_open = self._breaker.is_open
        self._breaker.succeeded()
        return Change(recovered=True) if was_open else _NOTHING

    def _given_up(self, failure: Failure) -> ProviderUnavailable | None:
        if not self._breaker.gives_up(self._clock.monotonic()):
            return None
        return ProviderUnavailable(
            f"endpoint {self._endpoint} does not answer ({failure.error_type}: "
            f"{failure.message[:300]}); nothing is lost: type the same command again when it "
            "is back"
        )


def server_is_down(outcome: Outcome) -> bool:
    """Whether this outcome says that the server is not there or not able to work."""
    if isinstance(outcome, (NotSent, Unknown)):
        return True
    status = outcome.exchange.http_status
    return not isinstance(outcome, Answered) and status is not None and status >= 500
