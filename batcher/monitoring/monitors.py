"""Everything that watches one invocation, told together, from its first moment to its code.

The pings tell somebody else's watch that a run began and how it ended, and people one message.
"""

import subprocess
import threading
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from typing import Final, Protocol
from urllib.error import HTTPError

import msgspec

from batcher.clock import Clock
from batcher.pipeline.progress import Ended, Observer, Resent, Started
from batcher.transport.endpoint import Route, Secret

_PING_SECONDS: Final = 10.0
_PING_TRIES: Final = 3
_COMMAND_SECONDS: Final = 30.0
Post = Callable[[str, bytes | None], None]


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


def poster(route: Route) -> Post:
    """What asks an address, by the proxy that leads there; raises `OSError` in vain."""
    proxies: dict[str, str] = {}
    if route.proxy:
        proxies = dict.fromkeys(("http", "https"), route.proxy.url)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    headers = {"User-Agent": "messages-batcher"}
    if route.proxy and route.proxy.authorization:
        headers["Proxy-Authorization"] = route.proxy.authorization.reveal()

    def post(url: str, body: bytes | None) -> None:
        typed = {"Content-Type": "application/json"} if body else {}
        request = urllib.request.Request(url, body, headers | typed)  # noqa: S310 - checked
        with opener.open(request, timeout=_PING_SECONDS) as answer:
            answer.read(1024)

    return post


class Ping:
    """See `Monitor`: `URL/start` at the start, `URL` for 0, `URL/<code>` for everything else.

    That is how healthchecks.io and its like want it. Never holds the run up: the first ping has
    a thread of its own, the last one is waited for, three tries of 10 s.
    """

    def __init__(self, url: Secret, post: Post, clock: Clock) -> None:
        self._url = url
        self._post = post
        self._clock = clock

    def begin(self) -> None:
        """See `Monitor.begin`."""
        threading.Thread(target=self._start, name="ping", daemon=True).start()

    def started(self, event: Started) -> None:
        """See `Monitor.started`."""

    def said(self, sentence: str) -> None:
        """See `Monitor.said`."""

    def finish(self, code: int, error: str, ended: Ended | None) -> None:  # noqa: ARG002
        """See `Monitor.finish`."""
        url = self._url.reveal().rstrip("/")
        self._send(f"{url}/{code}" if code else url)

    def _start(self) -> None:
        url = f"{self._url.reveal().rstrip('/')}/start"
        with suppress(OSError):  # told at the end, where that one is not heard either
            self._send(url)

    def _send(self, url: str) -> None:
        in_time(self._clock, "the ping", lambda: self._post(url, None))


class Webhook:
    """See `Monitor`: one message as `{"text": …}` to an address, when a run went wrong."""

    def __init__(self, url: Secret, post: Post, job: str, clock: Clock) -> None:
        self._url = url
        self._post = post
        self._job = job
        self._clock = clock

    def begin(self) -> None:
        """See `Monitor.begin`."""

    def started(self, event: Started) -> None:
        """See `Monitor.started`."""

    def said(self, sentence: str) -> None:
        """See `Monitor.said`."""

    def finish(self, code: int, error: str, ended: Ended | None) -> None:  # noqa: ARG002
        """See `Monitor.finish`."""
        if code:
            body = msgspec.json.encode({"text": message_for(self._job, code, ended)})
            in_time(self._clock, "the webhook", lambda: self._post(self._url.reveal(), body))


class Command:
    """See `Monitor`: a program of the user's, which gets the message on its standard input."""

    def __init__(self, argv: Sequence[str], job: str) -> None:
        self._argv = list(argv)
        self._job = job

    def begin(self) -> None:
        """See `Monitor.begin`."""

    def started(self, event: Started) -> None:
        """See `Monitor.started`."""

    def said(self, sentence: str) -> None:
        """See `Monitor.said`."""

    def finish(self, code: int, error: str, ended: Ended | None) -> None:  # noqa: ARG002
        """See `Monitor.finish`."""
        if not code:
            return
        try:
            subprocess.run(  # noqa: S603 - the user's own command, no shell
                self._argv,
                input=f"{message_for(self._job, code, ended)}\n".encode(),
                timeout=_COMMAND_SECONDS,
                check=False,
                stdout=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as exc:
            raise TimeoutError(f"the command of [notify] took too long: {exc.cmd[0]}") from exc


def message_for(job: str, code: int, ended: Ended | None) -> str:
    """One readable sentence of counts and codes: what a server said stays at home."""
    if ended is None:
        return f"batcher: {job} ended with {code} before anything was sent"
    progress, rows = ended.progress, ended.unfinished_rows
    total = max(progress.total_rows, progress.finished_rows)
    without = ", ".join(f"{count:,} {kind}" for kind, count in sorted(rows.items()) if count)
    left = f"; {total - progress.finished_rows:,} rows are left" if ended.rows_left else ""
    return (
        f"batcher: {job} ended with {code}: {progress.answered:,} rows answered"
        f"{f', {without}' if without else ''}{left}"
    )


def in_time(clock: Clock, what: str, send: Callable[[], None]) -> None:
    """Try it three times; raises `OSError`, without the address, when nobody hears it then."""
    waits = threading.Event()
    why = ""
    for attempt in range(_PING_TRIES):
        try:
            send()
        except (OSError, ValueError, HTTPException) as exc:  # a server may say anything
            why = _why(exc)
            waits.wait(clock.random() * 2**attempt)
        else:
            return
    raise OSError(f"{what} was not heard: {why}")


def _why(error: Exception) -> str:
    """Nothing that a server said, and nothing that may repeat the address."""
    if isinstance(error, HTTPError):
        error.close()  # it holds the connection
        return f"HTTP {error.code}"
    reason = getattr(error, "reason", error)
    return str(reason) if isinstance(reason, OSError) else type(error).__name__
