"""What runs on a node of the cluster: an actor of Ray that holds one process of the run."""

import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from batcher.clock import SystemClock
from batcher.pipeline.events import Ended
from batcher.pipeline.job import Job
from batcher.pipeline.progress import Progress
from batcher.wiring.child import start_process

_FIRST_WAIT_SECONDS: Final = 1.0  # before a process that was killed is followed by another
_LONGEST_WAIT_SECONDS: Final = 60.0
_GOES_WELL_SECONDS: Final = 60.0  # after that a death is not one of a series


@dataclass(frozen=True, slots=True)
class Look:
    """How far a worker is. `life` tells one actor from the next that took its place.

    `progress` is that of its process and of those that it followed. `end` is only there when
    `is_over`, and not even then for a process that was killed.
    """

    life: str
    progress: Sequence[Progress]
    is_over: bool
    end: Ended | None


class RayWorker:
    """Starts the process when it is made, and another where that one is killed.

    Under a `--limit` there is no other: nobody knows how much of it is used up.
    """

    def __init__(self, job: Job, folder: str) -> None:
        self._job, self._folder = job, folder
        self._clock = SystemClock()
        self._life = f"{socket.gethostname()}:{os.getpid()}"
        self._earlier: list[Progress] = []
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._is_told = False
        self._begin()

    def look(self) -> Look:
        """How far it is, now."""
        if self._was_killed() and self._clock.monotonic() >= self._again_at():
            self._earlier.append(still(self._child.said))
            self._begin()
        is_over = self._has_ended() and not self._was_killed()
        if is_over:
            self._child.close()
        progress = [*self._earlier, self._child.said]
        return Look(self._life, progress, is_over, self._child.end() if is_over else None)

    def tell(self, number: int) -> None:
        """A signal that the driver got."""
        self._is_told = True
        self._child.tell(signal.Signals(number))

    def _begin(self) -> None:
        self._begun_at = self._clock.monotonic()
        self._died_at: float | None = None
        self._child = start_process(self._job, self._folder)

    def _has_ended(self) -> bool:
        return self._child.process.poll() is not None

    def _was_killed(self) -> bool:
        """Whether another process shall follow this one."""
        may_follow = not self._is_told and self._job.limits.row_limit is None
        return may_follow and self._has_ended() and self._child.process.returncode < 0

    def _again_at(self) -> float:
        if self._died_at is None:
            self._died_at = self._clock.monotonic()
            if self._died_at - self._begun_at > _GOES_WELL_SECONDS:
                self._wait_seconds = _FIRST_WAIT_SECONDS
            else:
                self._wait_seconds = min(self._wait_seconds * 2, _LONGEST_WAIT_SECONDS)
        return self._died_at + self._wait_seconds / 2


def still(progress: Progress) -> Progress:
    """What is left of one that is gone: nothing of it is under way."""
    return replace(progress, in_flight=0, cap_reserved=0, money_wait="", database_wait="")
