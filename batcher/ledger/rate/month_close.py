"""Months whose prices are settled: later reprices leave their charges alone."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, func, select, update

from batcher.errors import Busy, UsageError
from batcher.ledger import runs
from batcher.ledger.connect import open_engine, reading, writing
from batcher.ledger.lifeboat.saving import harbour, waiting
from batcher.ledger.migrate import require_head
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.rate.days import month_window
from batcher.ledger.runs import database_uid
from batcher.ledger.schema import attempts, price_books, ratings
from batcher.ledger.schema_internal import closed_months as table
from batcher.messages.attempt import State


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRating:
    """A rating as people read of it; `created_at` is microseconds UTC.

    `reason` is initial or reprice. `run_id` and `as_of` are `None` where it took all runs, and
    each day's prices. `closes` are the months that it was the newest rating of when they were
    closed, but those reopened since.
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
        UsageError: that is no month, it is not over, it is closed, or nothing was ever rated.
        Busy: a run is on, or attempts are still under way in a batch.
    """
    _check_month(month, now_us)
    engine = open_engine(url, read_only=True)
    try:
        require_head(engine)
    finally:
        engine.dispose()
    engine = open_engine(url)
    try:
        held = hold_database(url, None, command="batcher prices close")
        with held, writing(engine) as connection:
            settle_everything(connection, now_us)
            return _close(connection, month, now_us)
    finally:
        engine.dispose()


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
    for boat in waiting(harbour(connection.engine.url, database_uid(connection))):
        raise Busy(f"{boat.words}; then this one")
    runs.recover(connection, invocation_id=0, run_id=None, now_us=now_us)
    is_open = (attempts.c.pending == 1) & (attempts.c.state == State.OPEN.value)
    count = connection.scalar(select(func.count()).select_from(attempts).where(is_open))
    if count:
        raise Busy(
            f"{count:,} requests are still under way in a batch: type the run's command again"
            " to fetch their answers, then this one"
        )


def list_ratings(engine: Engine) -> list[StoredRating]:
    """All ratings, oldest first."""
    query = (
        select(ratings, price_books.c.version)
        .join(price_books, price_books.c.price_book_id == ratings.c.price_book_id)
        .order_by(ratings.c.rating_id)
    )
    closings = select(table.c.rating_id, table.c.month).where(table.c.reopened_by.is_(None))
    with reading(engine) as connection:
        closed = connection.execute(closings.order_by(table.c.month)).all()
        found = connection.execute(query).all()
    return [
        StoredRating(
            rating_id=row.rating_id,
            created_at=row.created_at,
            reason=row.reason,
            price_book=row.version,
            run_id=row.run_id,
            as_of=row.as_of,
            closes=tuple(month for rating_id, month in closed if rating_id == row.rating_id),
        )
        for row in found
    ]


def rating_rows(found: list[StoredRating]) -> list[tuple[str, ...]]:
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
    values = {"month": month, "rating_id": newest, "closed_at": now_us}
    connection.execute(table.insert().values(values))
    return int(newest)
