"""A job, run: by this process alone, or by several of this machine together."""

from collections.abc import Callable, Sequence

from batcher.errors import ConfigurationError, UsageError
from batcher.ledger.connect import parse_url
from batcher.pipeline.events import Ended, Observer
from batcher.pipeline.job import Job, Services, SignalWays
from batcher.rows.read.source import SourceFile
from batcher.wiring.process import OwnProcess, Process
from batcher.wiring.ready import run_here


def run(
    job: Job,
    observer: Observer,
    before: Callable[[Services], None] | None = None,
    files: Sequence[SourceFile] = (),
    signals: SignalWays = SignalWays(),  # noqa: B008 - frozen
    process: Process = OwnProcess(),  # noqa: B008 - has no state
) -> Ended:
    """Do everything of `job` that is still to do, in as many processes as it says.

    `before` and what is raised: see `run_job`; `files`: see `services_for`.
    """
    if job.processes == 1:
        return run_here(job, observer, before, files, signals, process)
    from batcher.wiring.processes import run_together  # noqa: PLC0415 - seldom needed

    return run_together(job, observer, before, signals, process)


def check_together(job: Job, *, pilot: bool) -> None:
    """Raise for a job that several processes shall do, and cannot."""
    if job.workers is not None and job.on is None:
        raise UsageError("--workers is for --on ray: type that, too, or --processes")
    if not job.join and job.processes == 1 and job.on is None:
        return
    if job.on is not None and (job.join or job.processes > 1):
        raise UsageError("--on ray places workers that join: leave out --join and --processes")
    option = "--processes" if job.processes > 1 else "--join"
    option = f"--on {job.on}" if job.on else option
    if parse_url(job.database).path is not None:
        raise ConfigurationError(
            f"{option} needs a PostgreSQL database: a SQLite file has one run at a time; name"
            " one with --database postgresql+psycopg://user@host/name"
        )
    if "-" in job.inputs:
        raise UsageError(
            f"{option}: standard input cannot be read by several; write it to a file"
        )
    if job.again:
        raise UsageError(
            f"--again and {option}: begin the round in one process, with --limit 1 for example;"
            " then type the command without --again"
        )
    if pilot:
        raise UsageError(
            f"--pilot and {option}: make the pilot alone, then run the rest with {option}"
        )
