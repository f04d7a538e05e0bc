"""Which request goes next: fresh rows, retries that are due, rows that wait for a scout.

The first row of each model, its scout, goes alone, so that a wrong key or model costs one
request.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from batcher.messages.failure import Failure
from batcher.messages.request import Outcome
from batcher.pacing.backoff import Breaker
from batcher.pipeline.engine.decide import DOUBTS_BEFORE_PARKING, speaks_against_row
from batcher.pipeline.engine.pace import Pace
from batcher.pipeline.engine.prefixes import Prefixes
from batcher.pipeline.engine.work import Work

PATIENCE_SECONDS: Final = 30.0
ALIKE_BEFORE_STOP: Final = 3


class ScoutReport(Enum):
    """What a scout's outcome means for the rows that waited for it."""

    CLEAR = auto()  # everybody of the model may go
    NEXT_SCOUT = auto()  # the row was at fault; the next row tries
    STOP = auto()  # the same refusal again and again


@dataclass(slots=True)
class _Model:
    sent_at: float
    scout: int  # the row that is out, by any number that names it; 0: none is
    refusals: dict[str, int]


class Scouts:
    """Which models are known to work. Moments are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._clear: set[str] = set()
        self._out: dict[str, _Model] = {}

    @property
    def any_out(self) -> bool:
        """Whether a scout is out, or the next one is awaited."""
        return bool(self._out)

    def admits(self, model: str, row: int, now: float) -> bool:
        """Whether a row of `model` may go: as its scout, or because the way is clear."""
        if model in self._clear:
            return True
        state = self._out.get(model)
        if state is None:
            self._out[model] = _Model(now, row, {})
            return True
        if state.scout == 0:
            state.scout, state.sent_at = row, now
            return True
        return state.scout == row

    def report(self, model: str, row: int, refusal: Failure | None) -> ScoutReport:
        """Tell how a row of `model` ended; `refusal` is what spoke against the row itself.

        That is a failure of the row, or a body that is no Message. Anything else (an answer,
        but also a server in trouble) says nothing against the job.
        """
        state = self._out.get(model)
        if state is None:
            return ScoutReport.CLEAR
        if refusal is None:
            return self._settle(model)
        kind = f"{refusal.error_type}/{refusal.error_code}"
        state.refusals[kind] = state.refusals.get(kind, 0) + 1
        if state.refusals[kind] >= ALIKE_BEFORE_STOP:
            return ScoutReport.STOP
        if state.scout == row:
            state.scout = 0
        return ScoutReport.NEXT_SCOUT

    def withdraw(self, model: str, row: int) -> None:
        """The row does not go after all; if it was the scout, the next one is."""
        state = self._out.get(model)
        if state is not None and state.scout == row:
            state.scout = 0

    def overdue(self, now: float) -> list[str]:
        """Models whose scout took too long; the others need not wait for it any more."""
        late = [
            model
            for model, state in self._out.items()
            if state.scout and now - state.sent_at >= PATIENCE_SECONDS
        ]
        for model in late:
            self._settle(model)
        return late

    def next_overdue(self) -> float | None:
        """The moment at which the next scout is overdue; `None` when none is out."""
        moments = [state.sent_at for state in self._out.values() if state.scout]
        return min(moments) + PATIENCE_SECONDS if moments else None

    def _settle(self, model: str) -> ScoutReport:
        self._out.pop(model, None)
        self._clear.add(model)
        return ScoutReport.CLEAR


_MOST_STAYING: Final = 256
_ASK_AGAIN_SECONDS: Final = 0.5  # the pace may have changed meanwhile


@dataclass(slots=True)
class HeldRows:
    """Rows of one model that their quota keeps back until a moment, in order; never empty."""

    until: float
    works: deque[Work] = field(default_factory=deque)


class Supply:
    """Everything that waits to be sent. Decides, never sleeps; moments are monotonic seconds.

    Retries and next legs wait in a heap of their own, never behind the reader. `consumed` is
    told the body bytes of each row when it is first sent, so that the reader may go on. Without
    `scouting` nobody waits for the first row of a model: its outcome comes too late. With
    `prefixes` rows that begin alike wait for the first of them.
    """

    def __init__(
        self,
        pace: Pace,
        breaker: Breaker,
        consumed: Callable[[int], None],
        scouting: bool = True,  # noqa: FBT001, FBT002 - one of its limits
        prefixes: Prefixes | None = None,
    ) -> None:
        self._scouting = scouting
        self._prefixes = prefixes
        self._pace = pace
        self._breaker = breaker
        self._scouts = Scouts()
        self._consumed = consumed
        self._fresh: deque[Work] = deque()
        self._urgent: deque[Work] = deque()
        self._later: list[tuple[float, int, Work]] = []
        self._probed: deque[Work] = deque()  # probes in vain: the next one is another row
        self._staying: deque[Work] = deque()  # looked at: no other endpoint takes them
        self._waiting: dict[str, deque[Work]] = {}
        self._held: dict[str, HeldRows] = {}
        self._order = 0
        self._input_ended = False

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing waits, but more may be read."""
        later = self._later or self._probed or self._staying
        waiting = self._waiting or (self._prefixes is not None and self._prefixes.waiting)
        return not (self._fresh or self._urgent or later or waiting or self._held)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing more is going to be read."""
        return self._input_ended and self.holds_nothing

    @property
    def waiting_for_first(self) -> int:
        """How many rows wait until the first row of their model, or prefix, has ended."""
        waiting = sum(map(len, self._waiting.values())) if self._waiting else 0
        return waiting if self._prefixes is None else waiting + self._prefixes.waiting

    @property
    def has_scouts(self) -> bool:
        """Whether a row is out whose report others wait for, or may wait for."""
        return self._scouts.any_out or self._prefixes is not None

    @property
    def is_held(self) -> bool:
        """Whether a quota keeps rows back."""
        return bool(self._held)

    @property
    def chances(self) -> int:
        """How many workers may find something to send, when it is time, at most."""
        later = len(self._later) + len(self._probed) + len(self._staying)
        begin = 0 if self._prefixes is None else self._prefixes.may_begin
        return len(self._fresh) + len(self._urgent) + later + len(self._held) + begin

    def end_input(self) -> None:
        """No more rows are read."""
        self._input_ended = True

    def add(self, works: Sequence[Work]) -> None:
        """Rows that were just read.

        Those that an earlier process left in doubt do not ask whether the server is there while
        others can: what such a row meets is held against nobody, and is paid at each start.
        """
        if self._prefixes is not None:
            works = self._add_begun(self._prefixes, works)
        if self._breaker.is_asking:
            for work in works:
                (self._probed if work.doubts else self._fresh).append(work)
        else:
            self._fresh.extend(works)

    def _add_begun(self, prefixes: Prefixes, works: Sequence[Work]) -> Sequence[Work]:
        """Rows whose beginning is in the cache are the next; gives the others."""
        others = []
        for work in works:
            if prefixes.add(work) and not work.doubts:
                self._urgent.append(work)
            else:
                others.append(work)
        return others

    def again(self, work: Work, due: float) -> None:
        """A row that goes again at the moment `due`; a probe in vain when others have tried."""
        if work.is_probe and self._breaker.is_open:
            self._probed.append(work)
            return
        self._order += 1
        heapq.heappush(self._later, (due, self._order, work))

    def take(self, now: float) -> Work | None:
        """The next request that may go now; `None` when none may."""
        if not self._breaker.allows(now):
            return None
        prefixes = self._prefixes
        held = self._take_held(now) if self._held else None
        if held and (prefixes is None or prefixes.admits(held, now)):
            return self._go(held, now)
        while (work := self._pop(now)) is not None:
            model = work.request.model
            if self._scouting and not self._scouts.admits(model, id(work), now):
                self._waiting.setdefault(model, deque()).append(work)
            elif (prefixes is None or prefixes.admits(work, now)) and not self._is_held(
                work, now
            ):
                return self._go(work, now)
        return None

    @property
    def has_only_staying(self) -> bool:
        """Whether all that waits, and comes, are rows that `hand_on` found nobody to take.

        Many of them keep others from being read.
        """
        others = self._fresh or self._urgent or self._later or self._probed
        if not self._staying or others or self._waiting or self._held:
            return False
        return self._input_ended or len(self._staying) >= _MOST_STAYING

    def hand_on(self, takes: Callable[[Work], bool]) -> Work | None:
        """A row that waits and that another endpoint takes; those that it does not stay."""
        for model in [*self._waiting]:
            self._release(model)
        for held in self._held.values():
            self._urgent.extend(held.works)
        self._held.clear()
        if self._prefixes is not None:
            self._urgent.extend(self._prefixes.everything())
        self._urgent.extend(work for _, _, work in sorted(self._later, key=_moment))
        self._later.clear()
        for rows in (self._urgent, self._probed, self._fresh):
            while rows:
                work = rows.popleft()
                if takes(work):
                    if self._prefixes is not None:
                        self._urgent.extend(self._prefixes.withdraw(work))
                        self._prefixes.left(work)
                    return work
                self._staying.append(work)
        return None

    def put_back(self, work: Work) -> None:
        """What was taken cannot go yet: it stays the next."""
        self._breaker.not_sent()
        self._pace.withdraw(work)
        self._urgent.appendleft(work)

    def drop(self, work: Work) -> None:
        """What was taken never goes; if it was a scout, the next row is."""
        self._breaker.not_sent()
        self._pace.withdraw(work)
        self._scouts.withdraw(work.request.model, id(work))
        self._release(work.request.model)
        if self._prefixes is not None:
            self._urgent.extend(self._prefixes.withdraw(work))

    def report(self, work: Work, model: str, outcome: Outcome, now: float) -> Failure | None:
        """Tell how an attempt at `model` ended, so that rows that wait go, or try next.

        Gives what spoke against the row when so many were refused alike that the run ends.
        """
        if self._prefixes is not None:
            self._urgent.extend(self._prefixes.report(work, outcome, now))
        refusal = speaks_against_row(outcome)
        if self._scouts.report(model, id(work), refusal) is ScoutReport.STOP:
            return refusal
        self._release(model)
        return None

    def next_moment(self, now: float) -> float | None:
        """When `take` may give something that it does not give now; `None`: not by waiting."""
        for model in self._scouts.overdue(now):
            self._release(model)
        moments = [self._next_due(now), self._scouts.next_overdue() if self._waiting else None]
        return min((moment for moment in moments if moment is not None), default=None)

    def _next_due(self, now: float) -> float | None:
        """When quota and breaker let the next row go that waits for nothing else."""
        if self._breaker.is_probing:
            return None  # the probe's outcome wakes everybody
        dues = [held.until for held in self._held.values()]
        begins = not dues and self._prefixes is not None and self._prefixes.may_begin
        if self._fresh or self._urgent or self._probed or self._staying or begins:
            dues.append(now)
        elif self._later:
            dues.append(self._later[0][0])
        if not dues:
            return None
        return max(min(dues), self._breaker.next_probe) if self._breaker.is_open else min(dues)

    def _go(self, work: Work, now: float) -> Work:
        self._pace.begin(work, now)
        # One that had its tries, and goes as no other can ask, is to blame for what it meets.
        work.is_probe = self._breaker.is_asking and work.doubts < DOUBTS_BEFORE_PARKING
        self._breaker.sent()
        if work.takes_room:
            work.takes_room = False
            self._consumed(len(work.request.body))
            if self._prefixes is not None:
                self._prefixes.left(work)
        return work

    def _is_held(self, work: Work, now: float) -> bool:
        """Whether its quota keeps `work` back, behind others of its model; retries go first."""
        model = work.request.model
        held = self._held.get(model)
        if held is None:
            seconds = self._pace.wait_seconds(work, now)
            if seconds <= 0.0:
                return False
            held = self._held[model] = HeldRows(now + min(seconds, _ASK_AGAIN_SECONDS))
        if work.attempts:
            held.works.appendleft(work)
        else:
            held.works.append(work)
        return True

    def _take_held(self, now: float) -> Work | None:
        """The next row that its quota kept back and that may go now."""
        for model, held in self._held.items():
            if held.until > now:
                continue
            seconds = self._pace.wait_seconds(held.works[0], now)
            if seconds > 0.0:
                held.until = now + min(seconds, _ASK_AGAIN_SECONDS)
                continue
            work = held.works.popleft()
            if not held.works:
                del self._held[model]
            return work
        return None

    def _pop(self, now: float) -> Work | None:
        if self._probed and not self._breaker.is_asking:
            self._urgent.extend(self._probed)
            self._probed.clear()
        if self._later and self._later[0][0] <= now:
            return heapq.heappop(self._later)[2]
        if self._urgent:
            return self._urgent.popleft()
        if self._fresh:
            return self._fresh.popleft()
        if self._staying:
            return self._staying.popleft()
        if self._prefixes is not None and not self._held:
            self._urgent.extend(self._prefixes.begin())
            if self._urgent:
                return self._urgent.popleft()
        return self._probed.popleft() if self._probed else None

    def _release(self, model: str) -> None:
        self._urgent.extend(self._waiting.pop(model, ()))


def _moment(later: tuple[float, int, Work]) -> tuple[float, int]:
    return later[:2]
