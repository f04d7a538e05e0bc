"""`[guard]`: answers that are not what the same job's answers were stop the run."""

from collections import deque
from fractions import Fraction
from math import sqrt
from typing import Final

from batcher.errors import GuardStopped
from batcher.ledger.money.budget import UsualAnswers
from batcher.ledger.write.records import Settlement
from batcher.messages.answer import Answer
from batcher.messages.request import Answered, NotSent
from batcher.pipeline.choices import GuardLimits
from batcher.pipeline.engine.decide import ABORTED
from batcher.pipeline.engine.policies import TRUNCATED
from batcher.pricing.money import format_usd

_USUAL_SHARE: Final = 0.05  # of answers is never too much, whatever was before
_USUAL_LATENCY_US: Final = 1_000_000  # nor is this, on the average
_DEVIATIONS: Final = 3  # that chance may add to a share
_NOBODY_S_FAULT: Final = (429, 529)  # these wait, and say nothing of rows or answers
_WORDS: Final = {
    "input_tokens": "input tokens an answer, cached ones too",
    "output_tokens": "output tokens an answer",
    "cost": "an answer",
    "latency": "seconds until the answer",
    "refusals": "of the answers refusals",
    "truncations": "of the answers cut off",
    "invalid": "of the answers against their schema",
    "failures": "of the attempts failed",
}
_MEANS: Final = ("input_tokens", "output_tokens", "cost", "latency")
_Row = dict[str, int]  # what one attempt adds to the sums; "answers" is 1 for an answer


class AnswerGuard:
    """Holds the first answers, then always the latest ones, against those of earlier runs."""

    def __init__(self, limits: GuardLimits, usual: UsualAnswers) -> None:
        self._limits = limits
        self._usual = usual
        self._rows: deque[_Row] = deque()
        self._sums = dict.fromkeys(("answers", *_WORDS), 0)

    def judged(self, settlement: Settlement) -> GuardStopped | None:
        """Count an attempt that ended; the error to end with when it is enough."""
        row = _row_of(settlement)
        if row is None:
            return None
        self._rows.append(row)
        self._add(row, 1)
        if len(self._rows) > self._limits.window:
            self._add(self._rows.popleft(), -1)
        for name, factor in self._limits.factors.items():
            if self._is_beyond(name, factor):
                return GuardStopped(self._sentence(name, factor))
        return None

    def _add(self, row: _Row, sign: int) -> None:
        for name, number in row.items():
            self._sums[name] += sign * number

    def _is_beyond(self, name: str, factor: Fraction) -> bool:
        now, count = self._now(name)
        before, known = self._before(name)
        if count < self._limits.rows:
            return False
        if name == "latency" and now <= _USUAL_LATENCY_US * count:
            return False
        if name in _MEANS:
            return before > 0 and now * known > factor * before * count
        share = before / known
        chance = _DEVIATIONS * sqrt(share * (1 - share) / count)
        return now / count > max(_USUAL_SHARE, float(factor) * share + chance)

    def _now(self, name: str) -> tuple[int, int]:
        """What it comes to, in how many."""
        failures = self._sums["failures"] if name == "failures" else 0
        return self._sums[name], self._sums["answers"] + failures

    def _before(self, name: str) -> tuple[int, int]:
        failures = self._usual.failures if name == "failures" else 0
        return getattr(self._usual, name), self._usual.answers + failures

    def _sentence(self, name: str, factor: Fraction) -> str:
        now, usual = (_shown(name, *each) for each in (self._now(name), self._before(name)))
        return (
            f"[guard] {name}: the latest {self._now(name)[1]:,} have {now} {_WORDS[name]},"
            f" where the {self._before(name)[1]:,} before had {usual}, and {float(factor):g}"
            " times that stops the run: look at batcher answers and batcher report --last run;"
            f" if it is meant, give {name} a larger factor in [guard] and type the same command"
        )


def guard_for(limits: GuardLimits | None, usual: UsualAnswers | None) -> AnswerGuard | None:
    """A guard, where one is wanted and there is enough to compare with."""
    if limits is None or usual is None or usual.answers < limits.rows:
        return None
    return AnswerGuard(limits, usual)


def guard_note(limits: GuardLimits | None, usual: UsualAnswers | None) -> tuple[str, ...]:
    """What to say at the start where a guard is wanted and has nothing to compare with."""
    if limits is None or usual is None or usual.answers >= limits.rows:
        return ()
    return (
        f"[guard] compares nothing yet: this job has {usual.answers:,} answers from before,"
        f" and {limits.rows:,} are needed",
    )


def _row_of(settlement: Settlement) -> _Row | None:
    outcome = settlement.outcome
    if isinstance(outcome, Answered):
        took = outcome.exchange.settled_at - outcome.exchange.sent_at
        return _row_of_answer(settlement, outcome.answer, took)
    status = outcome.exchange.http_status
    waits = isinstance(outcome, NotSent) or status in _NOBODY_S_FAULT
    return None if waits or outcome.failure.error_type == ABORTED else {"failures": 1}


def _row_of_answer(settlement: Settlement, answer: Answer, took_us: int) -> _Row:
    usage, charges = answer.usage, settlement.charges
    read = usage and (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
    return {
        "answers": 1,
        "input_tokens": sum(filter(None, read or ())),
        "output_tokens": (usage.output_tokens if usage else 0) or 0,
        "cost": sum(c.total or 0 for c in charges if c.rates and c.rates.currency == "USD"),
        "latency": took_us,
        "refusals": int(answer.stop_reason == "refusal"),
        "truncations": int(answer.stop_reason in TRUNCATED),
        "invalid": int(settlement.valid is False),
    }


def _shown(name: str, total: int, count: int) -> str:
    if name == "cost":
        return format_usd(total // count)
    if name == "latency":
        return f"{total / count / 1_000_000:,.3g}"
    return f"{total / count:,.1f}" if name in _MEANS else f"{total / count:.1%}"
