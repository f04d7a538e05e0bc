"""One job in several processes of this machine: `--processes`.

This process is one of them. It starts the others when it has begun, each a new interpreter
(nothing is forked), tells them the job through a pipe, and hears through another how far they
are. They are joined workers like any other: quota, budget and rows are shared in the database.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, Any, Final

from batcher.clock import SystemClock
from batcher.errors import BatcherError
from batcher.pipeline.events import Ended, Observer, Resent, Started
from batcher.pipeline.job import HEARD, Job, Services, SignalWays
from batcher.pipeline.progress import Progress, sum_up
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
    team = _Team(others, observer)
    ended = None
    try:
        ways = replace(signals, pass_on=team.pass_on)
        ended = run_here(first, team, before, signals=ways, process=process)
    finally:
        if ended is None or ended.error:
            team.end_soon(job.limits.drain_timeout_seconds)
        if signals.told is not None:
            signals.told(team.pass_on)  # our own part no longer listens
        team.wait()
    whole = team.whole(ended)
    observer.ended(whole)
    return whole


def _part_of(job: Job, number: int, count: int) -> Job:
    limits = job.limits
    share = max(_divided(limits.concurrency, number, count), 1)
    most = None if limits.row_limit is None else _divided(limits.row_limit, number, count)
    mine = replace(limits, concurrency=share, row_limit=most)
    return replace(job, limits=mine, join=True, processes=1, output=None)


def _divided(whole: int, number: int, count: int) -> int:
    return whole // count + (number < whole % count)


@dataclass(slots=True)
class _Child:
    """One of the other processes, and what it said last."""

    process: "subprocess.Popen[bytes]"
    progress: Progress = field(default_factory=Progress)
    ended: Ended | None = None


class _Team:
    """See `Observer`: shows this process and the others as one."""

    def __init__(self, jobs: Sequence[Job], observer: Observer) -> None:
        self._jobs = jobs
        self._observer = observer
        self._children: list[_Child] = []
        self._listeners: list[threading.Thread] = []
        self._mine = Progress()
        self._sum = Progress()
        self._over = threading.Event()

    def started(self, event: Started) -> None:
        """See `Observer.started`; the others start now, so that they find a ledger."""
        self._mine = event.progress
        self._children = [_start(job) for job in self._jobs]
        self._listeners = [
            threading.Thread(target=self._listen, args=(child,), daemon=True)
            for child in self._children
        ]
        for thread in [*self._listeners, threading.Thread(target=self._add_up, daemon=True)]:
            thread.start()
        self._observer.started(replace(event, progress=self._sum))

    def ended(self, event: Ended) -> None:
        """See `Observer.ended`: it is told when all have ended."""

    def draining(self, reason: str) -> None:
        """See `Observer.draining`."""
        self._observer.draining(reason)

    def noted(self, sentence: str) -> None:
        """See `Observer.noted`."""
        self._observer.noted(sentence)

    def waiting(self, reason: str) -> None:
        """See `Observer.waiting`."""
        self._observer.waiting(reason)

    def confirm_resend(self, resent: Resent) -> bool:
        """See `Observer.confirm_resend`."""
        return self._observer.confirm_resend(resent)

    def pass_on(self, number: signal.Signals) -> None:
        """The others drain, or abort, as we do; their own signals they do not hear."""
        for child in self._children:
            if child.process.stdin:
                with suppress(OSError):  # it has ended
                    child.process.stdin.write(bytes([number]))
                    child.process.stdin.flush()

    def end_soon(self, drain_seconds: float) -> None:
        """We cannot go on: the others drain, and who does not end in time is ended."""
        deadline = SystemClock().monotonic() + drain_seconds + _MORE_SECONDS
        self.pass_on(signal.SIGTERM)
        for child in self._children:
            try:
                child.process.wait(max(deadline - SystemClock().monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.process.kill()

    def wait(self) -> None:
        """Return when the others have ended: they may still work on their last rows."""
        with passing_on(self.pass_on):
            for child in self._children:
                child.process.wait()
        for child in self._children:
            with suppress(OSError):
                if child.process.stdin:
                    child.process.stdin.close()
        for thread in self._listeners:
            thread.join()
        self._over.set()

    def whole(self, mine: Ended) -> Ended:
        """How the run ended, everybody taken together."""
        everybody = [mine, *(end for end in map(self._end_of, self._children) if end)]
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

    def _end_of(self, child: _Child) -> Ended | None:
        """`None`: it was killed, and the others took its rows over."""
        code = child.process.returncode
        if child.ended is not None or code < 0:
            return child.ended
        words = f"process {child.process.pid} of this run ended with code {code}"
        return Ended(
            exit_code=BatcherError.exit_code,
            error=words,
            rows_left=True,
            seconds=0,
            progress=child.progress,
            last=False,
        )

    def _listen(self, child: _Child) -> None:
        said = child.process.stdout
        while said is not None:
            try:
                message = pickle.load(said)  # noqa: S301 - from a child of ours
            except (EOFError, OSError, pickle.UnpicklingError):
                said.close()
                return
            if isinstance(message, Ended):
                child.ended, child.progress = message, message.progress
            else:
                child.progress = message

    def _add_up(self) -> None:
        while not self._over.wait(_TELL_SECONDS):
            self._refresh()

    def _refresh(self) -> None:
        sum_up(self._sum, self._mine, [child.progress for child in self._children])


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


def _start(job: Job) -> _Child:
    # The same interpreter with the same places to import from, whatever folder it is in.
    program = (
        f"import sys; sys.path[:] = {sys.path!r};"
        " from batcher.wiring.processes import work; work()"
    )
    # It is born deaf, and hears of signals from us: a service manager sends them to all.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    with suppress(OSError):  # it ended at once, and says why itself
        if process.stdin is not None:
            process.stdin.write(pickle.dumps(job))
            process.stdin.flush()
    return _Child(process)


# --- In the other processes


def work() -> None:
    """Do the part that standard input tells of; what comes of it goes to standard output."""
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may get between
    turn_deaf()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    asked = os.fdopen(0, "rb", closefd=False)
    job: Job = pickle.load(asked)  # noqa: S301 - from the process that started us
    teller = _Teller(told)
    try:
        ended = run_here(job, teller, signals=SignalWays(told=partial(_hear, asked)))
    except BatcherError as exc:
        ended = Ended(
            exit_code=exc.exit_code,
            error=str(exc),
            rows_left=True,
            seconds=0,
            progress=Progress(),
            last=False,
        )
    teller.end(ended)
    sys.exit(ended.exit_code)


def turn_deaf() -> None:
    """Signals do nothing to us from now on, and to programs that we start what they did."""
    for number in HEARD:
        if signal.getsignal(number) is not signal.SIG_IGN:  # which is handed on
            signal.signal(number, lambda *_: None)


def _hear(asked: IO[bytes], heard: Callable[[signal.Signals], object]) -> None:
    """Call `heard` with each signal that the parent tells of, and with its end, as SIGTERM."""

    def listen() -> None:
        with suppress(RuntimeError):  # our part of the run is over
            while number := asked.read(1):
                heard(signal.Signals(number[0]))
            heard(signal.SIGTERM)

    threading.Thread(target=listen, daemon=True).start()


class _Teller:
    """See `Observer`: tells the parent."""

    def __init__(self, told: IO[bytes]) -> None:
        self._told = told
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def started(self, event: Started) -> None:
        """See `Observer.started`."""
        self._thread = threading.Thread(target=self._tell, args=(event.progress,), daemon=True)
        self._thread.start()

    def ended(self, event: Ended) -> None:
        """See `Observer.ended`; `end` says it."""

    def draining(self, reason: str) -> None:
        """See `Observer.draining`; the parent says it."""

    def noted(self, sentence: str) -> None:
        """See `Observer.noted`; the sum says it at the end."""

    def waiting(self, reason: str) -> None:
        """See `Observer.waiting`."""

    def confirm_resend(self, resent: Resent) -> bool:  # noqa: ARG002 - the parent has asked
        """See `Observer.confirm_resend`."""
        return False

    def end(self, ended: Ended) -> None:
        """The last that is told."""
        self._over.set()
        if self._thread:
            self._thread.join()
        self._say(ended)

    def _tell(self, progress: Progress) -> None:
        while not self._over.wait(_TELL_SECONDS):
            self._say(progress)

    def _say(self, message: Any) -> None:  # noqa: ANN401 - Progress or Ended
        try:
            self._told.write(pickle.dumps(message))
            self._told.flush()
        except (OSError, RuntimeError):  # the parent is gone, or it changed meanwhile
            return
