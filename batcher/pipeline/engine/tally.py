"""Keeps a `Progress` up to date from what the engine decides."""

from collections.abc import Sequence
from typing import Final

from batcher.ledger.write.records import FailureKind
from batcher.messages.answer import Answer
from batcher.messages.outcome import Answered
from batcher.pipeline.engine.decide import Done, Verdicts, in_doubt
from batcher.pipeline.engine.policies import KNOWN_STOP_REASONS, TRUNCATED
from batcher.pipeline.engine.work import Work
from batcher.pipeline.progress import Progress
from batcher.pipeline.run.seen_ids import SeenIds
from batcher.pricing.rate.rating import Charge, ChargeStatus

_REASON_LENGTH: Final = 60
_MOST_REASONS: Final = 20


class Tally:
    """Counts; the numbers themselves live in the `Progress` it was given."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._ids = SeenIds()

    def read(self, works: Sequence[Work]) -> None:
        """Rows that are going to be sent."""
        for work in works:
            custom_id = work.request.custom_id
            if custom_id is not None and self._ids.seen_before(custom_id):
                self._progress.repeated_custom_ids += 1

    def settled(self, verdicts: Verdicts) -> None:
        """An attempt ended, and this is what was decided."""
        settlement, progress = verdicts.settlement, self._progress
        if isinstance(settlement.outcome, Answered):
            self._answer(settlement.outcome.answer, stays=not settlement.pending)
            self._progress.invalid += settlement.valid is False and settlement.final
            self._money(settlement.charges)
        elif in_doubt(settlement.outcome):
            progress.in_doubt += 1
            progress.in_doubt_low += settlement.cost_low
            progress.in_doubt_high = _plus(progress.in_doubt_high, settlement.cost_high)
        if settlement.failure:
            self.gave_up(settlement.failure.kind)
        elif isinstance(verdicts.next, Done):
            progress.answered += 1

    def gave_up(self, kind: FailureKind) -> None:
        """A row that gets no answer."""
        match kind:
            case FailureKind.QUARANTINED:
                self._progress.quarantined += 1
            case FailureKind.FAILED:
                self._progress.failed += 1
            case FailureKind.HELD:
                self._progress.held += 1

    def _answer(self, answer: Answer, *, stays: bool) -> None:
        usage, progress = answer.usage, self._progress
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

    def _money(self, charges: tuple[Charge, ...]) -> None:
        progress = self._progress
        for charge in charges:
            if charge.status is ChargeStatus.UNPRICED:
                progress.unpriced += 1
            elif charge.rates is None or charge.rates.currency == "USD":
                progress.cost += charge.total or 0
            else:
                currencies = progress.other_currencies
                currency = charge.rates.currency
                currencies[currency] = currencies.get(currency, 0) + (charge.total or 0)


def _plus(total: int | None, part: int | None) -> int | None:
    return None if total is None or part is None else total + part
