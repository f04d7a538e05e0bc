"""Ctrl-C while a run works in a thread of its own; nobody's signal handlers are touched."""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TypeVar

from batcher.errors import Busy

T = TypeVar("T")
Hear = Callable[[signal.Signals], object]


class Interrupts:
    """What the caller's KeyboardInterrupts become for the run: a drain, then an abort."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hear: Hear | None = None
        self._waiting = 0
        self._has_begun = False

    def begin(self) -> None:
        """The run is about to send: from here on it is awaited. Raises if it is to end."""
        with self._lock:
            if self._waiting:
                raise Busy("interrupted before anything was sent")
            self._has_begun = True

    def told(self, hear: Hear) -> None:
        """Whoever hears of them from now on; see `SignalWays.told`."""
        with self._lock:
            self._hear = hear
            for _ in range(self._waiting):
                hear(signal.SIGINT)
            self._waiting = 0

    def tell(self) -> bool:
        """Pass one on; whether the run may be awaited, since it will end soon."""
        with self._lock:
            if self._hear is None:
                self._waiting += 1
            else:
                with suppress(RuntimeError):  # its loop is closed: it ends already
                    self._hear(signal.SIGINT)
            return self._has_begun


def in_own_thread(work: Callable[[], T], interrupts: Interrupts) -> T:
    """What `work` gives or raises, done where no event loop runs yet.

    A first KeyboardInterrupt lets the run end in order, a second one cuts off what is in
    flight; it is raised again when all is recorded.
    """
    done: Future[T] = Future()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as exc:  # noqa: BLE001 - raised where it was asked for
            done.set_exception(exc)

    threading.Thread(target=do, name="batcher", daemon=True).start()
    pressed = False
    while not done.done():
        try:
            wait([done])
        except KeyboardInterrupt:
            pressed = True
            if not interrupts.tell():
                raise
    if pressed:
        raise KeyboardInterrupt
    return done.result()
