"""One invocation of a run, from the open ledger to the exit code; two for a deadline."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Final

from batcher.clock import Clock
from batcher.errors import AccessRefused, Busy
from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import check_space
from batcher.ledger.migrate import prepare
from batcher.ledger.money.estimates import EndpointTimes
from batcher.ledger.owner.lock import Ownership
from batcher.ledger.write.writer import Writer
from batcher.pacing.limits import DeadlinePlan, forecast
from batcher.pipeline.choices import PACKED_ROWS, LaneChoice
from batcher.pipeline.job import Job, Services
from batcher.pipeline.progress import Ended, Progress, sum_up
from batcher.pipeline.run.begin import BegunInvocation, begin
from batcher.pipeline.run.division import Alone, Division
from batcher.pipeline.run.holding import check_ledger, hold, rescue_for
from batcher.pipeline.run.invocation import Invocation

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run_job(
    job: Job,
    services: Services,
    loop_factory: LoopFactory | None = None,
    before: Callable[[Services], None] | None = None,
    held: Ownership | None = None,
) -> Ended:
    """Do everything of `job` that is still to do, and say how it ended.

    `before` is called when the ledger is there and held, and may raise to send nothing. `held`
    is what the caller holds already; `None`: nothing.

    Raises `BatcherError` for what is wrong before anything is sent; later trouble is in the
    result. Everything that was sent is in the ledger in either case.
    """
    with ExitStack() as stack:
        held = held or stack.enter_context(hold(job, services.observer, services.clock))
        check_space(job.database, job.min_free_space)
        database = open_engine(job.database)
        stack.callback(database.dispose)
        created = prepare(database).created or held.created
        checked = check_ledger(database, job, services.clock)
        if before is not None:
            before(services)
        begun = begin(database, job, services, held)
        runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory))
        rescue = rescue_for(database, job, begun, checked.places, services.clock)
        stack.callback(rescue.lifeboat.close)
        divide = _division(job, services, begun)
        invocation = Invocation(job, services, database, begun, rescue, divide)
        return runner.run(invocation.run(checked, created=created))


def _division(
    job: Job, services: Services, begun: BegunInvocation
) -> Callable[[Writer], Division]:
    if not job.join:
        return lambda _: Alone()
    from batcher.pipeline.together.shards import Together  # noqa: PLC0415 - seldom needed

    return partial(Together, job, services, begun)


RunPhase = Callable[[Job], Ended]
_LEADINGS: Final = 3
_LEADING_SECONDS: Final = 1_800.0  # half an hour, and as much for those that follow
_GOES_ON: Final = frozenset({0, Busy.exit_code})


def run_by_deadline(
    job: Job, seen: EndpointTimes, clock: Clock, run: RunPhase, is_told: Callable[[], bool]
) -> Ended:
    """Do everything of `job` by its deadline, in batches as long as these will be back by then.

    First batches are made. Then the live lane sends at once what no batch carries, and later
    what did not come back: it goes on as long as batches are out, collects them, and has them
    end in time. Rows of batches that turn out never to have been made go live at last. `run`
    does one such phase. `is_told`: whether a person wants it to end.
    """
    began = clock.monotonic()
    first = packing_phase(job, seen, clock.now_us())
    packed = run(first) if first else None
    spent = clock.monotonic() - began
    if packed is not None and (is_told() or not _goes_on(packed, job, spent)):
        return packed
    live = run(live_phase(job, seen, spent, begins=packed is None))
    ended = live if packed is None else _joined(packed, live)
    if live.rows_released and not live.stopped and not is_told():
        spent = clock.monotonic() - began
        return _joined(ended, run(live_phase(job, seen, spent, begins=False)))
    return ended


def run_with_cache(job: Job, clock: Clock, run: RunPhase, is_told: Callable[[], bool]) -> Ended:
    """Do everything of `job` in batches that use the prompt cache.

    First one row of each prefix goes, and nothing else, until they are back, or it has lasted
    so long that what they wrote would be over for the others; once more where one got no
    answer. Then all others go. `run` and `is_told` are those of `run_by_deadline`.
    """
    began, first = clock.monotonic(), run(leading_phase(job, 0.0))
    for _ in range(_LEADINGS):
        spent = clock.monotonic() - began
        if not first.rows_left or is_told() or not _goes_on(first, job, spent):
            return first
        if first.progress.failed == 0 or spent >= _LEADING_SECONDS:
            break
        first = _joined(first, run(leading_phase(job, spent)))
    return _joined(first, run(_rest_of(job, clock.monotonic() - began)))


def leading_phase(job: Job, spent_seconds: float) -> Job:
    """The job that sends what writes to the cache; `spent_seconds`: in phases before it."""
    rest = _rest_of(job, spent_seconds)
    left = max(_LEADING_SECONDS - spent_seconds, 0.0)
    limits = replace(rest.limits, leading=True)
    if limits.max_runtime_seconds is None or left < limits.max_runtime_seconds:
        words = "the first rows of some prefixes are not back: the others go without the cache"
        limits = replace(limits, max_runtime_seconds=left, runtime_words=words)
    return replace(rest, limits=limits, again=job.again and not spent_seconds)


def _rest_of(job: Job, spent_seconds: float) -> Job:
    limits = job.limits
    if limits.max_runtime_seconds is not None:
        left = max(limits.max_runtime_seconds - spent_seconds, 0.0)
        limits = replace(limits, max_runtime_seconds=left)
    return replace(job, again=False, limits=limits)


def plan_for(job: Job, seen: EndpointTimes) -> DeadlinePlan:
    """How the deadline of `job` is kept; it has one."""
    if job.deadline is None:
        raise ValueError("a run without a deadline has no plan for it")
    latency = None if seen.latency_us is None else seen.latency_us / 1e6
    limits = job.limits
    expected = forecast(
        seen.batch_seconds, latency, seen.tokens, limits.quota, limits.concurrency
    )
    return DeadlinePlan(at_us=job.deadline.at_us, forecast=expected)


def packing_phase(job: Job, seen: EndpointTimes, now_us: int) -> Job | None:
    """The job that makes batches and waits for none; `None`: they would be back too late."""
    plan = plan_for(job, seen)
    rows = plan.batch_rows(now_us, PACKED_ROWS)
    if not rows or not job.endpoint.batches:
        return None
    limits = replace(job.limits.packed(rows), cached=False)  # no first row is waited for
    left = (plan.packs_until_us(rows) - now_us) / 1e6
    if limits.max_runtime_seconds is None or left < limits.max_runtime_seconds:
        words = "batches that are made from now on would be back too late for the deadline"
        limits = replace(limits, max_runtime_seconds=max(left, 0.0), runtime_words=words)
    return replace(job, lane=LaneChoice.BATCH, wait=False, limits=limits, plan=plan)


def live_phase(job: Job, seen: EndpointTimes, spent_seconds: float, *, begins: bool) -> Job:
    """The job that sends everything else, and has batches end in time."""
    rest, again = _rest_of(job, spent_seconds), job.again and begins
    return replace(rest, lane=LaneChoice.LIVE, again=again, plan=plan_for(job, seen))


def _goes_on(packed: Ended, job: Job, spent_seconds: float) -> bool:
    """Whether the live lane may follow: nothing speaks against it, or only a cap that binds."""
    most = job.limits.max_runtime_seconds
    if most is not None and spent_seconds >= most:
        return False
    if packed.exit_code == AccessRefused.exit_code:
        return packed.progress.in_batches > 0
    return packed.exit_code in _GOES_ON or not packed.error


def _joined(first: Ended, last: Ended) -> Ended:
    """The end of the second with what both did."""
    both, end = Progress(), last.progress
    sum_up(both, first.progress, [end])
    for name in ("in_batches", "batches", "cap_spent", "cap_reserved", "cap_free"):
        setattr(both, name, getattr(end, name))
    return replace(last, progress=both, seconds=first.seconds + last.seconds)
