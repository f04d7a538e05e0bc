"""`batcher run --pilot N`: a few rows first, what they tell of the others, then the others."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import click

from batcher import wiring
from batcher.cli.money.estimate import look_ahead
from batcher.cli.money.estimate_words import (
    estimate_json,
    expectation_words,
    grade_json,
    pilot_lines,
)
from batcher.cli.money.estimate_words import grade_lines as lines_of_grades
from batcher.cli.run.display import display
from batcher.cli.run.summary import finish
from batcher.cli.say import say, silence
from batcher.estimate.estimate import Estimated, estimate
from batcher.ledger.connect import engine_at, reading
from batcher.ledger.money.estimates import stored_estimates
from batcher.monitoring.monitors import Monitors
from batcher.pipeline.job import Job, RunLimits
from batcher.pipeline.progress import Ended, Observer
from batcher.rows.read.source import SourceFile

_GOES_ON: Final = frozenset({0, 65})  # of a pilot: all of its rows were sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Piloted:
    """What a pilot left to do: `job` without what it used up of the limits."""

    job: Job
    files: Sequence[SourceFile]
    made: Estimated


def run_with_pilot(
    job: Job,
    rows: int,
    monitors: Monitors,
    *,
    as_json: bool,
    quiet: bool,
    assume_yes: bool,
    verbose: bool,
) -> int:
    """One run that begins with a pilot of `rows`, as its first invocation; the exit code.

    A person on a terminal is asked between the two; `click.Abort` is raised for a no. Answers
    of an earlier, unfinished pilot count, so that the same command again pays none twice.
    """
    silent = quiet or as_json
    watcher = display(quiet=silent or verbose, assume_yes=assume_yes)
    try:
        piloted = _send(
            job, rows, monitors.beside(watcher), quiet=silent, assume_yes=assume_yes
        )
        ended = _ending_here(job, piloted.made)
    finally:
        watcher.close()
    created = watcher.start is not None and watcher.start.database_created
    if ended is None:
        _show(piloted.made, quiet=silent, assume_yes=assume_yes)
        watcher = display(quiet=silent or verbose, assume_yes=assume_yes)
        try:
            ended = wiring.run(piloted.job, monitors.beside(watcher), files=piloted.files)
        finally:
            watcher.close()
    more = _more(job, piloted.made, quiet=silent)
    if created:
        more["database_created"] = True  # by the pilot
    return finish(job, ended, watcher, as_json=as_json, quiet=quiet, more=more)


def _more(job: Job, made: Estimated, *, quiet: bool) -> dict[str, Any]:
    """What the run's JSON object says besides: the estimate, its pilot and its grade."""
    if made.pilot is None and made.estimate_id is None:
        return {"estimate": None}
    graded = _grade(job, made, quiet=quiet)
    return {"estimate": estimate_json(made) | graded}


def _send(job: Job, rows: int, watcher: Observer, *, quiet: bool, assume_yes: bool) -> Piloted:
    services = wiring.services_for(job, watcher)
    look_ahead(job, services, quiet=quiet, assume_yes=assume_yes, may_ask=False)
    most = job.limits.row_limit
    made = estimate(
        job,
        min(rows, most) if most else rows,
        observer=watcher,
        say=silence if quiet else say,
        services=services,
    )
    limits = _left(job.limits, made)
    rest = replace(job, limits=limits, again=False)  # the pilot has begun the round
    return Piloted(job=rest, files=services.files, made=made)


def _left(limits: RunLimits, made: Estimated) -> RunLimits:
    if limits.row_limit is not None:
        limits = replace(limits, row_limit=limits.row_limit - made.drawn)
    if limits.max_runtime_seconds is not None and made.pilot is not None:
        seconds = max(limits.max_runtime_seconds - made.pilot.seconds, 0.0)
        limits = replace(limits, max_runtime_seconds=seconds)
    return limits


def _ending_here(job: Job, made: Estimated) -> Ended | None:
    """The pilot's own end where nothing may follow it: stopped, or the limit used up."""
    if made.pilot is None:
        return None
    went_well = made.pilot.exit_code in _GOES_ON and not made.pilot.error
    if went_well and job.limits.row_limit != made.drawn:
        return None
    return replace(made.pilot, rows_left=made.pilot.rows_left or made.census.requests > 0)


def _show(made: Estimated, *, quiet: bool, assume_yes: bool) -> None:
    """What the pilot tells of the rows that are left; a person may say no."""
    if not made.census.requests:
        return
    if not quiet:
        for line in pilot_lines(made):
            say(line)
    if not assume_yes and sys.stdin.isatty() and sys.stderr.isatty():
        question = f"{expectation_words(made)}. Send the other {made.census.requests:,} rows?"
        click.confirm(question, err=True, abort=True)


def _grade(job: Job, made: Estimated, *, quiet: bool) -> dict[str, Any]:
    """Say what came of the estimate, once the run is over; also for programs."""
    with engine_at(job.database, read_only=True) as engine, reading(engine) as connection:
        stored = stored_estimates(connection, job.key)
    found = [each for each in stored if each.estimate_id == made.estimate_id]
    graded = [each for each in found if each.grade is not None]
    if graded and not quiet:
        say(f"estimate {lines_of_grades(graded)[0]}")
    return grade_json(found[0]) if found else {}
