"""How far the reader may run ahead of what is sent."""

import threading


class Credit:
    """Keeps the reader from running ahead: it waits while too much is read and not yet sent.

    `enough`: of what is read now no more is wanted; `go_on` reads something else after it.
    """

    def __init__(self, rows: int, body_bytes: int) -> None:
        self._all_rows = self._rows = rows
        self._bytes = body_bytes
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        self._stopped = self._enough = self._goes_on = False

    @property
    def spent_rows(self) -> int:
        """How many rows were read and not yet sent."""
        return self._all_rows - self._rows

    def spend(self, rows: int, body_bytes: int) -> bool:
        """Wait for room, then take it; `False` when the reader is to read no further."""
        with self._change:
            while (self._rows <= 0 or self._bytes <= 0) and not self._ends:
                self._change.wait()
            self._rows -= rows
            self._bytes -= body_bytes
            return not self._ends

    @property
    def _ends(self) -> bool:
        return self._stopped or self._enough

    def give_back(self, body_bytes: int) -> None:
        """One row with a body of that size was sent, or a bad one was recorded."""
        with self._lock:
            self._rows += 1
            self._bytes += body_bytes
            if self._rows > 0 and self._bytes > 0:
                self._change.notify()

    def wait(self, seconds: float) -> bool:
        """Return after `seconds`, or as soon as the run is stopping: then `True`."""
        with self._change:
            return self._change.wait_for(lambda: self._stopped, seconds)

    def enough(self) -> None:
        """Let the reader end what it reads at first."""
        with self._change:
            self._enough = not self._goes_on
            self._change.notify()

    def go_on(self) -> bool:
        """Whether something else may be read; not so when the run is stopping."""
        with self._change:
            self._goes_on, self._enough = True, False
            return not self._stopped

    def stop(self) -> None:
        """Let the reader end."""
        with self._change:
            self._stopped = True
            self._change.notify()
