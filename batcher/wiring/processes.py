"""One job in several processes of this machine: `--processes`.

This process is one of them. It starts the others when it has begun, each a new interpreter
(nothing is forked), tells them the job through a pipe, and hears through another how far they
are. They are joined workers like any other: quota, budget and rows are shared in the database.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Protocol

from batcher.clock import SystemClock
from batcher.pipeline.job import HEARD, Job, Services, SignalWays
from batcher.pipeline.progress import Ended, Observer, Progress, Resent, Started, sum_up
from batcher.wiring.child import start_process
from batcher.wiring.process import OwnProcess, Process
from batcher.wiring.ready import run_here

_TELL_SECONDS: Final = 0.2
_MORE_SECONDS: Final = 30.0  # for a child to end, besides what it may take to drain
# From the worst to the best: a bug, the ledger, access, settings, the provider, cut off, again.
_UNFIT: Final = 65
_WORST_FIRST: Final = (70, 74, 73, 77, 78, 2, 69, 143, 130, 75, 65, 0)


def run_together(
    job: Job,
    observer: Observer,
    before: Callable[[Services], None] | None = None,
    signals: SignalWays = SignalWays(),  # noqa: B008 - frozen
    process: Process = OwnProcess(),  # noqa: B008 - has no state
) -> Ended:
    """Do `job` in as many processes as it says, and say how all of them ended.

    Concurrency and limit are those of all together. See `run_job`.
    """
    limit = job.limits.row_limit
    count = job.processes if limit is None else min(job.processes, limit)
    first, *others = [_part_of(job, number, count) for number in range(count)]
    team = Team(lambda: [start_process(each) for each in others], observer)
    return run_with(team, first, before, signals, process)


def run_with(
    team: "Team",
    first: Job,
    before: Callable[[Services], None] | None,
    signals: SignalWays,
    process: Process,
) -> Ended:
    """Do `first` in this process while `team` does the rest, and say how all of them ended."""
    ended = None
    try:
        ways = replace(signals, pass_on=team.pass_on)
        ended = run_here(first, team, before, signals=ways, process=process)
    finally:
        if ended is None or ended.error:
            team.end_soon(first.limits.drain_timeout_seconds)
        if signals.told is not None:
            signals.told(team.pass_on)  # our own part no longer listens
        team.wait()
    whole = team.whole(ended)
    team.observer.ended(whole)
    return whole


def _part_of(job: Job, number: int, count: int) -> Job:
    limits = job.limits
    share = max(part_of(limits.concurrency, number, count), 1)
    most = None if limits.row_limit is None else part_of(limits.row_limit, number, count)
    mine = replace(limits, concurrency=share, row_limit=most)
    return replace(job, limits=mine, join=True, processes=1, output=None)


def part_of(whole: int, number: int, count: int) -> int:
    """What worker `number` of `count` gets of a number; all parts together are the whole."""
    return whole // count + (number < whole % count)


class Other(Protocol):
    """One of the other workers, wherever it is."""

    @property
    def progress(self) -> Sequence[Progress]:
        """How far it is, and how far those were that it has followed."""

    def tell(self, number: signal.Signals) -> None:
        """It drains, or aborts, as we do."""

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended, within that time."""

    def kill(self) -> None:
        """End it now."""

    def close(self) -> None:
        """Forget it: it has ended."""

    def end(self) -> Ended | None:
        """How it ended; `None`: it was killed, and the others took its rows over."""


class Team:
    """See `Observer`: shows this process and the others as one.

    `start` starts the others. `leads_only`: this process has no rows of its own.
    """

    def __init__(
        self,
        start: Callable[[], Sequence[Other]],
        observer: Observer,
        *,
        leads_only: bool = False,
    ) -> None:
        self.observer = observer
        self._start = start
        self._leads_only = leads_only
        self._others: Sequence[Other] = ()
        self._mine = Progress()
        self._sum = Progress()
        self._over = threading.Event()

    def started(self, event: Started) -> None:
        """See `Observer.started`; the others start now, so that they find a ledger."""
        self._mine = event.progress
        self._others = self._start()
        threading.Thread(target=self._add_up, daemon=True).start()
        self.observer.started(replace(event, progress=self._sum))

    def ended(self, event: Ended) -> None:
        """See `Observer.ended`: it is told when all have ended."""

    def draining(self, reason: str) -> None:
        """See `Observer.draining`."""
        self.observer.draining(reason)

    def noted(self, sentence: str) -> None:
        """See `Observer.noted`."""
        self.observer.noted(sentence)

    def waiting(self, reason: str) -> None:
        """See `Observer.waiting`."""
        self.observer.waiting(reason)

    def confirm_resend(self, resent: Resent) -> bool:
        """See `Observer.confirm_resend`."""
        return self.observer.confirm_resend(resent)

    def pass_on(self, number: signal.Signals) -> None:
        """The others drain, or abort, as we do; their own signals they do not hear."""
        for other in self._others:
            other.tell(number)

    def end_soon(self, drain_seconds: float) -> None:
        """We cannot go on: the others drain, and who does not end in time is ended."""
        deadline = SystemClock().monotonic() + drain_seconds + _MORE_SECONDS
        self.pass_on(signal.SIGTERM)
        for other in self._others:
            if not other.wait(max(deadline - SystemClock().monotonic(), 0.1)):
                other.kill()

    def wait(self) -> None:
        """Return when the others have ended: they may still work on their last rows."""
        with passing_on(self.pass_on):
            for other in self._others:
                other.wait()
        for other in self._others:
            other.close()
        self._over.set()

    def whole(self, mine: Ended) -> Ended:
        """How the run ended, everybody taken together."""
        others = [end for other in self._others if (end := other.end())]
        is_idle = self._leads_only and others and not mine.exit_code
        everybody = others if is_idle else [mine, *others]
        worst = min(everybody, key=_rank)
        kinds = {kind for end in everybody for kind in end.unfinished_rows}
        self._refresh()
        return Ended(
            exit_code=worst.exit_code,
            error=worst.error or next((end.error for end in everybody if end.error), ""),
            rows_left=all(end.rows_left for end in everybody),
            seconds=mine.seconds,
            progress=self._sum,
            unfinished_rows={
                kind: max(end.unfinished_rows.get(kind, 0) for end in everybody)
                for kind in sorted(kinds)
            },
            last=any(end.last for end in everybody),
            stopped=worst.stopped
            or next((end.stopped for end in everybody if end.stopped), ""),
        )

    def _add_up(self) -> None:
        while not self._over.wait(_TELL_SECONDS):
            self._refresh()

    def _refresh(self) -> None:
        sum_up(
            self._sum, self._mine, [each for other in self._others for each in other.progress]
        )


@contextmanager
def passing_on(tell: Callable[[signal.Signals], object]) -> Iterator[None]:
    """`tell` hears of signals: our own part is over, and with it what heard them.

    A hang-up that is ignored, as under `nohup`, stays so.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in HEARD}
        if before[signal.SIGHUP] is signal.SIG_IGN:
            del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, lambda got, _: tell(signal.Signals(got)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _rank(end: Ended) -> float:
    if end.exit_code not in _WORST_FIRST:
        return -1
    rank = _WORST_FIRST.index(end.exit_code)
    # Who ended with 65 for an error ended the others, which are to be continued therefore.
    return rank - 1.5 if end.exit_code == _UNFIT and end.error else rank
