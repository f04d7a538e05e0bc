"""`batcher run`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.commands import (
    MONEY,
    OUTPUT,
    TROUBLE,
    WHAT,
    command,
    force_option,
    format_options,
    option,
)
from batcher.cli.run.job_options import job_options, no_preflight, run_options, tag_table

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
    from batcher.cli.words.say import say, silence
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
    from batcher.cli.run.summary import finish
    from batcher.cli.words.say import say
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
        from batcher.cli.run.deadline import tell_deadline

        more = tell_deadline(job, ended, watcher.start, began_us, quiet=silent)
    return finish(job, ended, watcher, as_json=as_json, quiet=quiet, more=more)
