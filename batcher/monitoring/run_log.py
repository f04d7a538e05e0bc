"""A log of one invocation: a line an event, for people or programs; never a prompt or key.

Between its lines about progress it tells what is different about the run since the last look.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, TextIO

import msgspec

from batcher.clock import Clock
from batcher.errors import CannotCreate
from batcher.monitoring.monitors import Ticker
from batcher.monitoring.progress_text import (
    Meter,
    duration_words,
    limit_words,
    money_words,
    rows_words,
    speed_words,
    token_words,
)
from batcher.pacing.limits import Limit
from batcher.pipeline.choices import LogFormat
from batcher.pipeline.progress import Ended, Progress, Started

# A pace learned from refusals moves all the time: only what nobody would call the same is said.
_MUCH: Final = 1.5
_OLD_SECONDS: Final = 120.0  # then twice as old each time
_UNUSUAL: Final = 4.0  # times what answers take
_LEARNED: Final = "requests per minute learned from the server's refusals"
FIRST_INTERVAL_SECONDS: Final = 5.0
LAST_INTERVAL_SECONDS: Final = 60.0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One line: when (microseconds UTC), what kind, for people, and the numbers behind it."""

    at_us: int
    level: Level
    event: str
    message: str
    numbers: Mapping[str, int] = field(default_factory=dict)

    def line(self, form: LogFormat) -> str:
        """The event as one line, without its end; what could steer a terminal is escaped."""
        moment = datetime.fromtimestamp(self.at_us / 1e6, UTC).isoformat(
            timespec="milliseconds"
        )
        moment = moment.removesuffix("+00:00") + "Z"
        if form is LogFormat.TEXT:
            return f"{moment} {self.level.upper():7} {_one_line(self.message)}"
        table = {
            "time": moment, "level": self.level, "event": self.event, "message": self.message,
            **self.numbers,
        }  # fmt: skip
        return msgspec.json.encode(table).decode()


class LogFile:
    """A file that lines are appended to. Each line opens it anew: somebody may rotate it.

    A pipe that nobody reads, or not fast enough, is trouble at once: no run waits for its log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._open().close()
        except OSError as exc:
            why = "nobody reads this pipe" if exc.errno == errno.ENXIO else exc.strerror
            raise CannotCreate(f"the log {path} cannot be written: {why}") from exc

    def __call__(self, line: str) -> None:
        """Append `line`; an error names the file."""
        try:
            with self._open() as file:
                file.write(f"{line}\n")
        except OSError as exc:
            exc.filename = f"the log {self._path}"
            raise

    def _open(self) -> TextIO:
        return open(
            self._path,
            "a",
            encoding="utf-8",
            errors="backslashreplace",
            opener=_without_waiting,
        )


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def to_stderr(line: str) -> None:
    """A line on standard error, for whoever collects it."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the log


class RunLog:
    """See `Monitor`: what happens, when it happens, and how far the run is, ever less often."""

    def __init__(self, write: Callable[[str], None], form: LogFormat, clock: Clock) -> None:
        self._write = write
        self._form = form
        self._clock = clock
        self._ticker = Ticker(self._tick)
        self._progress: Progress | None = None
        self._meter: Meter | None = None
        self._interval = FIRST_INTERVAL_SECONDS
        self._due = 0.0
        self._changes = StateChanges()

    def begin(self) -> None:
        """See `Monitor.begin`."""

    def started(self, event: Started) -> None:
        """See `Monitor.started`."""
        numbers = {"run_id": event.run_id, "invocation_id": event.invocation_id}
        for note in (*event.notes, event.price_note):
            self._say(Level.INFO, "started", note, numbers)
        if event.recovery.attempts:
            said = f"an earlier run left {event.recovery.attempts:,} attempts in doubt"
            self._say(Level.WARNING, "recovered", said, numbers)
        self._progress, self._meter = event.progress, Meter(event.progress)
        self._meter.read(self._clock.monotonic())
        self._due = self._clock.monotonic() + self._interval
        self._ticker.start()

    def said(self, sentence: str) -> None:
        """See `Monitor.said`."""
        self._say(Level.WARNING, "notice", sentence)

    def finish(self, code: int, error: str, ended: Ended | None) -> None:
        """See `Monitor.finish`."""
        self._ticker.stop()
        numbers = {"exit_code": code} | (_numbers(ended.progress) if ended else {})
        level = Level.INFO if code == 0 else Level.ERROR
        self._say(level, "ended", f"ended with {code}{f': {error}' if error else ''}", numbers)

    def _tick(self) -> None:
        progress, meter, now = self._progress, self._meter, self._clock.monotonic()
        if progress is None or meter is None:
            return
        for change in self._changes.since_last(progress):
            self._say(change.level, change.event, change.message, change.numbers)
        reading = meter.read(now)
        if now < self._due:
            return
        self._interval = min(2 * self._interval, LAST_INTERVAL_SECONDS)
        self._due = now + self._interval
        words = (
            rows_words(progress), speed_words(reading), money_words(progress, reading),
            token_words(progress), limit_words(progress),
        )  # fmt: skip
        said = "; ".join(part for part in words if part)
        self._say(Level.INFO, "progress", said, _numbers(progress))

    def _say(
        self, level: Level, event: str, message: str, numbers: Mapping[str, int] | None = None
    ) -> None:
        made = LogEvent(
            at_us=self._clock.now_us(), level=level, event=event, message=message,
            numbers=numbers or {},
        )  # fmt: skip
        self._write(made.line(self._form))


def _numbers(progress: Progress) -> dict[str, int]:
    return {
        "rows_done": progress.finished_rows,
        "rows_total": max(progress.total_rows, progress.finished_rows),
        "answered": progress.answered,
        "failed": progress.failed,
        "quarantined": progress.quarantined,
        "held": progress.held,
        "in_flight": progress.in_flight,
        "input_tokens": progress.input_tokens,
        "output_tokens": progress.output_tokens,
        "cost_pico_usd": progress.cost,
        "in_doubt": progress.in_doubt,
    }


def _one_line(message: str) -> str:
    words = " ".join(message.split())
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in words)
