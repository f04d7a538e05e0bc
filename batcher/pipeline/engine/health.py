"""What outcomes say about the server: a pause of the quota, an outage, a recovery."""

from dataclasses import dataclass
from typing import Final

from batcher.clock import Clock
from batcher.errors import ProviderUnavailable
from batcher.messages.failure import Failure, Verdict
from batcher.messages.outcome import Answered, NotSent, Outcome, Rejected, Unknown
from batcher.pacing.breaker import Breaker
from batcher.pipeline.engine.decide import failure_of


@dataclass(frozen=True, slots=True)
class Change:
    """What follows from an outcome, besides what becomes of its row.

    `shut`: less may go than before. `recovered`: everybody who waited may try. `outage`: what
    to tell people while nothing but probes goes. `error`: the server has been down for longer
    than we wait.
    """

    shut: bool = False
    recovered: bool = False
    outage: str = ""
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
            error = self._given_up(failure)
            return Change(shut=True, outage=self._outage(failure), error=error)
        return self._alive()

    def _alive(self) -> Change:
        was_open = self._breaker.is_open
        self._breaker.succeeded()
        return Change(recovered=True) if was_open else _NOTHING

    def _given_up(self, failure: Failure) -> ProviderUnavailable | None:
        if not self._breaker.gives_up(self._clock.monotonic()):
            return None
        return ProviderUnavailable(
            f"{self._silent(failure)}; nothing is lost: type the same command again when it is"
            " back"
        )

    def _outage(self, failure: Failure) -> str:
        if not self._breaker.is_open:
            return ""
        seconds = self._breaker.patience_seconds
        return f"{self._silent(failure)}: one row at a time tries, for {seconds:,.0f} s at most"

    def _silent(self, failure: Failure) -> str:
        why = f"{failure.error_type}: {failure.message[:300]}"
        return f"endpoint {self._endpoint} does not answer ({why})"


def server_is_down(outcome: Outcome) -> bool:
    """Whether this outcome says that the server is not there or not able to work."""
    if isinstance(outcome, (NotSent, Unknown)):
        return True
    if isinstance(outcome, Rejected) and outcome.failure.verdict is Verdict.OVERLOADED:
        return True  # also inside a 200
    status = outcome.exchange.http_status
    return not isinstance(outcome, Answered) and status is not None and status >= 500
