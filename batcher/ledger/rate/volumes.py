"""What months cost, for discounts that depend on it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date
from typing import Final

from sqlalchemy import Connection, select

from batcher.errors import UsageError
from batcher.ledger.rate.stored_answers import (
    BillableAnswer,
    Pricing,
    answers_with_charges,
    rate_usage,
    repricing_lists,
    usage_of,
)
from batcher.ledger.schema import QUARTER_HOUR_US, invocations, price_books, ratings, rollups
from batcher.messages.request import State
from batcher.pricing.book.book import PriceBook
from batcher.pricing.book.volume import settled, tiers_of
from batcher.pricing.money import METERS
from batcher.pricing.rate.days import month_window, utc_day

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
