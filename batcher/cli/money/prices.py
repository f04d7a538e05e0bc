"""`batcher prices`: look at price books, compare them, check them, make one's own."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from batcher.cli.commands import (
    FILE,
    GroupWithExamples,
    force_option,
    ledger,
    ledger_options,
    option,
)
from batcher.cli.say import tell, tell_table

if TYPE_CHECKING:
    from batcher.ledger.rate.ratings import StoredRating
    from batcher.pricing.book.book import PriceBook


SHIPPED = "shipped"
# Of the prices of all models, what a narrow terminal can do without.
_LEAST: Final = frozenset({"write_5m", "write_1h", "read", "search/1k", "currency", "since"})

_book_option = option(
    "--prices",
    "book_file",
    metavar="FILE",
    default=SHIPPED,
    show_default=True,
    help="A price file of your own (TOML or CSV).",
)


@click.group(
    cls=GroupWithExamples,
    examples=("batcher prices list", "batcher prices show claude-haiku-4-5"),
)
def prices() -> None:
    """List, show, compare, import and check prices."""


@prices.command("list", examples=("batcher prices list", "batcher prices list --on 2026-10-01"))
@_book_option
@option(
    "--list",
    "price_list",
    default="anthropic",
    show_default=True,
    metavar="NAME",
    help="The price list to show; each endpoint names one.",
)
@option("--on", "day", metavar="DAY", help="Prices of that UTC day, default today.")
def list_prices(book_file: str, price_list: str, day: str | None) -> None:
    """Show the prices of all models: per million tokens, and per thousand searches."""
    from batcher.pricing.book.differences import current_prices

    book = book_of(book_file)
    _require_list(book, price_list)
    tell_table(current_prices(book, price_list, _day(day)), least=_LEAST)
    _note(f"prices: {_described(book)}")


@prices.command(
    examples=(
        "batcher prices show claude-haiku-4-5",
        "batcher prices show my-model --prices prices.toml",
    )
)
@click.argument("model")
@_book_option
def show(model: str, book_file: str) -> None:
    """Show every price that MODEL ever had, with its days and its source."""
    from batcher.errors import ConfigurationError, did_you_mean
    from batcher.pricing.book.differences import all_periods

    book = book_of(book_file)
    rows = all_periods(book, model)
    if len(rows) == 1:
        raise ConfigurationError(
            f"prices: no price for model {model} in {_described(book)}; see `batcher prices "
            "list`, or give it one in a price file of your own"
            + did_you_mean(model, _models_of(book))
        )
    tell_table(rows)
    _note(f"prices: {_described(book)}")


@prices.command(
    examples=(
        "batcher prices diff shipped prices.toml",
        "batcher prices diff old.toml new.toml",
    )
)
@click.argument("book_a")
@click.argument("book_b")
def diff(book_a: str, book_b: str) -> None:
    """Show where two price files differ, and on which days.

    Each is a file, or the word "shipped". Two files that extend the shipped book are compared
    with it included.
    """
    from batcher.pricing.book.differences import compare_lists, difference_rows

    before, after = book_of(book_a), book_of(book_b)
    found = compare_lists(before.lists, after.lists)
    if found:
        tell_table(difference_rows(found))
    _note(f"prices: {len(found)} differences between {before.version} and {after.version}")


@prices.command(
    examples=("batcher prices check", "batcher prices check prices.toml --max-age 30")
)
@click.argument("file", default=SHIPPED)
@option(
    "--max-age",
    default=90,
    show_default=True,
    metavar="DAYS",
    help="Warn about a book published longer ago.",
)
def check(file: str, max_age: int) -> None:
    """Check a price file, by default the shipped book; exit 1 when something is found.

    A file is read strictly. The Anthropic list is compared with an installed genai-prices;
    differences that are known to be its gaps are counted, others are listed.
    """
    book = book_of(file)
    _warn_about_age(book, max_age)
    tell(f"{_described(book)}: {len(book.lists)} price lists, consistent")
    slips = _slips(book)
    for sentence in slips:
        tell(f"not plausible: {sentence}")
    if _compare_with_genai_prices(book) or slips:
        click.get_current_context().exit(1)


@prices.command(
    "import",
    examples=(
        "batcher prices import prices.csv -o prices.toml",
        "batcher prices import --from litellm -o prices.toml",
    ),
)
@click.argument("file", required=False)
@option(
    "--from",
    "source",
    type=click.Choice(["genai-prices", "litellm"]),
    help="Whose prices: of an installed package, or for litellm a FILE that is its price map.",
)
@option(
    "--provider",
    default="anthropic",
    show_default=True,
    help="Whose prices to take from there.",
)
@option(
    "--list",
    "price_list",
    default="anthropic",
    show_default=True,
    metavar="NAME",
    help="The price list they become, with --from.",
)
@option(
    "--round",
    "rounds",
    is_flag=True,
    help="Round rates finer than 10^-12 per token, half to even.",
)
@option(
    "--replace",
    "replaces",
    is_flag=True,
    help="Stand alone instead of extending the shipped book.",
)
@option(
    "-o",
    "--output",
    default="-",
    type=FILE,
    metavar="FILE",
    help="Where to write, default stdout.",
)
@force_option()
def import_prices(
    file: str | None,
    source: str | None,
    provider: str,
    price_list: str,
    rounds: bool,
    replaces: bool,
    output: str,
    force: bool,
) -> None:
    """Write a price file in our own format, from a TOML or CSV FILE or another collection.

    The prices of a collection go into the shipped book: what they say otherwise holds from
    today on, what they do not say stays. What that adds, changes and loses is printed.
    """
    from batcher.cli.money import importing
    from batcher.pricing.book.book import parse_book, read_layer
    from batcher.pricing.book.merge import render_layer
    from batcher.report.render.formats import deliver
    from batcher.report.words import count_of

    if source is None and file is None:
        raise click.UsageError("give a FILE, or --from genai-prices or litellm")
    if source == "genai-prices" and file is not None:
        raise click.UsageError("--from genai-prices reads an installed package, and no FILE")
    if source is None:
        layer = read_layer(Path(file or ""))
    else:
        layer = importing.collected(source, file, provider, price_list)
        layer = layer if replaces else importing.into_shipped(layer, price_list)
    chosen = importing.with_choices(layer, rounds=rounds, replaces=replaces)
    text = importing.MARK + render_layer(chosen)
    book = parse_book(text, output if file is None else file)
    kept = importing.guard(file, force=force)
    deliver(text, output, sys.stdout, kept, importing.is_ours)
    if source is not None:
        _tell_changes(book, price_list)
    blocks = count_of(len(layer.periods), "block")
    _note(f"prices: {blocks} written to {output}, version {book.version}")


@prices.command(
    examples=("batcher prices close 2026-10", "batcher prices close 2026-10 -d batcher.db")
)
@click.argument("month")
@ledger_options
def close(month: str, database: str | None, config: str | None) -> None:
    """Settle the prices of MONTH (UTC, such as 2026-10): later reprices leave it alone.

    Needs a moment when no run is on. `batcher reprice --reopen` opens it again.
    """
    from batcher.clock import SystemClock
    from batcher.config.files import database_url
    from batcher.ledger.rate.ratings import close_month

    url = database_url(database, config)
    rating_id = close_month(url, month, now_us=SystemClock().now_us())
    tell(f"{month} is closed with rating {rating_id}")


@prices.command(examples=("batcher prices ratings", "batcher prices ratings -d batcher.db"))
@ledger_options
def ratings(database: str | None, config: str | None) -> None:
    """List the ratings of a ledger: which book priced it when, and which months are closed."""
    from batcher.ledger.rate.ratings import list_ratings

    with ledger(database, config) as engine:
        tell_table(_rating_rows(list_ratings(engine)))


def _tell_changes(book: PriceBook, price_list: str) -> None:
    """What the file makes of the shipped prices: a line each, and how many."""
    from batcher.pricing.book.differences import NO_PRICE, compare_lists, difference_rows

    shipped = book_of(SHIPPED).lists
    ours = {name: each for name, each in shipped.items() if name == price_list}
    theirs = {name: each for name, each in book.lists.items() if name == price_list}
    found = compare_lists(ours, theirs)
    if found:
        tell_table(difference_rows(found), err=True)
    added = sum(each.before == NO_PRICE for each in found)
    gone = sum(each.after == NO_PRICE for each in found)
    _note(f"prices: adds {added}, changes {len(found) - added - gone}, loses {gone}")


def book_of(file: str) -> PriceBook:
    """The shipped book for the word "shipped", else the file's."""
    from batcher.pricing.book.book import load_file, load_shipped

    return load_shipped() if file == SHIPPED else load_file(file)


def _require_list(book: PriceBook, price_list: str) -> None:
    from batcher.errors import ConfigurationError

    if price_list not in book.lists:
        known = ", ".join(sorted(book.lists))
        raise ConfigurationError(f"prices: no price list {price_list}; there are {known}")


def _day(text: str | None) -> date:
    from batcher.clock import SystemClock
    from batcher.pricing.rate.rates import utc_day

    if text is None:
        return utc_day(SystemClock().now_us())
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is no day such as 2026-11-21") from exc


def _described(book: PriceBook) -> str:
    return f"book {book.version} (sha256 {book.sha256[:12]})"


def _warn_about_age(book: PriceBook, max_age: int) -> None:
    from batcher.clock import SystemClock

    age = book.age_days(SystemClock().now_us())
    if age is None:
        _note("warning: the book does not say when it was published")
    elif age > max_age:
        _note(
            f"warning: the book was published {age} days ago, on {book.published}; look for "
            "newer prices"
        )


def _slips(book: PriceBook) -> tuple[str, ...]:
    from batcher.pricing.book.differences import implausible

    return implausible(book, book_of(SHIPPED), _day(None))


def _compare_with_genai_prices(book: PriceBook) -> bool:
    """Print the differences that have no known reason; whether there are any."""
    from batcher.pricing.book.differences import difference_rows
    from batcher.pricing.book.genai import PRICE_LIST, genai_differences, installed_version

    version = installed_version()
    if version is None or PRICE_LIST not in book.lists:
        _note("genai-prices: not compared, it is not installed or there is no anthropic list")
        return False
    found = genai_differences(book)
    unknown = [difference for difference, reason in found if reason is None]
    if unknown:
        tell_table(difference_rows(unknown))
    known = len(found) - len(unknown)
    tell(f"genai-prices {version}: {known} known differences, {len(unknown)} new ones")
    return bool(unknown)


def _note(text: str) -> None:
    tell(text, err=True)


def _rating_rows(found: list[StoredRating]) -> list[tuple[str, ...]]:
    """Cells to print, with a title."""
    title = ("Rating", "Made", "Reason", "Prices", "Of", "Run", "Closed months")
    return [title, *map(_rating_row, found)]


def _rating_row(rating: StoredRating) -> tuple[str, ...]:
    return (
        str(rating.rating_id),
        f"{datetime.fromtimestamp(rating.created_at // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}",
        rating.reason,
        rating.price_book,
        rating.as_of or "each day",
        "all" if rating.run_id is None else str(rating.run_id),
        ", ".join(rating.closes) or "-",
    )


def _models_of(book: PriceBook) -> set[str]:
    return {model for prices in book.lists.values() for model in prices.models()}
