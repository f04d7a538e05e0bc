"""From an outcome to what the ledger records and what happens next. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from batcher.errors import AccessRefused, BatcherError, ConfigurationError
from batcher.ledger.write.records import RowFailure, Settlement
from batcher.messages.failure import Failure, FailureKind, Verdict
from batcher.messages.legs import joined_content, joined_text, leg_of, story
from batcher.messages.request import (
    Answered,
    Attempt,
    BadRow,
    Exchange,
    NotSent,
    Outcome,
    Partial,
    Rejected,
    Request,
    State,
    Unknown,
    Unusable,
)
from batcher.pacing.backoff import RetryPolicy
from batcher.pipeline.choices import OnUnknown
from batcher.pipeline.engine.policies import (
    AnswerPolicy,
    Better,
    Fail,
    NextLeg,
    judge,
)
from batcher.pipeline.engine.validate import NOT_ASKED
from batcher.pipeline.engine.work import Work
from batcher.pricing.rate.lines import is_above_bound
from batcher.pricing.rate.rating import Charge

DOUBTS_BEFORE_PARKING = 3
ABORTED = "aborted"  # the error type of attempts that a second signal cut off

_STATES: dict[type, State] = {
    Answered: State.ANSWERED,
    Rejected: State.REJECTED,
    NotSent: State.NOT_SENT,
    Partial: State.PARTIAL,
    Unknown: State.UNKNOWN,
    Unusable: State.UNUSABLE,
}


class Done(msgspec.Struct, frozen=True, gc=False):
    """The row needs nothing more in this invocation; `lasting`: nor in any other."""

    lasting: bool


DONE = Done(lasting=True)


class Again(msgspec.Struct, frozen=True, gc=False):
    """The row is sent again after `wait_seconds`."""

    wait_seconds: float


class StopRun(msgspec.Struct, frozen=True, gc=False):
    """No further row can succeed; this one stays to do."""

    error: BatcherError


class Elsewhere(msgspec.Struct, frozen=True, gc=False):
    """The row goes to the endpoint that the run falls back to."""


Next = Done | Again | NextLeg | Better | StopRun | Elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomePolicy:
    """The choices that outcomes are judged by.

    `may_bill` says whether an attempt refused with this HTTP status may be billed even so,
    `most` the most that a failed one can have cost (`None`: nobody knows), `takes_over` whether
    there is an endpoint to fall back to that takes this row.
    """

    retry: RetryPolicy
    on_unknown: OnUnknown
    max_legs: int
    endpoint: str
    may_bill: Callable[[int | None], bool]
    most: Callable[[Attempt, Outcome], int | None]
    answers: AnswerPolicy = field(default_factory=AnswerPolicy)
    takes_over: Callable[[Work], bool] | None = None


class OutcomeDecision(msgspec.Struct, frozen=True, gc=False):
    """What is recorded and what comes next, decided together."""

    settlement: Settlement
    next: Next


def decide(
    work: Work, attempt: Attempt, outcome: Outcome, charges: tuple[Charge, ...], chance: float,
    policy: OutcomePolicy,
) -> OutcomeDecision:  # fmt: skip
    """Judge `outcome`. `work` already counts the attempt and its failure or doubt."""
    if isinstance(outcome, Answered):
        return _answered(work, attempt, outcome, charges, policy)
    next_step, failure = _failed(work, outcome, chance, policy)
    low, high = _interval(attempt, outcome, charges, policy)
    settlement = Settlement(
        attempt=attempt,
        outcome=outcome,
        state=_STATES[type(outcome)],
        pending=failure is None or failure.transient,
        cost_low=low,
        cost_high=high,
        failure=failure,
    )
    return OutcomeDecision(settlement, next_step)


def _answered(
    work: Work,
    attempt: Attempt,
    outcome: Answered,
    charges: tuple[Charge, ...],
    policy: OutcomePolicy,
) -> OutcomeDecision:
    answer = outcome.answer
    may_go_on = attempt.leg < policy.max_legs
    ruling = judge(work, answer, policy.answers, may_go_on=may_go_on)
    next_step = ruling if isinstance(ruling, (NextLeg, Better)) else DONE
    goes_on = next_step is not DONE
    final = not goes_on and not isinstance(ruling, Fail)
    legs = story([*work.legs, leg_of(answer)]) if work.legs and final else []
    validity = NOT_ASKED if isinstance(ruling, NextLeg) else ruling.validity
    settlement = Settlement(
        attempt=attempt,
        outcome=outcome,
        state=State.ANSWERED,
        pending=goes_on,
        cost_low=0,
        cost_high=attempt.cost_high,
        charges=charges,
        final=final,
        joined_content=joined_content(legs) if len(legs) > 1 else None,
        joined_text=joined_text(legs) if len(legs) > 1 else None,
        failure=_failed_answer(ruling) if isinstance(ruling, Fail) else None,
        valid=validity.valid,
        invalid_reason=validity.reason,
    )
    return OutcomeDecision(settlement, next_step)


def _failed_answer(ruling: Fail) -> RowFailure:
    """The failure of a row whose answer is not good enough."""
    kind = FailureKind.FAILED
    return RowFailure(kind=kind, reason=ruling.reason, message=ruling.message, transient=False)


def _failed(
    work: Work, outcome: Outcome, chance: float, policy: OutcomePolicy
) -> tuple[Next, RowFailure | None]:
    failure = failure_of(outcome)
    if failure.verdict.stops_run:
        return StopRun(_stop_error(failure, outcome, policy.endpoint)), None
    if failure.verdict is Verdict.FAIL_ROW:
        return Done(lasting=True), _row_failure(FailureKind.FAILED, failure)
    if _is_spent(work, outcome, policy) and policy.takes_over and policy.takes_over(work):
        return Elsewhere(), None
    if in_doubt(outcome):
        doubts = work.doubts if work.is_blamed else 0  # those of an outage park no row
        given_up = given_up_in_doubt(doubts, failure, policy.on_unknown)
        if given_up:
            return Done(lasting=True), given_up
    wait = policy.retry.wait_seconds(
        failure, used_up=work.used_up, tries=work.attempts, chance=chance
    )
    if wait is None:
        return Done(lasting=False), _row_failure(FailureKind.FAILED, failure, transient=True)
    return Again(wait), None


def _is_spent(work: Work, outcome: Outcome, policy: OutcomePolicy) -> bool:
    """Whether the row has had its attempts here, and nobody is asked what becomes of it."""
    if in_doubt(outcome):
        if policy.on_unknown is not OnUnknown.RETRY:
            return False
        if work.doubts >= DOUBTS_BEFORE_PARKING:
            return True
    return work.used_up + work.overloads >= policy.retry.max_attempts


def given_up_in_doubt(
    doubts: int, failure: Failure, on_unknown: OnUnknown
) -> RowFailure | None:
    """What is recorded when a row in doubt is not sent again; `None`: it is.

    `doubts` counts the row's attempts in doubt, `failure` is that of the last one.
    """
    if on_unknown is OnUnknown.FAIL:
        return _row_failure(FailureKind.FAILED, failure)
    if on_unknown is OnUnknown.HOLD:
        return _row_failure(FailureKind.HELD, failure)
    if doubts >= DOUBTS_BEFORE_PARKING:
        message = f"in doubt {doubts} times, last: {failure.message}"
        return RowFailure(
            kind=FailureKind.HELD, reason="parked_in_doubt", message=message, transient=False
        )
    return None


def _row_failure(kind: FailureKind, failure: Failure, *, transient: bool = False) -> RowFailure:
    reason = failure.error_code or failure.error_type
    return RowFailure(kind=kind, reason=reason, message=failure.message, transient=transient)


def _interval(
    attempt: Attempt, outcome: Outcome, charges: tuple[Charge, ...], policy: OutcomePolicy
) -> tuple[int, int | None]:
    """What a failed attempt may have cost, from and to.

    `charges` are for what is known of a broken stream; other currencies are no pico-USD. What a
    server says that it has billed already counts, also beyond the bound.
    """
    if isinstance(outcome, NotSent):
        return 0, 0
    if isinstance(outcome, Rejected):
        return 0, attempt.cost_high if policy.may_bill(outcome.exchange.http_status) else 0
    low = sum(c.total or 0 for c in charges if c.rates and c.rates.currency == "USD")
    high = policy.most(attempt, outcome)
    if high is not None and (low > high or _counts_more_input(outcome)):
        return low, low + high
    return low, high


def _counts_more_input(outcome: Outcome) -> bool:
    """Whether a broken stream began with more tokens than the body can be."""
    if not isinstance(outcome, Partial):
        return False
    return is_above_bound(outcome.answer.usage, outcome.answer.evidence)


def in_doubt(outcome: Outcome) -> bool:
    """Whether the attempt may have been billed without our knowing the amount."""
    return isinstance(outcome, (Partial, Unknown, Unusable))


def failure_of(outcome: Outcome) -> Failure:
    """The failure of an outcome that is no answer."""
    if isinstance(outcome, Answered):
        raise TypeError("an answer has no failure")
    return outcome.failure


def uses_up_patience(outcome: Outcome) -> bool:
    """Whether the attempt counts against the row: not 429, not 529, not what never left."""
    if isinstance(outcome, (Answered, NotSent)):
        return False
    return outcome.failure.verdict is Verdict.RETRY_ROW


def met_overload(outcome: Outcome) -> bool:
    """Whether the server was too busy for it."""
    return not isinstance(outcome, Answered) and (outcome.failure.verdict is Verdict.OVERLOADED)


def speaks_against_row(outcome: Outcome) -> Failure | None:
    """The failure, when it would probably meet every row alike: refused, or no Message."""
    if isinstance(outcome, Answered):
        return None
    refused = outcome.failure.verdict is Verdict.FAIL_ROW or isinstance(outcome, Unusable)
    return outcome.failure if refused else None


def _stop_error(failure: Failure, outcome: Outcome, endpoint: str) -> BatcherError:
    status = outcome.exchange.http_status
    if status is None:  # the way to the server is wrong, and the sentence says what to set
        kind = AccessRefused if failure.verdict is Verdict.STOP_ACCESS else ConfigurationError
        return kind(f"endpoint {endpoint}: {failure.message}; nothing was sent")
    said = f"HTTP {status} {_said(failure)}"
    if failure.verdict is Verdict.STOP_ACCESS:
        return AccessRefused(
            f"endpoint {endpoint} refused the run ({said}); check the key (is it set, and what "
            "may it do?) and the account's billing, then type the same command again"
        )
    return ConfigurationError(
        f"endpoint {endpoint} does not know what was asked for ({said}); check the model and "
        "the base URL, then type the same command again"
    )


def scout_error(failure: Failure, endpoint: str, alike: int) -> ConfigurationError:
    """The first rows of a model all failed the same way: the job is wrong, not the rows."""
    said = _said(failure)
    return ConfigurationError(
        f"endpoint {endpoint} refused the first {alike} rows alike ({said}); nothing more was "
        "sent: correct the job, then type the same command again"
    )


def _said(failure: Failure) -> str:
    """What a server said, in one line: it must not look like a line of ours."""
    words = " ".join(failure.message.split())
    return f"{failure.error_code or failure.error_type}: {words[:300]}"


def cut_off(attempt: Attempt, now_us: int, *, sent: bool) -> Outcome:
    """The outcome of an attempt that we ended ourselves, before or after it was sent."""
    exchange = Exchange(sent_at=attempt.opened_at, settled_at=now_us)
    failure = Failure(
        verdict=Verdict.RETRY_ROW,
        error_type=ABORTED,
        message="the run was aborted while this attempt was under way",
    )
    return Unknown(exchange, failure) if sent else NotSent(exchange, failure)


def most_it_cost(settlement: Settlement) -> int:
    """What counts against a cap: the upper end of the charge, or of what nobody knows."""
    if not isinstance(settlement.outcome, Answered):
        return settlement.cost_high or 0
    if any(charge.total is None for charge in settlement.charges):
        return settlement.cost_high or 0
    return sum(charge.high or 0 for charge in settlement.charges)


def no_bound(request: Request) -> BadRow:
    """A row that a cap keeps from being sent."""
    return BadRow(
        source_id=request.source_id,
        row_number=request.row_number,
        byte_offset=request.byte_offset,
        custom_id=request.custom_id,
        reason="NO_BOUND",
        message=(
            f"under a cap only rows with a known worst case are sent, and {request.model} with "
            "this body has none: it needs a price, max_tokens, and max_uses for server tools"
        ),
    )
