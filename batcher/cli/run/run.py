"""`batcher run`, `batcher check` before it, `batcher retry` after it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.commands import (
    MONEY,
    OUTPUT,
    TROUBLE,
    WHAT,
    choice,
    command,
    force_option,
    format_options,
    ledger_options,
    number,
    option,
)
from batcher.cli.run.job_options import job_options, no_preflight, run_options, tag_table
from batcher.cli.say import say, silence, tell
from batcher.messages.failure import FailureKind

if TYPE_CHECKING:
    from batcher.monitoring.monitors import Monitors
    from batcher.wiring import Asked


@command(
    "batcher run rows.jsonl -m claude-haiku-4-5 -o answers.csv",
    "batcher run job.toml --max-cost 25",
)
@job_options
@no_preflight
@run_options
@option(
    "--tag",
    "tags",
    multiple=True,
    metavar="K=V",
    section=WHAT,
    help="A label for reports; repeatable.",
)
@option(
    "--dry-run", is_flag=True, section=WHAT, help="Do everything but send; show the ceiling."
)
@option(
    "--pilot",
    "pilot_rows",
    type=click.IntRange(min=5),
    metavar="N",
    section=MONEY,
    help="Send N random rows first, say what the rest will cost, and ask on a terminal.",
)
@option(
    "--accept-change",
    is_flag=True,
    section=TROUBLE,
    help="Settings changed: send answered rows again, and pay them again.",
)
@option(
    "--again",
    is_flag=True,
    section=TROUBLE,
    help="Send all rows again, answered ones too: a new round of the run.",
)
@option(
    "--no-wait",
    is_flag=True,
    section=WHAT,
    help="With --lane batch: submit, collect what has ended by now, and end.",
)
@option(
    "--cancel",
    is_flag=True,
    section=WHAT,
    help="With --lane batch: end the batches, collect what was done, send nothing.",
)
@format_options("text", "json", section=OUTPUT)
@force_option(OUTPUT)
@option("-q", "--quiet", is_flag=True, section=OUTPUT, help="No progress; errors only.")
@option(
    "-v",
    "--verbose",
    is_flag=True,
    section=OUTPUT,
    help="Print a log with times instead of the panel.",
)
@option("-y", "--yes", is_flag=True, section=OUTPUT, help="Answer every question with yes.")
def run(
    inputs: tuple[str, ...], job_path: Path | None, config_path: str | None,
    tags: tuple[str, ...], accept_change: bool, again: bool, pilot_rows: int | None,
    dry_run: bool, force: bool, yes: bool, form: str, quiet: bool, verbose: bool,
    **options: Any,  # noqa: ANN401 - settings by name, checked by Settings
) -> int:  # fmt: skip
    """Send the rows of INPUT, or of a job, that are still to do.

    INPUT is a JSONL, CSV or Parquet file, also .gz or .zst, a glob in quotes, or - for standard
    input. The same command again continues: answered rows are not sent again, under
    whatever name their file comes.
    """
    from batcher import wiring
    from batcher.cli.interrupts import Interrupted
    from batcher.cli.run.dry_run import print_dry_run
    from batcher.cli.run.summary import refused
    from batcher.errors import BatcherError

    as_json = form == "json"

    try:
        typed = wiring.asked(
            inputs,
            job_path,
            config_path,
            accept_change=accept_change or yes,
            force=force,
            options={**options, "again": again, "tags": tag_table(tags)},
        )
        if dry_run:
            return print_dry_run(wiring.resolve(typed), as_json=as_json)
        do = partial(
            _run, typed, pilot_rows, as_json=as_json, quiet=quiet, yes=yes, verbose=verbose
        )
        tell = silence if quiet else say
        return wiring.watched(typed, do, verbose=verbose, tell=tell)
    except (BatcherError, Interrupted) as exc:
        if quiet and exc.exit_code == 0:  # --if-running skip: cron needs no mail about that
            return 0
        return refused(exc, as_json=as_json)


def _run(
    typed: "Asked",
    pilot_rows: int | None,
    monitors: "Monitors",
    *,
    as_json: bool,
    quiet: bool,
    yes: bool,
    verbose: bool,
) -> int:
    from batcher import wiring
    from batcher.cli.money.estimate import look_ahead
    from batcher.cli.run.display import display
    from batcher.cli.run.summary import finish, tell_deadline
    from batcher.clock import SystemClock

    job = wiring.resolve(typed)
    wiring.check_together(job, pilot=pilot_rows is not None)
    if pilot_rows is not None:
        from batcher.cli.run.pilot import run_with_pilot

        return run_with_pilot(
            job,
            pilot_rows,
            monitors,
            as_json=as_json,
            quiet=quiet,
            assume_yes=yes,
            verbose=verbose,
        )
    silent = quiet or as_json
    for sentence in () if silent else job.endpoint.sentences:
        say(sentence)
    watcher = display(quiet=silent or verbose, assume_yes=yes)
    before = partial(look_ahead, job, quiet=silent, assume_yes=yes)
    began_us = SystemClock().now_us()
    try:
        if job.on is not None:
            from batcher.distributed.on_ray import run_on_ray

            ended = run_on_ray(job, monitors.beside(watcher), before)
        else:
            ended = wiring.run(job, monitors.beside(watcher), before)
    finally:
        watcher.close()
    more = None
    if job.deadline is not None:
        more = tell_deadline(job, ended, watcher.start, began_us, quiet=silent)
    return finish(job, ended, watcher, as_json=as_json, quiet=quiet, more=more)


@command("batcher check rows.jsonl -m claude-haiku-4-5", "batcher check job.toml --json")
@job_options
@no_preflight
@format_options("text", "json")
def check(
    inputs: tuple[str, ...],
    job_path: Path | None,
    config_path: str | None,
    form: str,
    **options: Any,  # noqa: ANN401 - settings by name, checked by Settings
) -> int:
    """Validate inputs without sending anything.

    Reads, renders and judges every row as `run` would; needs no key and no database. Exits
    with 1 when a row would be quarantined.
    """
    from batcher import wiring
    from batcher.cli.run.dry_run import print_inspection

    asked = wiring.asked(inputs, job_path, config_path, options=options)
    return print_inspection(wiring.resolve(asked), as_json=form == "json")


@command("batcher retry", "batcher retry --run 3 --kind held")
@option("--run", "run_id", type=number, metavar="ID", help="The run, when there are several.")
@option(
    "--kind",
    type=choice(FailureKind),
    multiple=True,
    help="Only rows of this kind; repeatable [failed and held].",
)
@option("--reason", help="Only rows with this reason, as batcher failures shows it.")
@ledger_options
def retry(
    run_id: int | None,
    kind: tuple[str, ...],
    reason: str | None,
    database: str | None,
    config: str | None,
) -> None:
    """Make failed and held rows work to do again.

    Sends nothing: the run's own command, typed again, sends them.
    """
    from batcher.config.files import database_url
    from batcher.pipeline.run.by_hand import release
    from batcher.report.words import count_of

    released = release(
        database_url(database, config), run_id, kinds=kind or ("failed", "held"), reason=reason
    )
    rows, are = count_of(released.rows, "row"), "is" if released.rows == 1 else "are"
    tell(f"{rows} of run {released.run_id} {are} to do again")
    if released.rows:
        tell(f"send them with: {released.command}")
