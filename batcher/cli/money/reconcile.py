"""`batcher reconcile`: does it match the provider's bill, and if not, why."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.commands import (
    FILE,
    command,
    completed,
    endpoint_names,
    force_option,
    format_options,
    number,
    option,
    several_ledgers,
    several_ledgers_options,
)
from batcher.cli.say import say, tell
from batcher.report.render.formats import TABLE_FORMATS, Format, require_file, write

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from batcher.ledger.connect import Engine
    from batcher.ledger.money.adjustments import Author

_DOES = ("record", "undo", "recorded")


@command(
    "batcher reconcile usage.json costs.json",
    "batcher reconcile --fetch --since 2026-10-01 --until 2026-11-01 --record",
)
@click.argument("files", nargs=-1, metavar="FILE...")
@option(
    "-e",
    "--endpoint",
    metavar="NAME",
    shell_complete=completed(endpoint_names),
    help="Only what this endpoint was sent; needed where there are several.",
)
@option(
    "--fetch",
    is_flag=True,
    help="Fetch the provider's reports with an admin key; needs no FILE.",
)
@option("--since", metavar="DATE", help="With --fetch: from this UTC day [the ledger's first].")
@option("--until", metavar="DATE", help="With --fetch: before this UTC day.")
@option("--all", "every", is_flag=True, help="Show lines that agree, too.")
@option(
    "--record",
    is_flag=True,
    help="Put what is left over into the ledger, as adjustments; charges stay as they are.",
)
@option("--undo", type=number, metavar="N", help="Take adjustment N back; needs no FILE.")
@option("--recorded", is_flag=True, help="List all adjustments; needs no FILE.")
@format_options(*(each.value for each in TABLE_FORMATS))
@option(
    "-o", "--output", type=FILE, metavar="FILE", help="Write to FILE, not to standard output."
)
@force_option()
@several_ledgers_options
@click.pass_context
def reconcile(
    context: click.Context,
    files: tuple[str, ...],
    endpoint: str | None,
    fetch: bool,
    since: str | None,
    until: str | None,
    every: bool,
    record: bool,
    undo: int | None,
    recorded: bool,
    form: str,
    output: str | None,
    force: bool,
    databases: tuple[str, ...],
    config: str | None,
) -> None:
    """Compare the ledger with the provider's own figures.

    FILE is a saved response of the usage report or the cost report of the provider's Admin
    API (JSON), or an export of its Console (CSV); --fetch asks the API for both reports. Each
    line is a UTC day, model, tier, geography and kind of token: theirs, ours, the difference,
    and its cause. The exit code is 1 when differences remain.
    """
    from batcher.finance.reconcile import record as book
    from batcher.finance.reconcile.comparison import comparison_table
    from batcher.finance.reconcile.lines import Fetcher, compare
    from batcher.report.ledgers import guard_of

    _check(context, files)
    require_file(form, output)
    with several_ledgers(databases, config) as engines:
        guard = guard_of(engines, force=force, inputs=list(map(Path, files)))
        if undo is not None:
            with _to_write(databases, config) as engine:
                tell(book.undo(engine, undo, _author()))
            return
        if recorded:
            write(book.adjustments_table(engines), Format(form), output, sys.stdout, guard)
            return
        asked = {"fetch": Fetcher(since, until, config, say)} if fetch else {}
        found = compare(engines, files, endpoint=endpoint, **asked)
        done = book.Recorded((), found.findings)
        if record:
            with _to_write(databases, config) as engine:
                done = book.record_residuals(engine, found, _author())
    table = comparison_table(found, every=every, further=done.sentences)
    write(table, Format(form), output, sys.stdout, guard)
    context.exit(1 if done.differing or found.theirs.unfinished else 0)


def _check(context: click.Context, files: tuple[str, ...]) -> None:
    from batcher.errors import UsageError

    asked = [name for name in _DOES if context.params[name] not in {None, False}]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]} are two commands: give one at a time")
    reads, fetches = not asked or asked == ["record"], context.params["fetch"]
    if reads and not files and not fetches:
        raise UsageError(
            "give the provider's files, batcher reconcile usage.json costs.json, or --fetch"
        )
    if (files or fetches) and not reads:
        raise UsageError(f"--{asked[0]} reads no report: leave out {(*files, '--fetch')[0]}")
    if not fetches and (context.params["since"] or context.params["until"]):
        raise UsageError("--since and --until are for --fetch: a file's days are its own")


def _to_write(
    databases: tuple[str, ...], config: str | None
) -> "AbstractContextManager[Engine]":
    """The first ledger that was named; of several it keeps the adjustments of all."""
    from batcher.config.files import database_url
    from batcher.ledger.connect import engine_at

    return engine_at(database_url(databases[0] if databases else None, config))


def _author() -> "Author":
    import socket

    from batcher.clock import SystemClock
    from batcher.ledger.connect import user_name
    from batcher.ledger.money.adjustments import Author

    return Author(f"{user_name()} on {socket.gethostname()}", SystemClock().now_us())
