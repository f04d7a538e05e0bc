"""Which request goes next: fresh rows, retries that are due, rows that wait for a scout."""

import heapq
from collections import deque
from collections.abc import Callable, Sequence

from batcher.messages.failure import Failure
from batcher.pacing.breaker import Breaker
from batcher.pacing.gate import Gate
from batcher.pipeline.scouts import Report, Scouts
from batcher.pipeline.work import Work


class Supply:
    """Everything that waits to be sent. Decides, never sleeps; moments are monotonic seconds.

    Retries and next legs wait in a heap of their own, never behind the reader. `consumed` is
    told the body bytes of each row that is sent for the first time, so that the reader may go on.
    """

    def __init__(self, gate: Gate, breaker: Breaker, consumed: Callable[[int], None]) -> None:
        self._gate = gate
        self._breaker = breaker
        self._scouts = Scouts()
        self._consumed = consumed
        self._fresh: deque[Work] = deque()
        self._urgent: deque[Work] = deque()
        self._later: list[tuple[float, int, Work]] = []
        self._waiting: dict[str, deque[Work]] = {}
        self._order = 0
        self.input_ended = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing more is going to be read."""
        return self.input_ended and not (
            self._fresh or self._urgent or self._later or self._waiting
        )

    @property
    def waiting_for_scouts(self) -> int:
        """How many rows wait until the first row of their model has ended."""
        return sum(map(len, self._waiting.values())) if self._waiting else 0

    def add(self, works: Sequence[Work]) -> None:
        """Rows that were just read."""
        self._fresh.extend(works)

    def again(self, work: Work, due: float) -> None:
        """A row that goes again at the moment `due`."""
        self._order += 1
        heapq.heappush(self._later, (due, self._order, work))

    def take(self, now: float) -> Work | None:
        """The next request that may go now; `None` when none may."""
        if not (self._gate.is_open(now) and self._breaker.allows(now)):
            return None
        while (work := self._pop(now)) is not None:
            model = work.request.model
            if self._scouts.admits(model, id(work), now):
                self._breaker.sent()
                if work.takes_room:
                    work.takes_room = False
                    self._consumed(len(work.request.body))
                return work
            self._waiting.setdefault(model, deque()).append(work)
        return None

    def report(self, work: Work, refusal: Failure | None) -> Report:
        """Tell how an attempt ended, so that rows that wait go, or try next; see `Scouts`."""
        if not self._scouts.knows(work.request.model):
            return Report.CLEAR
        report = self._scouts.report(work.request.model, id(work), refusal)
        if report is not Report.STOP:
            self._release(work.request.model)
        return report

    def next_moment(self, now: float) -> float | None:
        """When `take` may give something that it does not give now; `None`: not by waiting."""
        for model in self._scouts.overdue(now):
            self._release(model)
        moments = [self._next_due(now), self._scouts.next_overdue() if self._waiting else None]
        return min((moment for moment in moments if moment is not None), default=None)

    def _next_due(self, now: float) -> float | None:
        """When gate and breaker let the next row go that waits for nothing else."""
        if self._breaker.is_probing or not (self._fresh or self._urgent or self._later):
            return None  # the probe's outcome wakes everybody
        due = now if self._fresh or self._urgent else self._later[0][0]
        if self._breaker.is_open:
            due = max(due, self._breaker.next_probe)
        return max(due, self._gate.shut_until)

    def _pop(self, now: float) -> Work | None:
        if self._later and self._later[0][0] <= now:
            return heapq.heappop(self._later)[2]
        if self._urgent:
            return self._urgent.popleft()
        return self._fresh.popleft() if self._fresh else None

    def _release(self, model: str) -> None:
        self._urgent.extend(self._waiting.pop(model, ()))
