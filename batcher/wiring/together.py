"""What must hold before several processes may do one job."""

from batcher.errors import ConfigurationError, UsageError
from batcher.ledger.connect import parse_url
from batcher.pipeline.job import Job


def check_together(job: Job, *, pilot: bool) -> None:
    """Raise for a job that several processes shall do, and cannot."""
    if not job.join and job.processes == 1:
        return
    option = "--processes" if job.processes > 1 else "--join"
    if parse_url(job.database).path is not None:
        raise ConfigurationError(
            f"{option} needs a PostgreSQL database: a SQLite file has one run at a time; name"
            " one with --database postgresql+psycopg://user@host/name"
        )
    if "-" in job.inputs:
        raise UsageError(
            f"{option}: standard input cannot be read by several; write it to a file"
        )
    if pilot:
        raise UsageError(
            "--pilot and --join: make the pilot alone, then run the rest with --join"
        )
