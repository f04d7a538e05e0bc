"""Everything that watches one invocation, told together, from its first moment to its code."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from batcher.pipeline.events import Ended, Observer, Resent, Started


class Monitor(Protocol):
    """Watches one invocation from outside; nothing that it does may stop the run."""

    def begin(self) -> None:
        """The command was typed; nothing is known of its run yet."""

    def started(self, event: Started) -> None:
        """The ledger is ready, sending begins."""

    def said(self, sentence: str) -> None:
        """Something that a person would be told: waiting, draining."""

    def finish(self, code: int, error: str, ended: Ended | None) -> None:
        """The command ends with `code`; `error` is its sentence, `ended` how its run went."""


class Monitors:
    """The display and all monitors as one `Observer`; one that fails is told the next event."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self._monitors = list(monitors)
        self._ended: Ended | None = None
        self._troubles: dict[Monitor, str] = {}

    @property
    def troubles(self) -> Sequence[str]:
        """Why monitors heard less than there was, a sentence for each; the run went on."""
        return list(self._troubles.values())

    def begin(self) -> None:
        """See `Monitor.begin`."""
        self._tell(lambda monitor: monitor.begin())

    def finish(self, code: int, error: str = "") -> None:
        """See `Monitor.finish`; an empty `error` is what the run itself said."""
        ended = self._ended
        said = error or (ended.cause if ended else "")
        self._tell(lambda monitor: monitor.finish(code, said, ended))

    def beside(self, display: Observer) -> Observer:
        """An observer that tells `display` and the monitors."""
        return _Beside(display, self)

    def started(self, event: Started) -> None:
        """See `Monitor.started`."""
        self._tell(lambda monitor: monitor.started(event))

    def said(self, sentence: str) -> None:
        """See `Monitor.said`."""
        self._tell(lambda monitor: monitor.said(sentence))

    def ended(self, event: Ended) -> None:
        """How the run went; what the command makes of it comes with `finish`."""
        self._ended = event

    def _tell(self, what: Callable[[Monitor], None]) -> None:
        for monitor in self._monitors:
            try:
                what(monitor)
            except OSError as exc:  # a full disk, a network that is away: no reason to stop
                self._troubles.setdefault(monitor, _words(exc))


class _Beside:
    """See `Observer`: the display answers, the monitors listen."""

    def __init__(self, display: Observer, monitors: Monitors) -> None:
        self._display = display
        self._monitors = monitors

    def started(self, event: Started) -> None:
        """See `Observer.started`."""
        self._display.started(event)
        self._monitors.started(event)

    def ended(self, event: Ended) -> None:
        """See `Observer.ended`."""
        self._display.ended(event)
        self._monitors.ended(event)

    def noted(self, sentence: str) -> None:
        """See `Observer.noted`."""
        self._display.noted(sentence)
        self._monitors.said(sentence)

    def waiting(self, reason: str) -> None:
        """See `Observer.waiting`."""
        self._display.waiting(reason)
        self._monitors.said(reason)

    def draining(self, reason: str) -> None:
        """See `Observer.draining`."""
        self._display.draining(reason)
        self._monitors.said(f"{reason}: nothing more is sent, waiting for what is in flight")

    def confirm_resend(self, resent: Resent) -> bool:
        """See `Observer.confirm_resend`."""
        return self._display.confirm_resend(resent)


def _words(error: OSError) -> str:
    what = f"{error.filename}: " if error.filename else ""
    return f"{what}{error.strerror or error}; the run went on without it"


class Ticker:
    """Calls `tick` every second in a thread of its own, until it is stopped."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; a pilot and the run after it are one invocation for a monitor."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End, after a tick that is under way; may be called twice, and before `start`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            with suppress(OSError):  # what it writes to is away; the run goes on
                self._tick()
