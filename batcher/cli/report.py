"""`batcher report`: what was sent, what it used, what it cost."""

import sys
from typing import TYPE_CHECKING

import click

from batcher.cli.ledger_options import ledger, ledger_options

if TYPE_CHECKING:
    from batcher.report.figures import Report
    from batcher.report.query import ReportQuery

_FORMATS = ("table", "csv", "json", "markdown")


@click.command()
@click.option(
    "--by",
    multiple=True,
    metavar="WORD",
    help="A line per model (the default), requested_model, stop_reason, hour, day, week, month,"
    " run, invocation, job, endpoint, lane, source or tag:NAME; give it several times to"
    " combine.",
)
@click.option("--since", metavar="TIME", help="Sent at this date or time, or later.")
@click.option("--until", metavar="TIME", help="Sent before this date or time.")
@click.option(
    "--last",
    type=click.Choice(["day", "week", "month"]),
    help="The last whole day, week or month before today.",
)
@click.option(
    "--tz",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    help="The time zone of days and dates, such as Europe/Paris.",
)
@click.option("--run", "run_id", type=int, metavar="ID", help="One run only, by its number.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="table",
    show_default=True,
    help="How to write it.",
)
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, not to standard output.")
@ledger_options
def report(
    by: tuple[str, ...],
    since: str | None,
    until: str | None,
    last: str | None,
    tz: str,
    run_id: int | None,
    form: str,
    output: str | None,
    database: str | None,
    config: str | None,
) -> None:
    """Print what was used and what it cost.

    Works while a run is on. Money in doubt and answers without a price are told apart and never
    guessed. Dates are read in the zone of --tz.
    """
    from batcher.report.summary import summarise

    query = _query(by, since, until, last, tz, run_id)
    with ledger(database, config) as engine:
        found = summarise(engine, query)
    show_report(found, form, output)


def _query(
    by: tuple[str, ...],
    since: str | None,
    until: str | None,
    last: str | None,
    tz: str,
    run_id: int | None,
) -> "ReportQuery":
    from batcher.clock import SystemClock
    from batcher.errors import UsageError
    from batcher.report import query

    zone = query.time_zone(tz)
    first = None if since is None else query.parse_moment(since, zone)
    end = None if until is None else query.parse_moment(until, zone)
    if last is not None:
        if since is not None or until is not None:
            raise UsageError(
                "--last already says from when to when: leave out --since and --until"
            )
        first, end = query.last_period(query.Period(last), SystemClock().now_us(), zone)
    return query.ReportQuery(
        by=query.parse_dimensions(by), since=first, until=end, run=run_id, timezone=tz
    )


def show_report(found: "Report", form: str, output: str | None) -> None:
    """Print a report, as a table that fits the terminal or as plain text."""
    from batcher.report.delivery import deliver
    from batcher.report.render import Format, render

    if form == "table" and output is None and sys.stdout.isatty():
        from batcher.report.render_table import print_table

        print_table(found, sys.stdout)
        return
    deliver(render(found, Format(form)), output, sys.stdout)
