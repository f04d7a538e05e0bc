"""What a run shows while it runs, on standard error: a panel, plain lines, or nothing."""

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Final

import click

from batcher.cli.say import printable, say
from batcher.clock import SystemClock
from batcher.monitoring.progress_text import (
    Meter,
    Reading,
    limit_words,
    money_words,
    percent_words,
    rows_words,
    speed_words,
    told,
)
from batcher.pipeline.progress import Ended, Progress, Resent, Started
from batcher.pricing.money import format_usd
from batcher.report.words import moment_text

if TYPE_CHECKING:
    from rich.console import RenderableType

_FIRST_LINE_SECONDS: Final = 5.0  # then twice as long each time: nobody wants a long log
_LAST_LINE_SECONDS: Final = 60.0
_PANEL_REFRESHES: Final = 5  # per second


def display(*, quiet: bool, assume_yes: bool) -> "Quiet":
    """The display that fits: a panel on a terminal, else a line every few seconds."""
    if quiet:
        return Quiet(assume_yes=assume_yes)
    if sys.stderr.isatty() and not _is_dumb():
        return Panel(assume_yes=assume_yes)
    return Lines(assume_yes=assume_yes)


def _is_dumb() -> bool:
    """Whether the terminal cannot move its cursor (TERM=dumb): no panel can be drawn."""
    from rich.console import Console

    return Console(stderr=True).is_dumb_terminal


class Quiet:
    """See `Observer`: shows nothing, remembers how the run began."""

    def __init__(self, *, assume_yes: bool) -> None:
        self._assume_yes = assume_yes
        self.start: Started | None = None
        self._opening: set[str] = set()  # what its phases began with; said once

    def started(self, event: Started) -> None:
        """See `Observer.started`; a run may have several phases."""
        self.start = event.after(self.start)

    def _begin(self, event: Started) -> None:
        for line in opening_lines(event, goes_on=bool(self._opening)):
            if line not in self._opening:
                say(line)
            self._opening.add(line)

    def ended(self, event: Ended) -> None:  # noqa: ARG002 - the summary tells it
        """See `Observer.ended`."""
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was, however the run ended; may be called twice."""

    def noted(self, sentence: str) -> None:
        """See `Observer.noted`."""

    def waiting(self, reason: str) -> None:
        """See `Observer.waiting`."""

    def draining(self, reason: str) -> None:
        """See `Observer.draining`."""

    def confirm_resend(self, resent: Resent) -> bool:
        """See `Observer.confirm_resend`: asks on a terminal, else no."""
        if self._assume_yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return self._assume_yes
        cost = "without a bound" if resent.cost_high is None else format_usd(resent.cost_high)
        why = "A new round" if resent.again else f"The settings changed{resent.changes}"
        question = (
            f"{why}: {resent.rows:,} answered rows would be sent again, "
            f"for at most {cost}. Send them?"
        )
        return click.confirm(question, err=True)


class Lines(Quiet):
    """A line now and then, for logs."""

    def __init__(self, *, assume_yes: bool) -> None:
        super().__init__(assume_yes=assume_yes)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def started(self, event: Started) -> None:
        """See `Observer.started`."""
        super().started(event)
        self._stop = threading.Event()
        self._begin(event)
        run = (event, self._stop)
        self._thread = threading.Thread(target=self._run, args=run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """See `Quiet.close`."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def noted(self, sentence: str) -> None:
        """See `Observer.noted`."""
        say(f"{sentence}.")

    def waiting(self, reason: str) -> None:
        """See `Observer.waiting`."""
        say(f"{reason[:1].upper()}{reason[1:]}.")

    def draining(self, reason: str) -> None:
        """See `Observer.draining`."""
        say(draining_line(reason))

    def _run(self, event: Started, stop: threading.Event) -> None:
        clock, meter, pause = SystemClock(), Meter(event.progress), _FIRST_LINE_SECONDS
        meter.read(clock.monotonic())
        said = ""
        while not stop.wait(pause):
            pause = min(2 * pause, _LAST_LINE_SECONDS)
            line = progress_line(event.progress, meter.read(clock.monotonic()))
            say(stamped(line, clock.now_us()))
            failure = event.progress.last_failure
            if failure != said:
                said = failure
                say(f"the latest row without an answer: {failure}")


class Panel(Quiet):
    """A live panel with a bar, gone at the end."""

    def started(self, event: Started) -> None:
        """See `Observer.started`."""
        from rich.console import Console
        from rich.live import Live

        super().started(event)
        self._begin(event)
        self._note = ""
        self._clock = SystemClock()
        self._meter = Meter(event.progress)
        self._live = Live(
            console=Console(stderr=True),
            get_renderable=self._render,
            refresh_per_second=_PANEL_REFRESHES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def close(self) -> None:
        """See `Quiet.close`."""
        if self.start is not None:
            with contextlib.suppress(OSError):
                self._live.stop()

    def noted(self, sentence: str) -> None:
        """See `Observer.noted`."""
        self._say_above(f"{sentence}.")

    def waiting(self, reason: str) -> None:
        """See `Observer.waiting`."""
        self._say_above(f"{reason[:1].upper()}{reason[1:]}.")

    def draining(self, reason: str) -> None:
        """See `Observer.draining`."""
        self._note = draining_line(reason)

    def _say_above(self, sentence: str) -> None:
        """A line that stays, above the panel where there is one already."""
        from rich.text import Text

        if self.start is None:
            say(sentence)
            return
        with contextlib.suppress(OSError):
            self._live.console.print(Text(printable(sentence)), soft_wrap=True)

    def _render(self) -> "RenderableType":
        from batcher.cli.run.panel import panel

        if self.start is None:
            return ""
        reading = self._meter.read(self._clock.monotonic())
        return panel(self.start.progress, reading, self._note)


def stamped(line: str, now_us: int) -> str:
    """With its moment before it, to the second: a log is read long afterwards."""
    return f"{moment_text(now_us // 1_000_000 * 1_000_000)} {line}"


def progress_line(progress: Progress, reading: Reading) -> str:
    """All that a panel would show of a run's progress, in one line."""
    parts = (
        percent_words(reading),
        rows_words(progress),
        speed_words(reading),
        money_words(progress, reading),
        limit_words(progress),
        progress.outage,
    )
    return "; ".join(part for part in parts if part)


def opening_lines(event: Started, *, goes_on: bool = False) -> list[str]:
    """What is worth knowing before the first request goes; `goes_on`: in a further phase."""
    lines: list[str] = []
    if event.database_created:
        lines.append(f"database created: {event.database}")
    lines += event.notes
    recovery = event.recovery
    if recovery.attempts:
        upper = format_usd(recovery.cost_high)
        if recovery.unbounded:
            upper += f" plus {recovery.unbounded:,} attempts without a bound"
        lines.append(
            f"an earlier run was cut off: {told(recovery.attempts, 'attempt', 'is', 'are')} in"
            f" doubt and may have cost from $0.00 to {upper}; their rows are sent again"
        )
    if event.retrying:
        failed = told(event.retrying, "row", "that failed is", "that failed are")
        lines.append(f"{failed} tried again: the cause may have passed")
    if event.progress.done_before and not goes_on:
        lines.append(
            f"{told(event.progress.done_before, 'row', 'was', 'were')} finished before"
        )
    lines.append(event.price_note)
    return lines


def draining_line(reason: str) -> str:
    """Said once, when a run begins to end early."""
    return f"{reason}: nothing more is sent, waiting for what is in flight; again to abort"
