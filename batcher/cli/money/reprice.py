"""`batcher reprice`: the same answers at other prices, as a further rating."""

from typing import TYPE_CHECKING

import click

from batcher.cli.commands import command, format_options, number, option
from batcher.cli.ledger_options import ledger_options
from batcher.cli.words.say import tell, tell_table

if TYPE_CHECKING:
    from batcher.ledger.rate.ratings import Repricing

_COLUMNS = ("Model", "Answers", "Old", "New", "Difference")


@command(
    "batcher reprice --book prices.toml --dry-run", "batcher reprice --book shipped --run 3"
)
@option(
    "--book",
    "book_file",
    required=True,
    metavar="FILE",
    help='The price file (TOML or CSV), or the word "shipped".',
)
@option(
    "--as-of",
    metavar="DAY",
    help="Take the prices of that UTC day; else each answer's own day counts.",
)
@option("--run", "run_id", type=number, metavar="ID", help="One run only, by its number.")
@option("--dry-run", is_flag=True, help="Show the difference and write nothing.")
@option("--reopen", is_flag=True, help="Touch closed months too; they are open then.")
@format_options("table", "json")
@ledger_options
def reprice(
    book_file: str,
    as_of: str | None,
    run_id: int | None,
    dry_run: bool,
    reopen: bool,
    form: str,
    database: str | None,
    config: str | None,
) -> None:
    """Price all answers again with a price book, and show the difference.

    Adds a rating and overwrites nothing: `batcher report --rating N` shows the ledger as it was
    when rating N was complete. Needs a moment when no run is on, except with --dry-run.
    """
    from batcher.cli.money.prices import book_of
    from batcher.clock import SystemClock
    from batcher.config.files import database_url
    from batcher.ledger.rate import ratings as ledger

    options = ledger.RepriceOptions(
        book=book_of(book_file), as_of=_day(as_of), run_id=run_id, reopens=reopen
    )
    url = database_url(database, config)
    do = ledger.compare if dry_run else ledger.reprice
    found = do(url, options, now_us=SystemClock().now_us())
    _show(found, as_json=form == "json", dry_run=dry_run)


def _day(word: str | None) -> str | None:
    from datetime import date

    if word is None:
        return None
    try:
        return date.fromisoformat(word).isoformat()
    except ValueError as exc:
        raise click.BadParameter(f"{word!r} is no day such as 2026-11-21") from exc


def _show(found: "Repricing", *, as_json: bool, dry_run: bool) -> None:
    import msgspec

    from batcher.cli.words.reprices import (
        repricing_fields,
        repricing_rows,
        repricing_sentence,
    )

    if as_json:
        tell(msgspec.json.encode(repricing_fields(found)))
        return
    tell_table([_COLUMNS, *repricing_rows(found)])
    tell(repricing_sentence(found, dry_run=dry_run))
