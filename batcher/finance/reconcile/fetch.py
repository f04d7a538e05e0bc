"""The provider's reports of the days that the ledger speaks of, fetched instead of saved."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from batcher.errors import UsageError
from batcher.finance.reconcile.lines import Fetched
from batcher.finance.reconcile.ours import LedgerFigures
from batcher.finance.reconcile.theirs import Measure
from batcher.transport.live.listings import Days
from batcher.wiring.connecting import fetch_reports


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Asks for the UTC days from `since` to before `until`, by default all of the ledger's.

    `config` names the config.toml that holds the endpoint; `say` is told of each wait.
    """

    since: str | None
    until: str | None
    config: str | None
    say: Callable[[str], object]

    def __call__(self, ours: LedgerFigures) -> Iterator[Fetched]:
        """Both reports. Raises `UsageError` where there is nothing to ask for."""
        days = self._days(ours)
        if ours.endpoint is None:
            raise UsageError("this ledger holds nothing that was sent: there is nothing to ask")
        reports = fetch_reports(ours.endpoint, self.config, days, self.say)
        for (url, content), measure in zip(reports, Measure, strict=True):
            yield Fetched(url, content, measure)

    def _days(self, ours: LedgerFigures) -> Days:
        known = {place.day for place in ours.places} | {day for day, _ in ours.doubts}
        first = _day(self.since) or min(known, default=None)
        until = _day(self.until) or max(known, default=date.min) + timedelta(days=1)
        if first is None or first >= until:
            raise UsageError("there is no day to ask for: check --since and --until")
        return Days(first, until)


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"{text!r:.40} is no day: write 2026-01-31") from exc
