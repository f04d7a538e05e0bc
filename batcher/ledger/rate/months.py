"""Months: closed ones, and what they cost, for discounts by volume.

An answer's price must not depend on what else was answered by then: it would be another one
after a crash, on another worker, or when it is recomputed. So a book with tiers prices without
them; when a month is over, a book is made of it that has the tier's factor for that month.
"""

from calendar import monthrange
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Final

from msgspec.structs import replace as struct_replace
from sqlalchemy import Connection, func, select, update

from batcher.errors import Busy, UsageError
from batcher.ledger.lifeboat.lifeboat import places_for
from batcher.ledger.rate.stored_answers import (
    BillableAnswer,
    Pricing,
    answers_with_charges,
    rate_usage,
    repricing_lists,
    usage_of,
)
from batcher.ledger.runs import database_uid, recover
from batcher.ledger.schema import (
    QUARTER_HOUR_US,
    attempts,
    invocations,
    price_books,
    ratings,
    rollups,
)
from batcher.ledger.schema_internal import closed_months as table
from batcher.messages.request import State
from batcher.pricing.book.book import SEPARATOR, PriceBook, parse_book
from batcher.pricing.book.layer import Discount, Layer, VolumeTier, parse_toml
from batcher.pricing.book.merge import render_layer
from batcher.pricing.money import METERS, PICO, decimal_text
from batcher.pricing.rate.rates import month_window, utc_day


def closed_months(connection: Connection) -> tuple[str, ...]:
    """The months that are closed now, in order."""
    query = select(table.c.month).where(table.c.reopened_by.is_(None)).order_by(table.c.month)
    return tuple(connection.execute(query).scalars())


def reopen_months(connection: Connection, rating_id: int) -> None:
    """All closed months are open again, because this rating touched them."""
    statement = update(table).where(table.c.reopened_by.is_(None))
    connection.execute(statement.values(reopened_by=rating_id))


def settle_everything(connection: Connection, now_us: int) -> None:
    """Make sure that nothing in the ledger changes any more; the caller holds all of it.

    Attempts of dead processes are settled as in doubt. Raises `Busy` when attempts are open all
    the same, because a batch is still under way, and while a lifeboat holds some of them.
    """
    for boat in places_for(connection.engine.url, database_uid(connection)).waiting(connection):
        raise Busy(f"{boat.words}; then this one")
    recover(connection, invocation_id=0, run_id=None, now_us=now_us)
    is_open = (attempts.c.pending == 1) & (attempts.c.state == State.OPEN.value)
    count = connection.scalar(select(func.count()).select_from(attempts).where(is_open))
    if count:
        raise Busy(
            f"{count:,} requests are still under way in a batch: type the run's command again"
            " to fetch their answers, then this one"
        )


PAID: Final = frozenset({State.ANSWERED.value, State.LATE.value})

_Transaction = Callable[[], AbstractContextManager[Connection]]


def with_volumes(transaction: _Transaction, book: PriceBook, now_us: int) -> PriceBook:
    """The book with the tiers that the months before that of `now_us` reached in this ledger.

    All runs count, also those that are not repriced, and closed months; simulated ones where
    there are no others. A book without tiers is given back as it is.
    """
    if not tiers_of(book.content):
        return book
    with transaction() as connection:
        lists = repricing_lists(connection, book)
        real = select(invocations.c.invocation_id).where(invocations.c.simulated == 0)
        counted = set(connection.scalars(real)) or set(lists)
    pricing = Pricing(price_book_id=0, book=book, as_of_us=None, price_lists=lists)
    spent: dict[tuple[str, date], list[int]] = {}
    for stored in _paid(transaction, counted):
        day = utc_day(stored.sent_at)
        for charge in rate_usage(stored, usage_of(stored), pricing):
            if charge.rates is not None and charge.total is not None:
                sums = spent.setdefault((charge.rates.price_list, day), [0] * len(METERS))
                for meter, amount in enumerate(charge.amounts):
                    sums[meter] += amount or 0
    return settled(book, spent, utc_day(now_us))


def _paid(transaction: _Transaction, counted: set[int]) -> Iterator[BillableAnswer]:
    for chunk in answers_with_charges(transaction):
        for stored, _ in chunk:
            if stored and stored.state in PAID and stored.invocation_id in counted:
                yield stored


def require_settled(connection: Connection, month: str) -> None:
    """Raises `UsageError` where charges of the month are without the tier that it reached."""
    since, until = month_window(month)
    used = (
        select(ratings.c.price_book_id)
        .join(rollups, rollups.c.rating_id == ratings.c.rating_id)
        .where(
            rollups.c.superseded_by.is_(None),
            rollups.c.quarter >= since // QUARTER_HOUR_US,
            rollups.c.quarter < until // QUARTER_HOUR_US,
        )
    )
    books = select(price_books.c.content).where(price_books.c.price_book_id.in_(used))
    first, last = utc_day(since), utc_day(until - 1)
    for content in connection.scalars(books):
        for each in tiers_of(content):
            if each.valid_from <= last and first <= (each.valid_until or last):
                raise UsageError(
                    f"the month {month} has a discount by volume that is not applied yet: type"
                    " batcher reprice --book FILE with its price file first, then close it"
                )


# The book itself: which tier a month reached, told as a plain discount of that month.

# Pico-units in the order of `METERS`, by price list and UTC day of sending.
Spent = Mapping[tuple[str, date], Sequence[int]]


def tiers_of(content: str) -> tuple[Discount, ...]:
    """The discounts by volume of a book's text that no month is settled of."""
    upper = content.partition(SEPARATOR)[0]
    if "tiers" not in upper:
        return ()
    return tuple(each for each in parse_toml(upper, "price book").discounts if each.tiers)


def settled(book: PriceBook, spent: Spent, today: date) -> PriceBook:
    """The book with the factor that each month before that of `today` reached.

    `spent` is what all months cost without the tiers, which stay for the months that come. A
    book that this changes nothing of is given back.
    """
    if not tiers_of(book.content):
        return book
    upper, separator, lower = book.content.partition(SEPARATOR)
    layer = parse_toml(upper, book.version)
    this_month = today.replace(day=1)
    plain = tuple(
        each for given in layer.discounts for each in _plain(given, spent, this_month)
    )
    if plain == layer.discounts:
        return book  # no month of it is over
    text = render_layer(_named(replace(layer, discounts=plain), this_month))
    return parse_book(f"{text}{separator}{lower}", book.version)


def _named(layer: Layer, this_month: date) -> Layer:
    return replace(layer, version=f"{layer.version} (volume before {this_month:%Y-%m})")


def _plain(given: Discount, spent: Spent, this_month: date) -> list[Discount]:
    """One for each month that is over and reached a tier, and the tiers for what comes."""
    if not given.tiers:
        return [given]
    mine = {day.replace(day=1) for name, day in spent if name == given.price_list}
    over = sorted(first for first in mine if first < this_month)
    found = [_of_month(given, first, spent) for first in over]
    if given.valid_until is None or given.valid_until >= this_month:
        begin = max(given.valid_from, this_month)
        found.append(struct_replace(given, valid_from=begin))
    return [each for each in found if each is not None]


def _of_month(given: Discount, first: date, spent: Spent) -> Discount | None:
    """The discount of the month that begins on `first`; `None`: it reached no tier."""
    last = first.replace(day=monthrange(first.year, first.month)[1])
    begin, end = max(first, given.valid_from), min(last, given.valid_until or last)
    meters = [METERS.index(name) for name in given.meters]
    volume = sum(
        amounts[meter]
        for (name, day), amounts in spent.items()
        if name == given.price_list and begin <= day <= end
        for meter in meters
    )
    reached = [tier for tier in given.tiers if volume > tier.above * PICO]
    if not reached or begin > end:
        return None
    cost = decimal_text(Fraction(volume, PICO))
    above = decimal_text(reached[-1].above)
    factor = _of_parts(volume, reached) if given.marginal else reached[-1].factor
    return struct_replace(
        given,
        factor=factor,
        tiers=(),
        marginal=False,
        valid_from=begin,
        valid_until=end,
        note=f"{first:%Y-%m} cost {cost} before it, which is above {above}",
    )


def _of_parts(volume: int, reached: Sequence[VolumeTier]) -> Fraction:
    """The one factor of a month whose tiers are each for the part above it, to 12 digits."""
    ends = [*(tier.above * PICO for tier in reached[1:]), Fraction(volume)]
    parts = [
        (end - tier.above * PICO) * (1 - tier.factor)
        for tier, end in zip(reached, ends, strict=True)
    ]
    saved = sum(parts, Fraction())
    return Fraction(round((1 - saved / volume) * PICO), PICO)
