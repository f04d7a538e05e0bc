"""Keeps a `Progress` up to date: what the engine decides, and what limits the run."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from batcher.messages.answer import Answer
from batcher.messages.failure import FailureKind
from batcher.messages.request import Answered
from batcher.pacing.limits import Limit, QuotaLimits, QuotaUse
from batcher.pacing.pacer import Pacer
from batcher.pipeline.engine.decide import Done, OutcomeDecision, in_doubt
from batcher.pipeline.engine.known_rows import RecentIds, SeenIds
from batcher.pipeline.engine.policies import KNOWN_STOP_REASONS, TRUNCATED
from batcher.pipeline.engine.work import Work
from batcher.pipeline.progress import BindingLimit, Progress
from batcher.pricing.rate.rating import Charge, ChargeStatus

_REASON_LENGTH: Final = 60
_MOST_REASONS: Final = 20
_MESSAGE_LENGTH: Final = 200  # of a failure, for a display
SAMPLE_SECONDS: Final = 0.25
_QUOTA_OPTIONS: Final = {
    Limit.REQUESTS: "--rpm",
    Limit.INPUT_TOKENS: "--itpm",
    Limit.OUTPUT_TOKENS: "--otpm",
}


class Tally:
    """Counts; the numbers themselves live in the `Progress` it was given."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._ids = SeenIds()
        self._message_ids = RecentIds()

    def read(self, works: Sequence[Work]) -> None:
        """Rows that are going to be sent."""
        for work in works:
            custom_id = work.request.custom_id
            if custom_id is not None and self._ids.seen_before(custom_id):
                self._progress.repeated_custom_ids += 1

    def settled(self, verdicts: OutcomeDecision) -> bool:
        """An attempt ended, and this is what was decided.

        Gives whether more was billed for it than it could cost, or nobody knows any more.
        """
        settlement, progress = verdicts.settlement, self._progress
        billed = settlement.cost_low
        if isinstance(settlement.outcome, Answered):
            self._answer(settlement.outcome.answer, stays=not settlement.pending)
            self._progress.invalid += settlement.valid is False and settlement.final
            billed = self._money(settlement.charges)
        elif in_doubt(settlement.outcome):
            progress.in_doubt += 1
            progress.in_doubt_low += settlement.cost_low
            progress.in_doubt_high = _plus(progress.in_doubt_high, settlement.cost_high)
        elif settlement.cost_high != 0:  # refused, by a server that may bill it even so
            progress.maybe_billed += 1
            progress.maybe_billed_high = _plus(progress.maybe_billed_high, settlement.cost_high)
        if settlement.failure:
            failure = settlement.failure
            self.gave_up(failure.kind, failure.reason, failure.message)
        elif isinstance(verdicts.next, Done):
            progress.answered += 1
        bound = settlement.attempt.cost_high
        known = settlement.cost_high is not None or isinstance(settlement.outcome, Answered)
        if bound is None or (billed <= bound and known):
            return False
        progress.overbilled += 1
        return True

    def gave_up(self, kind: FailureKind, reason: str, message: str) -> None:
        """A row that gets no answer, and why."""
        self._progress.last_failure = f"{reason}: {message[:_MESSAGE_LENGTH]}"
        match kind:
            case FailureKind.QUARANTINED:
                self._progress.quarantined += 1
            case FailureKind.FAILED:
                self._progress.failed += 1
            case FailureKind.HELD:
                self._progress.held += 1

    def _answer(self, answer: Answer, *, stays: bool) -> None:
        usage, progress = answer.usage, self._progress
        if answer.message_id and self._message_ids.seen_before(answer.message_id):
            progress.repeated_message_ids += 1
        if usage:
            progress.input_tokens += usage.input_tokens or 0
            progress.output_tokens += usage.output_tokens or 0
        progress.truncated += stays and answer.stop_reason in TRUNCATED
        progress.refused += answer.stop_reason == "refusal"
        if answer.stop_reason not in KNOWN_STOP_REASONS:
            self._unknown_reason(answer.stop_reason or "none")

    def _unknown_reason(self, reason: str) -> None:
        """A server may send whatever it likes; what is counted stays small and printable."""
        counts = self._progress.unknown_stop_reasons
        name = "".join(c if c.isprintable() else "?" for c in reason[:_REASON_LENGTH])
        if name not in counts and len(counts) >= _MOST_REASONS:
            name = "others"
        counts[name] = counts.get(name, 0) + 1

    def _money(self, charges: tuple[Charge, ...]) -> int:
        """Count them; gives what they come to in pico-USD, as the server tells it."""
        progress = self._progress
        billed = 0
        is_assumed = False
        for charge in charges:
            if charge.status is ChargeStatus.ASSUMED:
                is_assumed = True
                if _in_usd(charge):
                    progress.assumed_low += charge.total or 0
                    progress.assumed_high += charge.high or 0
            if charge.status is ChargeStatus.UNPRICED:
                progress.unpriced += 1
            elif _in_usd(charge):
                progress.cost += charge.total or 0
                billed += charge.told
            elif charge.rates is not None:
                currencies = progress.other_currencies
                currency = charge.rates.currency
                currencies[currency] = currencies.get(currency, 0) + (charge.total or 0)
        progress.assumed += is_assumed
        return billed


class DetourTally:
    """See `Tally`: tells also what an endpoint that was fallen back to did and cost."""

    def __init__(self, tally: Tally, progress: Progress, endpoint: str) -> None:
        self.read = tally.read
        self.gave_up = tally.gave_up
        self._tally = tally
        self._progress = progress
        self._endpoint = endpoint

    def settled(self, verdicts: OutcomeDecision) -> bool:
        """See `Tally.settled`."""
        progress = self._progress
        answered, cost = progress.answered, progress.cost
        beyond = self._tally.settled(verdicts)
        rows, costs = progress.fallback_rows, progress.fallback_cost
        rows[self._endpoint] = rows.get(self._endpoint, 0) + progress.answered - answered
        costs[self._endpoint] = costs.get(self._endpoint, 0) + progress.cost - cost
        return beyond


def _in_usd(charge: Charge) -> bool:
    return charge.rates is None or charge.rates.currency == "USD"


def _plus(total: int | None, part: int | None) -> int | None:
    return None if total is None or part is None else total + part


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
