"""Ratings: pricing the ledger anew, closing months, and which book priced what.

A reprice adds a rating beside the old ones, never in their place. It is one transaction while
no run is on. Before it writes, it reads everything and compares, so that nothing is written
when no charge would change. It leaves closed months alone.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from batcher.errors import StorageError, UsageError
from batcher.ledger.connect import engine_at, reading, writing
from batcher.ledger.migrate import require_head
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.rate.months import (
    PAID,
    closed_months,
    reopen_months,
    require_settled,
    settle_everything,
    with_volumes,
)
from batcher.ledger.rate.stored_answers import (
    BillableAnswer,
    Pricing,
    StoredCharge,
    answers_with_charges,
    equals,
    rate_usage,
    read_rate_sets,
    repricing_lists,
    usage_of,
)
from batcher.ledger.rate.write_rating import NewRating
from batcher.ledger.schema import QUARTER_HOUR_US, invocations, price_books, ratings, rollups
from batcher.ledger.schema_internal import closed_months as table
from batcher.pricing.book.book import PriceBook, published
from batcher.pricing.rate.rates import RateSet, moment_of_day, month_window
from batcher.pricing.rate.rating import Charge

Transaction = Callable[[], AbstractContextManager[Connection]]
_Rerated = tuple[BillableAnswer, list[StoredCharge], tuple[Charge, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepriceOptions:
    """What to reprice: with which book, at the prices of which day, which run.

    `as_of` is an ISO day, `None`: each answer's own day. `run_id` `None`: all runs. `reopens`
    takes closed months in as well.
    """

    book: PriceBook
    as_of: str | None = None
    run_id: int | None = None
    reopens: bool = False


@dataclass(slots=True)
class RepricedModel:
    """What changes for one model: pico-units by currency, and answers without a price.

    `no_longer` is what those cost that had a price and lose it: in neither `old` nor `new`.
    """

    answers: int = 0
    old: dict[str, int] = field(default_factory=dict)
    new: dict[str, int] = field(default_factory=dict)
    old_unpriced: int = 0
    new_unpriced: int = 0
    no_longer: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repricing:
    """What a reprice did, or would do.

    `rating_id` is `None` when nothing was written: asked only, or `changed` is 0. `changed`
    counts answers with a different charge: another amount, or rates of another book.
    `differences` are by served model, sorted. `left_out` are closed months, not touched.
    """

    rating_id: int | None
    answers: int
    changed: int
    differences: dict[str, RepricedModel]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Options of a reprice, looked up in a ledger."""

    pricing: Pricing
    rate_sets: dict[int, tuple[int, RateSet]]
    invocations: frozenset[int]
    closed: tuple[tuple[int, int], ...]
    left_out: tuple[str, ...]


def reprice(url: str, options: RepriceOptions, *, now_us: int) -> Repricing:
    """Add a rating with the charges of `options`, unless no charge would change.

    Raises:
        Busy: a run is on, or attempts are still under way in a batch.
        UsageError: there is no such run.
    """
    with engine_at(url, read_only=True) as engine:
        require_head(engine)  # before anything is locked or changed
    held = hold_database(url, None, command="batcher reprice")
    with held as ownership, engine_at(url) as engine:
        with writing(engine) as connection:
            ownership.fence(connection)
            settle_everything(connection, now_us)
        options = _settled(engine, options, now_us)
        found = _compare(partial(reading, engine), options)
        if not found.changed:
            return found
        with writing(engine) as connection:
            ownership.fence(connection)
            rating_id = _write(connection, options, now_us)
    return Repricing(
        rating_id=rating_id,
        answers=found.answers,
        changed=found.changed,
        differences=found.differences,
        left_out=found.left_out,
    )


def compare(url: str, options: RepriceOptions, *, now_us: int) -> Repricing:
    """What `reprice` would do; reads only, also while a run is on."""
    with engine_at(url, read_only=True) as engine:
        require_head(engine)
        return _compare(partial(reading, engine), _settled(engine, options, now_us))


def _settled(engine: Engine, options: RepriceOptions, now_us: int) -> RepriceOptions:
    book = with_volumes(partial(reading, engine), options.book, now_us)
    return replace(options, book=book)


def _compare(transaction: Transaction, options: RepriceOptions) -> Repricing:
    with transaction() as connection:
        book_id = connection.scalar(
            select(price_books.c.price_book_id).where(
                price_books.c.sha256 == options.book.sha256
            )
        )
        plan = _plan(connection, options, book_id)
    answers = changed = 0
    differences: dict[str, RepricedModel] = {}
    for stored, charged, wanted in _repriced(transaction, plan):
        answers += 1
        current = [charge for charge in charged if charge.current]
        changed += not _are_equal(current, wanted, plan)
        model = stored.model or stored.requested_model
        _add(differences.setdefault(model, RepricedModel()), current, wanted)
    return Repricing(
        rating_id=None,
        answers=answers,
        changed=changed,
        differences={model: differences[model] for model in sorted(differences)},
        left_out=plan.left_out,
    )


def _plan(connection: Connection, options: RepriceOptions, book_id: int | None) -> _Plan:
    chosen = select(invocations.c.invocation_id)
    if options.run_id is not None:
        chosen = chosen.where(invocations.c.run_id == options.run_id)
    mine = frozenset(connection.execute(chosen).scalars())
    if options.run_id is not None and not mine:
        raise UsageError(
            f"there is no run {options.run_id} here: batcher status lists all runs"
        )
    months = () if options.reopens else closed_months(connection)
    return _Plan(
        pricing=Pricing(
            price_book_id=0 if book_id is None else book_id,
            book=options.book,
            as_of_us=None if options.as_of is None else moment_of_day(options.as_of),
            price_lists=repricing_lists(connection, options.book),
        ),
        rate_sets=read_rate_sets(connection),
        invocations=mine,
        closed=tuple(map(month_window, months)),
        left_out=months,
    )


def _repriced(transaction: Transaction, plan: _Plan) -> Iterator[_Rerated]:
    """Every answer of the plan with its charges, and those that it gets."""
    for chunk in answers_with_charges(transaction):
        for stored, charged in chunk:
            if stored is not None and _is_meant(stored, plan):
                yield stored, charged, _rated(stored, plan.pricing)


def _is_meant(stored: BillableAnswer, plan: _Plan) -> bool:
    return (
        stored.state in PAID
        and stored.invocation_id in plan.invocations
        and not any(since <= stored.sent_at < until for since, until in plan.closed)
    )


def _rated(stored: BillableAnswer, pricing: Pricing) -> tuple[Charge, ...]:
    try:
        return rate_usage(stored, usage_of(stored), pricing)
    except ValueError as error:
        raise StorageError(
            f"the usage of answer {stored.attempt_id} cannot be read ({error}): batcher verify"
            " lists what else is wrong"
        ) from error


def _are_equal(current: list[StoredCharge], wanted: tuple[Charge, ...], plan: _Plan) -> bool:
    return len(current) == len(wanted) and all(
        equals(charge, each, plan.pricing.price_book_id, plan.rate_sets)
        for charge, each in zip(current, wanted, strict=True)
    )


def _add(
    difference: RepricedModel, current: list[StoredCharge], wanted: tuple[Charge, ...]
) -> None:
    was_bare = not current or any(each.total is None for each in current)
    is_bare = any(each.total is None for each in wanted)
    difference.answers += 1
    difference.old_unpriced += was_bare
    difference.new_unpriced += is_bare
    loses = is_bare and not was_bare
    for charge in current:
        if charge.total is not None and charge.currency is not None:
            amounts = difference.no_longer if loses else difference.old
            _add_amount(amounts, charge.currency, charge.total)
    for each in () if loses else wanted:
        if each.total is not None and each.rates is not None:
            _add_amount(difference.new, each.rates.currency, each.total)


def _add_amount(amounts: dict[str, int], currency: str, amount: int) -> None:
    amounts[currency] = amounts.get(currency, 0) + amount


def _write(connection: Connection, options: RepriceOptions, now_us: int) -> int:
    rating = NewRating(
        connection, options.book, as_of=options.as_of, run_id=options.run_id, now_us=now_us
    )
    plan = _plan(connection, options, rating.price_book_id)
    for stored, _, wanted in _repriced(lambda: nullcontext(connection), plan):
        rating.add(stored, wanted)
    rating.finish(mine=plan.invocations, closed=plan.closed)
    if options.reopens:
        reopen_months(connection, rating.rating_id)
    return rating.rating_id


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRating:
    """A rating as people read of it; `created_at` is microseconds UTC.

    `reason` is initial or reprice. `run_id` and `as_of` are `None` where it took all runs, and
    each day's prices. `closes` are the months that it was the newest rating of when they were
    closed; one that was reopened since says by which rating.
    """

    rating_id: int
    created_at: int
    reason: str
    price_book: str
    run_id: int | None
    as_of: str | None
    closes: tuple[str, ...]


def close_month(url: str, month: str, *, now_us: int) -> int:
    """Close a month such as `2026-10` (UTC); the newest rating, which it is settled with.

    Raises:
        UsageError: that is no month, it is not over, it is closed, nothing was ever rated, or
            a discount by its volume is not applied yet.
        Busy: a run is on, or attempts are still under way in a batch.
    """
    _check_month(month, now_us)
    with engine_at(url, read_only=True) as engine:
        require_head(engine)
    held = hold_database(url, None, command="batcher prices close")
    with held as ownership, engine_at(url) as engine, writing(engine) as connection:
        ownership.fence(connection)
        settle_everything(connection, now_us)
        return _close(connection, month, now_us)


def list_ratings(engine: Engine) -> list[StoredRating]:
    """All ratings, oldest first."""
    query = (
        select(ratings, price_books.c.version)
        .join(price_books, price_books.c.price_book_id == ratings.c.price_book_id)
        .order_by(ratings.c.rating_id)
    )
    history = select(table).order_by(table.c.month, table.c.reopened_by)
    with reading(engine) as connection:
        months = connection.execute(history).all()
        found = connection.execute(query).all()
    return [
        StoredRating(
            rating_id=row.rating_id,
            created_at=row.created_at,
            reason=row.reason,
            price_book=row.version,
            run_id=row.run_id,
            as_of=row.as_of,
            closes=tuple(_closing(each) for each in months if each.rating_id == row.rating_id),
        )
        for row in found
    ]


def _closing(row: Any) -> str:  # noqa: ANN401 - a record
    again = "" if row.reopened_by is None else f" (reopened by {row.reopened_by})"
    return f"{row.month}{again}"


def _check_month(month: str, now_us: int) -> None:
    try:
        _, until = month_window(month)
    except ValueError as error:
        raise UsageError(f"{month!r:.20} is no month: write it like 2026-10") from error
    if now_us < until:
        raise UsageError(f"the month {month} (UTC) is not over yet: close it when it is")


def _close(connection: Connection, month: str, now_us: int) -> int:
    if month in closed_months(connection):
        raise UsageError(
            f"the month {month} is closed already; batcher prices ratings says by which rating"
        )
    newest = connection.scalar(select(func.max(ratings.c.rating_id)))
    if newest is None:
        raise UsageError("nothing was ever rated here, so there is no month to close")
    require_settled(connection, month)
    values = {"month": month, "rating_id": newest, "closed_at": now_us}
    connection.execute(table.insert().values(values))
    return int(newest)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookInUse:
    """A book that makes current charges; `age_days` is its age at the newest answer of them."""

    version: str
    published: date
    age_days: int


def books_in_use(connection: Connection) -> list[BookInUse]:
    """Every book that makes current charges and says when it was published, by version."""
    newest = (
        select(ratings.c.price_book_id, func.max(rollups.c.quarter))
        .join(ratings, ratings.c.rating_id == rollups.c.rating_id)
        .where(rollups.c.superseded_by.is_(None))
        .group_by(ratings.c.price_book_id)
    )
    found = []
    for book_id, quarter in connection.execute(newest).all():
        book = connection.execute(
            select(price_books.c.version, price_books.c.content).where(
                price_books.c.price_book_id == book_id
            )
        ).one()
        day = published(book.content)
        if day is not None:
            used = datetime.fromtimestamp(quarter * QUARTER_HOUR_US // 1_000_000, UTC).date()
            age = (used - day).days
            found.append(BookInUse(version=book.version, published=day, age_days=age))
    return sorted(found, key=lambda each: (each.version, each.published))
