"""Tells somebody else's watch that a run began and how it ended; and one message to people."""

import subprocess
import threading
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError

import msgspec

from batcher.clock import Clock
from batcher.pipeline.events import Ended, Started
from batcher.transport.endpoint import Route, Secret

_SECONDS: Final = 10.0
_TRIES: Final = 3
_COMMAND_SECONDS: Final = 30.0
Post = Callable[[str, bytes | None], None]


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
        with opener.open(request, timeout=_SECONDS) as answer:
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
    for attempt in range(_TRIES):
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
        return f"HTTP {error.code}"
    reason = getattr(error, "reason", error)
    return str(reason) if isinstance(reason, OSError) else type(error).__name__
