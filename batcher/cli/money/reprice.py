"""`batcher reprice`: the same answers at other prices, as a further rating."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.commands import command, format_options, ledger_options, number, option
from batcher.cli.say import tell, tell_table
from batcher.pricing.money import format_currency, usd_text

if TYPE_CHECKING:
    from batcher.ledger.rate.ratings import RepricedModel, Repricing


_COLUMNS = ("Model", "Answers", "Old", "New", "Difference")
_TOTAL = "Total"


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

    if as_json:
        tell(msgspec.json.encode(repricing_fields(found)))
        return
    tell_table([_COLUMNS, *repricing_rows(found)])
    tell(repricing_sentence(found, dry_run=dry_run))


def repricing_rows(found: "Repricing") -> list[tuple[str, ...]]:
    """Cells of model, answers, old, new and difference; a line per currency, then the total."""
    lines = [*found.differences.items(), (_TOTAL, _total(found))]
    return [row for model, difference in lines for row in _rows(model, difference)]


def repricing_sentence(found: "Repricing", *, dry_run: bool) -> str:
    """What was done, or would be."""
    closed = ""
    if found.left_out:
        closed = f" Closed months were left alone: {', '.join(found.left_out)}."
    answers = f"{found.changed:,} of {found.answers:,} answers"
    if not found.answers:
        return f"There is no answer to price.{closed}"
    if not found.changed:
        return f"Nothing changes: every charge is of this book already.{closed}"
    if dry_run:
        return f"Nothing was written: {answers} would get other charges.{closed}"
    return (
        f"Rating {found.rating_id} was added: {answers} got other charges."
        f" batcher prices ratings lists those before it.{closed}"
    )


def repricing_fields(found: "Repricing") -> dict[str, Any]:
    """The same as JSON: amounts as decimal text by currency."""
    return {
        "schema": 1,
        "rating": found.rating_id,
        "answers": found.answers,
        "changed": found.changed,
        "closed_months_left_out": list(found.left_out),
        "models": {model: _fields(each) for model, each in found.differences.items()},
        "total": _fields(_total(found)),
    }


def _fields(difference: "RepricedModel") -> dict[str, Any]:
    return {
        "answers": difference.answers,
        "old": {name: usd_text(amount) for name, amount in sorted(difference.old.items())},
        "new": {name: usd_text(amount) for name, amount in sorted(difference.new.items())},
        "old_unpriced": difference.old_unpriced,
        "new_unpriced": difference.new_unpriced,
        "no_longer_priced": {
            name: usd_text(amount) for name, amount in sorted(difference.no_longer.items())
        },
    }


def _rows(model: str, difference: "RepricedModel") -> Iterator[tuple[str, ...]]:
    currencies = sorted(difference.old.keys() | difference.new.keys())
    for currency in currencies:
        old, new = difference.old.get(currency, 0), difference.new.get(currency, 0)
        amounts = (format_currency(each, currency) for each in (old, new, new - old))
        yield model, f"{difference.answers:,}", *amounts
    if difference.old_unpriced or difference.new_unpriced:
        old, new = difference.old_unpriced, difference.new_unpriced
        yield (
            model,
            f"{difference.answers:,}",
            f"{old:,} unpriced",
            f"{new:,} unpriced",
            f"{new - old:+,} unpriced",
        )
    for currency, amount in sorted(difference.no_longer.items()):
        was = format_currency(amount, currency)
        yield model, f"{difference.answers:,}", was, "without a price", "no saving"


def _total(found: "Repricing") -> "RepricedModel":
    from batcher.ledger.rate.ratings import RepricedModel

    total = RepricedModel()
    for each in found.differences.values():
        total.answers += each.answers
        total.old_unpriced += each.old_unpriced
        total.new_unpriced += each.new_unpriced
        for sums, amounts in (
            (total.old, each.old),
            (total.new, each.new),
            (total.no_longer, each.no_longer),
        ):
            for currency, amount in amounts.items():
                sums[currency] = sums.get(currency, 0) + amount
    return total
