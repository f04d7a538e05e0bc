"""`batcher run`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.run.job_options import job_options, no_preflight, tag_table

if TYPE_CHECKING:
    from batcher.pipeline.job import Job


@click.command()
@job_options
@click.option("--concurrency", type=int, help="Requests in flight at most [64].")
@click.option("--rpm", type=int, help="Requests per minute at most, for each model class.")
@click.option("--itpm", type=int, help="Input tokens per minute, cache reads not counted.")
@click.option("--otpm", type=int, help="Output tokens per minute at most.")
@click.option("--quota-share", type=float, help="The part of every quota to use, like 0.25.")
@click.option(
    "--join", is_flag=True, default=None, help="Do the job together with others; PostgreSQL."
)
@click.option("--processes", type=int, help="Do the job in N processes; PostgreSQL [1].")
@click.option("--limit", type=int, help="Send at most this many new rows, then stop.")
@click.option(
    "--pilot",
    "pilot_rows",
    type=click.IntRange(min=5),
    metavar="N",
    help="Send N random rows first, say what the rest will cost, and ask on a terminal.",
)
@click.option("--max-runtime", metavar="TIME", help="Stop sending after 90s, 15m or 2h.")
@click.option("--max-cost", metavar="USD", help="Never let the run cost more than this.")
@click.option("--max-bad", metavar="N|P%", help="Stop when more rows than this are unusable.")
@click.option(
    "--on-unknown",
    type=click.Choice(["retry", "hold", "fail"]),
    help="What to do with rows whose attempt may have been billed unseen [retry].",
)
@click.option(
    "--on-truncate",
    metavar="keep|fail|raise=2x",
    help="What to do with answers that max_tokens cut off [keep].",
)
@click.option(
    "--on-invalid",
    metavar="keep|retry:N|fail",
    help="What to do with answers that do not follow their JSON schema [keep].",
)
@click.option(
    "--store",
    type=click.Choice(["full", "answer", "usage"]),
    help="How much of the answers is kept; money always is [full].",
)
@click.option(
    "--if-running",
    type=click.Choice(["fail", "skip", "wait"]),
    help="When another run is on: end with 75, with 0, or wait for it [fail].",
)
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="For reports; repeatable.")
@click.option("-o", "--output", help="Write the answers there at the end, in input order.")
@click.option(
    "--accept-change", is_flag=True, help="Pay answered rows again: settings changed."
)
@click.option(
    "--strict", is_flag=True, default=None, help="Exit 65 when an answer has no price."
)
@no_preflight
@click.option("--dry-run", is_flag=True, help="Do everything but send; show the ceiling.")
@click.option("--yes", is_flag=True, help="Answer every question with yes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option("--quiet", is_flag=True, help="No progress; errors only.")
def run(
    inputs: tuple[str, ...], job_path: Path | None, config_path: str | None,
    tags: tuple[str, ...], accept_change: bool, pilot_rows: int | None,
    dry_run: bool, yes: bool, as_json: bool, quiet: bool,
    **options: Any,  # noqa: ANN401 - settings by name, checked by Settings
) -> int:  # fmt: skip
    """Send the rows of INPUT, or of a job, that are still to do.

    INPUT is a JSONL or Parquet file, also .gz or .zst, a glob in quotes, or - for standard
    input. The same command again continues: answered rows are not sent again.
    """
    from batcher import wiring
    from batcher.cli.run.dry_run import print_dry_run
    from batcher.cli.run.summary import refused
    from batcher.errors import BatcherError

    try:
        job = wiring.resolve(
            wiring.asked(
                inputs,
                job_path,
                config_path,
                accept_change=accept_change or yes,
                options={**options, "tags": tag_table(tags)},
            )
        )
        if dry_run:
            return print_dry_run(job, as_json=as_json)
        wiring.check_together(job, pilot=pilot_rows is not None)
        if pilot_rows is not None:
            from batcher.cli.run.pilot import run_with_pilot

            return run_with_pilot(job, pilot_rows, as_json=as_json, quiet=quiet, assume_yes=yes)
        return _run(job, as_json=as_json, quiet=quiet, yes=yes)
    except BatcherError as exc:
        if quiet and exc.exit_code == 0:  # --if-running skip: cron needs no mail about that
            return 0
        return refused(exc, as_json=as_json)


def _run(job: "Job", *, as_json: bool, quiet: bool, yes: bool) -> int:
    from batcher import wiring
    from batcher.cli.money.estimate import look_ahead
    from batcher.cli.run.display import display
    from batcher.cli.run.summary import finish

    silent = quiet or as_json
    watcher = display(quiet=silent, assume_yes=yes)
    before = partial(look_ahead, job, quiet=silent, assume_yes=yes)
    try:
        ended = wiring.run(job, watcher, before)
    finally:
        watcher.close()
    return finish(job, ended, watcher, as_json=as_json, quiet=quiet)
