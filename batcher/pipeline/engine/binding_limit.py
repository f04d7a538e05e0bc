"""What limits a run: now, and most of the time."""

from collections import Counter, defaultdict
from enum import StrEnum
from typing import Final

from batcher.pacing.limits import Limit, QuotaLimits, QuotaUse
from batcher.pacing.pacer import Pacer
from batcher.pipeline.progress import BindingLimit, Progress

SAMPLE_SECONDS: Final = 0.25

_QUOTA_OPTIONS: Final = {
    Limit.REQUESTS: "--rpm",
    Limit.INPUT_TOKENS: "--itpm",
    Limit.OUTPUT_TOKENS: "--otpm",
}


class LocalLimit(StrEnum):
    """What can be too slow on this side of the wire; the value is the name for people."""

    DATABASE = "the database"
    READER = "the reader"


class LimitGauge:
    """Looks at a run several times a second and tells its `Progress` what limits it.

    `limits` are the user's own: they decide which option would help.
    """

    def __init__(self, progress: Progress, pacer: Pacer, limits: QuotaLimits) -> None:
        self._progress = progress
        self._pacer = pacer
        self._limits = limits
        self._seen: Counter[Limit | LocalLimit | None] = Counter()
        self._options: dict[Limit | LocalLimit, Counter[str | None]] = defaultdict(Counter)

    def sample(
        self, now: float, *, unsent_rows: int, input_ended: bool, draining: bool = False
    ) -> None:
        """Look once. `unsent_rows` are read and have never been sent.

        The end of a run, when fewer rows are left than may be in flight, does not count, and
        neither does what somebody ended, or what is `draining`.
        """
        cause = None if draining else self._cause(now, unsent_rows, input_ended=input_ended)
        if not draining and (cause is not None or unsent_rows or not input_ended):
            self._seen[cause] += 1
        if cause is not None:
            self._options[cause][self._option(cause)] += 1
        self._tell_quotas(now)
        self._tell_oldest(now)
        self._progress.binding_limit_now = self._binding(cause, 1.0)

    def end(self, now: float) -> None:
        """The run is over: say what limited it most of the time."""
        self._tell_quotas(now)
        self._progress.oldest_seconds = 0.0
        self._progress.binding_limit_now = None
        if self._seen:
            cause, count = self._seen.most_common(1)[0]
            self._progress.binding_limit = self._main(cause, count / self._seen.total())

    def _main(self, cause: Limit | LocalLimit | None, part: float) -> BindingLimit | None:
        """What would have helped most of the time, whatever would at the end."""
        if cause is None:
            return None
        ((option, _),) = self._options[cause].most_common(1)
        return BindingLimit(str(cause), option, part)

    def _cause(
        self, now: float, unsent_rows: int, *, input_ended: bool
    ) -> Limit | LocalLimit | None:
        progress, concurrency = self._progress, self._pacer.concurrency
        if progress.outage:
            return Limit.SERVER
        if progress.in_flight >= concurrency.allowed:
            unrecorded = progress.sent - progress.recorded
            slow = unrecorded * 2 > progress.in_flight and not concurrency.is_overloaded
            return LocalLimit.DATABASE if slow else self._at_the_server()
        if not unsent_rows:
            return None if input_ended else LocalLimit.READER
        return self._pacer.binding_limit(now, progress.in_flight)

    def _at_the_server(self) -> Limit | None:
        concurrency = self._pacer.concurrency
        if concurrency.is_starting:
            return None
        return Limit.AT_ONCE if concurrency.learned.holds_back else Limit.CONCURRENCY

    def _tell_oldest(self, now: float) -> None:
        progress = self._progress
        progress.oldest_seconds, progress.usual_seconds = self._pacer.oldest(now)

    def _tell_quotas(self, now: float) -> None:
        self._progress.pauses = self._pacer.pauses
        self._progress.quota_used = self._pacer.quota_used(now)
        self._progress.learned_per_minute = self._pacer.learned_per_minute()

    def _binding(self, cause: Limit | LocalLimit | None, part: float) -> BindingLimit | None:
        return None if cause is None else BindingLimit(str(cause), self._option(cause), part)

    def _option(self, cause: Limit | LocalLimit) -> str | None:
        match cause:
            case LocalLimit.DATABASE:
                return "--database"
            case LocalLimit.READER:
                return "INPUT"
            case Limit.CONCURRENCY:
                return None if self._pacer.concurrency.is_cut else "--concurrency"
            case Limit.LEARNED:
                return "--rpm"
            case Limit.PAUSE | Limit.AT_ONCE | Limit.SERVER:
                return None
            case Limit.REQUESTS | Limit.INPUT_TOKENS | Limit.OUTPUT_TOKENS:
                uses = [use for use in self._progress.quota_used if use.limit is cause]
                return quota_option(cause, self._limits, uses)


def quota_option(cause: Limit, limits: QuotaLimits, uses: list[QuotaUse]) -> str | None:
    """The option by which this quota holds the run back; `None`: the server alone does."""
    own = {
        Limit.REQUESTS: limits.requests,
        Limit.INPUT_TOKENS: limits.input_tokens,
        Limit.OUTPUT_TOKENS: limits.output_tokens,
    }.get(cause)
    if own is not None and any(use.per_minute >= own for use in uses):
        return _QUOTA_OPTIONS[cause]
    return "--quota-share" if limits.share < 1 else None
