"""What a scheduler is told of a job: when it starts, what it runs as, how long it drains."""

from dataclasses import dataclass
from pathlib import Path

from batcher.config.files import find_config
from batcher.config.schedule import Cron, parse_cron
from batcher.errors import ConfigurationError
from batcher.transport.endpoint import Endpoint
from batcher.wiring.dated import schedule_zone
from batcher.wiring.resolve import asked, job_file, resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledJob:
    """A job with its `[schedule]`. Paths are absolute, `config_path` `None`: there is none."""

    name: str
    path: Path
    config_path: Path | None
    cron: Cron
    zone: str | None
    drain_seconds: float
    endpoint: Endpoint


def scheduled(path: Path) -> ScheduledJob:
    """The job at `path`; raises `ConfigurationError` where no unit can be made of it."""
    schedule = job_file(path).schedule
    if schedule.cron is None:
        raise ConfigurationError(
            f'{path}: has no [schedule]: write cron = "17 2 * * *" into that table, and'
            ' tz = "Europe/Berlin" for a time zone'
        )
    cron = parse_cron(schedule.cron)
    schedule_zone(schedule.tz)
    whole = path.resolve()
    job = resolve(asked((), whole, None))
    config = find_config(None, whole)
    if not (f"{whole}{config}{job.key}").isprintable():
        raise ConfigurationError(f"{path}: no unit can hold a name with control characters")
    return ScheduledJob(
        name=job.key,
        path=whole,
        config_path=config and config.resolve(),
        cron=cron,
        zone=schedule.tz,
        drain_seconds=job.limits.drain_timeout_seconds,
        endpoint=job.endpoint,
    )
