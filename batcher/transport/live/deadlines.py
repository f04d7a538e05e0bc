"""Time limits of exchanges, by one timer for all of them."""

import asyncio
from typing import Any, Final

from batcher.clock import Clock

_SWEEP_SECONDS: Final = 0.5


class Deadlines:
    """One timer for all exchanges: a timer each would cost more than the rest of a request.

    All deadlines are equally long, so the oldest exchange is always the first of the dict.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self._clock = clock
        self._started: dict[asyncio.Task[Any], float] = {}
        self._blamed: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def start(self) -> asyncio.Task[Any]:
        """The current task's exchange begins; gives the task."""
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - post_message is a coroutine
        self._started[task] = self._clock.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
        return task

    def touch(self, task: asyncio.Task[Any]) -> None:
        """The exchange of `task` is as good as new; nothing for one that is not under way."""
        if self._started.pop(task, None) is not None:
            self._started[task] = self._clock.monotonic()

    def stop(self, task: asyncio.Task[Any]) -> None:
        """The exchange of `task` has ended."""
        self._started.pop(task, None)
        self._blamed.discard(task)

    def took_the_blame(self, task: asyncio.Task[Any]) -> bool:
        """Whether the cancellation of `task` came from here alone; then it is taken back."""
        return task in self._blamed and task.uncancel() == 0

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        for task, started in list(self._started.items()):
            if now - started < self.seconds:
                break
            del self._started[task]
            self._blamed.add(task)
            task.cancel()
        if self._started:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
