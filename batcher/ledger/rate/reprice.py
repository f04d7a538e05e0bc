"""Prices the ledger anew: a further rating beside the old ones, never in their place.

A reprice is one transaction while no run is on. Before it writes, it reads everything and
compares, so that nothing is written when no charge would change.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sqlalchemy import Engine, select

from batcher.errors import StorageError, UsageError
from batcher.ledger.connect import Connection, open_engine, reading, writing
from batcher.ledger.migrate import require_head
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.rate.days import moment_of_day, month_window
from batcher.ledger.rate.month_close import (
    closed_months,
    reopen_months,
    settle_everything,
)
from batcher.ledger.rate.stored_answers import (
    Pricing,
    StoredAnswer,
    StoredCharge,
    answers_with_charges,
    equals,
    rate_usage,
    read_rate_sets,
    repricing_lists,
    usage_of,
)
from batcher.ledger.rate.write_rating import NewRating
from batcher.ledger.schema import invocations, price_books
from batcher.messages.attempt import State
from batcher.pricing.book.book import PriceBook
from batcher.pricing.rate.rating import Charge, RateSet

_PAID: Final = frozenset({State.ANSWERED.value, State.LATE.value})

Transaction = Callable[[], AbstractContextManager[Connection]]
_Rerated = tuple[StoredAnswer, list[StoredCharge], tuple[Charge, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to reprice: with which book, at the prices of which day, which run.

    `as_of` is an ISO day, `None`: each answer's own day. `run_id` `None`: all runs. `reopens`
    takes closed months in as well.
    """

    book: PriceBook
    as_of: str | None = None
    run_id: int | None = None
    reopens: bool = False


@dataclass(slots=True)
class Difference:
    """What changes for one model: pico-units by currency, and answers without a price."""

    answers: int = 0
    old: dict[str, int] = field(default_factory=dict)
    new: dict[str, int] = field(default_factory=dict)
    old_unpriced: int = 0
    new_unpriced: int = 0


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
    differences: dict[str, Difference]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A wish, looked up in a ledger."""

    pricing: Pricing
    rate_sets: dict[int, tuple[int, RateSet]]
    invocations: frozenset[int]
    closed: tuple[tuple[int, int], ...]
    left_out: tuple[str, ...]


def reprice(url: str, wish: Wish, *, now_us: int) -> Repricing:
    """Add a rating with the charges of `wish`, unless no charge would change.

    Raises:
        Busy: a run is on, or attempts are still under way in a batch.
        UsageError: there is no such run.
    """
    with _engine(url, read_only=True) as engine:
        require_head(engine)  # before anything is locked or changed
    held = hold_database(url, None, command="batcher reprice")
    with held, _engine(url) as engine:
        with writing(engine) as connection:
            settle_everything(connection, now_us)
        found = _compare(partial(reading, engine), wish)
        if not found.changed:
            return found
        with writing(engine) as connection:
            rating_id = _write(connection, wish, now_us)
    return Repricing(
        rating_id=rating_id,
        answers=found.answers,
        changed=found.changed,
        differences=found.differences,
        left_out=found.left_out,
    )


def compare(url: str, wish: Wish) -> Repricing:
    """What `reprice` would do; reads only, also while a run is on."""
    with _engine(url, read_only=True) as engine:
        require_head(engine)
        return _compare(partial(reading, engine), wish)


@contextmanager
def _engine(url: str, *, read_only: bool = False) -> Iterator[Engine]:
    engine = open_engine(url, read_only=read_only)
    try:
        yield engine
    finally:
        engine.dispose()


def _compare(transaction: Transaction, wish: Wish) -> Repricing:
    with transaction() as connection:
        book_id = connection.scalar(
            select(price_books.c.price_book_id).where(price_books.c.sha256 == wish.book.sha256)
        )
        plan = _plan(connection, wish, book_id)
    answers = changed = 0
    differences: dict[str, Difference] = {}
    for stored, charged, wanted in _repriced(transaction, plan):
        answers += 1
        current = [charge for charge in charged if charge.current]
        changed += not _are_equal(current, wanted, plan)
        model = stored.model or stored.requested_model
        _add(differences.setdefault(model, Difference()), current, wanted)
    return Repricing(
        rating_id=None,
        answers=answers,
        changed=changed,
        differences={model: differences[model] for model in sorted(differences)},
        left_out=plan.left_out,
    )


def _plan(connection: Connection, wish: Wish, book_id: int | None) -> _Plan:
    chosen = select(invocations.c.invocation_id)
    if wish.run_id is not None:
        chosen = chosen.where(invocations.c.run_id == wish.run_id)
    mine = frozenset(connection.execute(chosen).scalars())
    if wish.run_id is not None and not mine:
        raise UsageError(f"there is no run {wish.run_id} here: batcher status lists all runs")
    months = () if wish.reopens else closed_months(connection)
    return _Plan(
        pricing=Pricing(
            price_book_id=0 if book_id is None else book_id,
            book=wish.book,
            as_of_us=None if wish.as_of is None else moment_of_day(wish.as_of),
            price_lists=repricing_lists(connection, wish.book),
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


def _is_meant(stored: StoredAnswer, plan: _Plan) -> bool:
    return (
        stored.state in _PAID
        and stored.invocation_id in plan.invocations
        and not any(since <= stored.sent_at < until for since, until in plan.closed)
    )


def _rated(stored: StoredAnswer, pricing: Pricing) -> tuple[Charge, ...]:
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
    difference: Difference, current: list[StoredCharge], wanted: tuple[Charge, ...]
) -> None:
    difference.answers += 1
    for charge in current:
        if charge.total is not None and charge.currency is not None:
            _add_amount(difference.old, charge.currency, charge.total)
    for each in wanted:
        if each.total is not None and each.rates is not None:
            _add_amount(difference.new, each.rates.currency, each.total)
    difference.old_unpriced += not current or any(each.total is None for each in current)
    difference.new_unpriced += any(each.total is None for each in wanted)


def _add_amount(amounts: dict[str, int], currency: str, amount: int) -> None:
    amounts[currency] = amounts.get(currency, 0) + amount


def _write(connection: Connection, wish: Wish, now_us: int) -> int:
    rating = NewRating(
        connection, wish.book, as_of=wish.as_of, run_id=wish.run_id, now_us=now_us
    )
    plan = _plan(connection, wish, rating.price_book_id)
    for stored, _, wanted in _repriced(lambda: nullcontext(connection), plan):
        rating.add(stored, wanted)
    rating.finish(mine=plan.invocations, closed=plan.closed)
    if wish.reopens:
        reopen_months(connection, rating.rating_id)
    return rating.rating_id
