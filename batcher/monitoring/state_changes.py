"""What is different about a run since the last look, a sentence for each change, once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from batcher.monitoring.meter import duration_words
from batcher.pacing.limits import Limit
from batcher.pipeline.progress import Progress

# A pace learned from refusals moves all the time: only what nobody would call the same is said.
_MUCH: Final = 1.5
_OLD_SECONDS: Final = 120.0  # then twice as old each time
_UNUSUAL: Final = 4.0  # times what answers take
_LEARNED: Final = "requests per minute learned from the server's refusals"


class Level(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change: how much it matters, what kind, for people, and the numbers behind it."""

    level: Level
    event: str
    message: str
    numbers: Mapping[str, int] = field(default_factory=dict)


class StateChanges:
    """Remembers what was said of one run. To be asked every second or so."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._per_minute: dict[tuple[str, Limit], float] = {}
        self._said_seconds = 0.0  # of the oldest request

    def since_last(self, progress: Progress) -> Iterator[StateChange]:
        """What changed since the last call."""
        yield from self._sentence("outage", progress.outage, "the server answers again")
        yield from self._sentence("database", progress.database_wait, "the database is back")
        cap = "there is room under the cap again"
        yield from self._sentence("cap", progress.money_wait, cap)
        binding = progress.binding_limit_now
        yield from self._sentence("limit", f"limited by {binding.name}" if binding else "", "")
        for use in progress.quota_used:
            yield from self._quota(use.quota, use.limit, use.per_minute)
        for quota, per_minute in progress.learned_per_minute.items():
            yield from self._quota(quota, Limit.LEARNED, per_minute)
        yield from self._oldest(progress.oldest_seconds, progress.usual_seconds)

    def _sentence(self, event: str, now: str, over: str) -> Iterator[StateChange]:
        """What is new, once; and, with `over`, when it is so no more."""
        before = self._known.get(event, "")
        if now == before:
            return
        self._known[event] = now
        if said := now or over:
            level = Level.INFO if event == "limit" or not now else Level.WARNING
            yield StateChange(level, event, said)

    def _quota(self, quota: str, limit: Limit, now: float) -> Iterator[StateChange]:
        before = self._per_minute.setdefault((quota, limit), now)
        if now == before or (limit is Limit.LEARNED and before / _MUCH < now < before * _MUCH):
            return
        self._per_minute[quota, limit] = now
        name = _LEARNED if limit is Limit.LEARNED else limit
        level, verb = (Level.WARNING, "fell") if now < before else (Level.INFO, "rose")
        yield StateChange(
            level,
            "quota",
            f"quota of {quota}: {name} {verb} from {before:,.0f} to {now:,.0f}",
            {"per_minute": round(now), "per_minute_before": round(before)},
        )

    def _oldest(self, seconds: float, usual_seconds: float) -> Iterator[StateChange]:
        """Whether a request takes unusually long, and, once it ended, that none does."""
        numbers = {"oldest_seconds": round(seconds), "usual_seconds": round(usual_seconds)}
        old = max(_OLD_SECONDS, _UNUSUAL * usual_seconds)
        if seconds >= max(old, 2 * self._said_seconds):
            self._said_seconds = seconds
            said = f"the oldest request is {duration_words(seconds)} old"
            yield StateChange(Level.WARNING, "oldest_request", said, numbers)
        elif (
            self._said_seconds and seconds < old / 2
        ):  # not at `old`: it would be said in turns
            self._said_seconds = 0.0
            said = "the oldest request has ended"
            yield StateChange(Level.INFO, "oldest_request", said, numbers)
