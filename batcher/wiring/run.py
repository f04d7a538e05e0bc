"""A job, run: by this process alone, or by several of this machine together.

At its end, whoever began it, come its output file and its whole end as data. What a scheduler
is told of a job is here, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from batcher.clock import SystemClock
from batcher.config.files import find_config
from batcher.config.values import Cron, parse_cron
from batcher.errors import BatcherError, ConfigurationError, UsageError
from batcher.ledger.connect import engine_at, parse_url, without_passwords
from batcher.monitoring.progress_text import limit_json
from batcher.pipeline.job import Job, Services, SignalWays
from batcher.pipeline.progress import Ended, Observer, Started
from batcher.pricing.money import usd_text
from batcher.rows.read.source import SourceFile
from batcher.transport.endpoint import Endpoint
from batcher.wiring.dated import schedule_zone
from batcher.wiring.process import OwnProcess, Process
from batcher.wiring.ready import run_here
from batcher.wiring.resolve import asked, job_file, resolve


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
    job = replace(job, command_uid=SystemClock().token())
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


_FINISHED: Final = (0, 65)
_INTERRUPTED: Final = 130


def output_of(
    job: Job, ended: Ended, start: Started | None, say: Callable[[str], None]
) -> tuple[int | None, Ended]:
    """Write the answers where the job wants them, if it does.

    How many rows were written, `None` for no file; and the end, with what went wrong there.
    What went wrong before is the graver, and keeps its code. `say` takes warnings.
    """
    if not (job.output and start and ended.last):
        return None, ended
    try:
        return _write_output(job, start, say), ended
    except BrokenPipeError:  # whoever read it has seen enough; the run keeps its own code
        return None, ended
    except KeyboardInterrupt:
        said = (
            f"aborted while {job.output} was written: it is not complete, but every answer is"
            " in the ledger; type the same command again"
        )
        return None, replace(ended, exit_code=_INTERRUPTED, error=said)
    except BatcherError as error:
        words = "; ".join(filter(None, [ended.error, str(error)]))
        finished = ended.exit_code in _FINISHED
        code = error.exit_code if finished else ended.exit_code
        return None, replace(ended, exit_code=code, error=words)


def _write_output(job: Job, start: Started, say: Callable[[str], None]) -> int:
    from batcher.report.export.answers import (  # noqa: PLC0415 - seldom needed
        ExportOptions,
        export_answers,
    )

    with engine_at(job.database, read_only=True) as engine:
        options = ExportOptions(
            target=str(job.output),
            force=job.replace_output,
            source_ids=start.source_ids if job.output_of_inputs else None,
        )
        return export_answers(engine, start.run_id, options, say).rows


def json_summary(
    job: Job, ended: Ended, start: Started | None, written: int | None
) -> dict[str, Any]:
    """The whole end of a run; amounts are exact decimal text."""
    progress = asdict(ended.progress)
    for name in (
        "money_wait", "database_wait", "outage", "last_failure", "in_flight", "recorded",
        "binding_limit_now", "binding_limit", "quota_used", "fallback_rows", "fallback_cost",
    ):  # fmt: skip
        progress.pop(name)
    for name in (
        "cost", "shared_cost", "repeated_cost", "assumed_low", "assumed_high",
        "maybe_billed_high", "in_doubt_low", "in_doubt_high", "cap_spent", "cap_reserved",
        "cap_free",
    ):  # fmt: skip
        value = progress.pop(name)
        progress[f"{name}_usd"] = None if value is None else usd_text(value)
    progress["other_currencies"] = {
        currency: usd_text(amount)
        for currency, amount in ended.progress.other_currencies.items()
    }
    return {
        "exit_code": ended.exit_code,
        "error": ended.error or None,
        "cause": ended.cause or None,
        "run_id": start.run_id if start else None,
        "invocation_id": start.invocation_id if start else None,
        "database": start.database if start else without_passwords(job.database),
        "database_created": bool(start and start.database_created),
        "imported_outcomes": start.imported if start else 0,
        "price_note": start.price_note if start else None,
        "recovered_attempts": start.recovery.attempts if start else 0,
        "rows_left": ended.rows_left,
        "rows_without_answer": ended.without_answer,
        "seconds": round(ended.seconds, 3),
        "rows_written": written,
        "fallback": {
            name: {"rows": rows, "cost_usd": usd_text(ended.progress.fallback_cost[name])}
            for name, rows in ended.progress.fallback_rows.items()
        },
        **limit_json(ended.progress),
        **progress,
    }


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
