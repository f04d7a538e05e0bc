"""Becoming the owner of a run, and staying it while the database comes and goes."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from batcher.clock import Clock
from batcher.errors import Busy
from batcher.ledger.maintenance import check_space
from batcher.ledger.owner.lock import Ownership, hold_database, may_end_soon
from batcher.pipeline.choices import IfRunning
from batcher.pipeline.events import Observer
from batcher.pipeline.job import Job

_LOOK_SECONDS: Final = 0.5


class Skipped(Busy):
    """Another run is on, and that is fine: nothing was done."""

    exit_code = 0


@contextmanager
def hold(job: Job, observer: Observer, clock: Clock) -> Iterator[Ownership]:
    """Be the job's only run while the body lasts; what `if_running` says when there is one.

    Raises:
        Skipped: another run is on, and the job says to leave it at that.
        Busy: another run is on, or still was when `max_runtime` was over.
    """
    began = clock.monotonic()
    with ExitStack() as stack:
        check_space(job.database, job.min_free_space)  # before a file is made
        held = _try(stack, job, waited_seconds=0.0)
        if held is None:
            observer.waiting("another run is on: this one begins when it has ended")
        while held is None:
            threading.Event().wait(_LOOK_SECONDS)
            held = _try(stack, job, waited_seconds=clock.monotonic() - began)
        yield replace(held, waited_seconds=clock.monotonic() - began)


def _try(stack: ExitStack, job: Job, *, waited_seconds: float) -> Ownership | None:
    """What is held; `None` while it is to be waited for, which has an end."""
    try:
        return stack.enter_context(
            hold_database(
                job.database,
                job.key,
                command=job.command,
                lease_seconds=job.lease_seconds,
                together=job.join,
                pod=job.pod,
            )
        )
    except Busy as busy:
        if job.if_running is IfRunning.SKIP:
            raise Skipped(f"nothing was done: {busy}") from busy
        if waited_seconds >= _patience_seconds(job, busy):
            raise
        return None


def _patience_seconds(job: Job, busy: Busy) -> float:
    """Without being told to wait, one lease at most, of a container that ran before us."""
    most = job.limits.max_runtime_seconds
    if job.if_running is IfRunning.WAIT:
        return math.inf if most is None else most
    return job.lease_seconds + _LOOK_SECONDS if may_end_soon(busy, job.pod) else 0.0


def connection_lost(job: Job, told: Callable[[str], None]) -> Callable[[str], None]:
    """Takes a driver's words when the connection is lost; `told` gets a sentence, then ""."""
    return lambda words: told(_lost_words(words, job.database_wait_seconds))


def _lost_words(words: str, seconds: float) -> str:
    if not words:
        return ""
    return f"the database is away ({words}): waiting for it, for {seconds:g} s at most"
