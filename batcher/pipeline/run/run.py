"""One invocation of a run, from the open ledger to the exit code."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import check_space
from batcher.ledger.migrate import prepare
from batcher.ledger.owner.lock import Ownership
from batcher.ledger.write.writer import Writer
from batcher.pipeline.events import Ended
from batcher.pipeline.job import Job, Services
from batcher.pipeline.run.begin import BegunInvocation, begin
from batcher.pipeline.run.division import Alone, Division
from batcher.pipeline.run.holding import hold
from batcher.pipeline.run.invocation import Invocation
from batcher.pipeline.run.rescue import check_ledger, rescue_for

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
