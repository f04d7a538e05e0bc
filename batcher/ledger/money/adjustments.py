"""What reconciliations left over, beside the charges: entries are added, never changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, func, select

from batcher.errors import Busy, UsageError
from batcher.ledger.connect import writing
from batcher.ledger.schema import ratings
from batcher.ledger.schema_internal import adjustments, reconciliations


@dataclass(frozen=True, slots=True)
class Place:
    """Where an adjustment belongs: a UTC day (ISO), and what was told apart; `None`: all."""

    day: str
    model: str | None
    tier: str | None
    geography: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class Residual:
    """What the provider billed beyond our charges, pico-USD, and why as far as it is known."""

    place: Place
    amount: int
    cause: str


@dataclass(frozen=True, slots=True)
class Author:
    """Who records something, and when (microseconds UTC)."""

    name: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """One time that the charges of `days` were held against `files` (name and sha256)."""

    author: Author
    endpoint: str
    simulated: bool
    days: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    after_rating: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """One entry. `undoes` is the entry that it takes back, `None` for all others.

    `after_rating` is the newest rating there was when it was recorded.
    """

    adjustment_id: int
    residual: Residual
    author: Author
    endpoint: str
    simulated: bool
    files: tuple[tuple[str, str], ...]
    after_rating: int
    undoes: int | None

    @property
    def amount(self) -> int:
        """Pico-USD; negative where less was billed than charged."""
        return self.residual.amount


def read_adjustments(connection: Connection) -> tuple[Adjustment, ...]:
    """All entries, in the order of recording."""
    of = adjustments.c.reconciliation_id == reconciliations.c.reconciliation_id
    about = (reconciliations.c[name] for name in ("endpoint", "simulated", "files"))
    statement = (
        select(adjustments, *about)
        .join(reconciliations, of)
        .order_by(adjustments.c.adjustment_id)
    )
    return tuple(map(_adjustment, connection.execute(statement)))


def read_reconciliations(connection: Connection) -> tuple[Reconciliation, ...]:
    """All that were recorded, in that order."""
    statement = select(reconciliations).order_by(reconciliations.c.reconciliation_id)
    return tuple(
        Reconciliation(
            author=Author(row.recorded_by, row.recorded_at),
            endpoint=row.endpoint,
            simulated=bool(row.simulated),
            days=tuple(msgspec.json.decode(row.days)),
            files=_files(row.files),
            after_rating=row.after_rating,
        )
        for row in connection.execute(statement)
    )


def effective(entries: Iterable[Adjustment]) -> tuple[Adjustment, ...]:
    """The entries that stand: neither taken back nor taking back. The sums are the same."""
    entries = tuple(entries)
    undone = {each.undoes for each in entries}
    return tuple(
        each for each in entries if each.undoes is None and each.adjustment_id not in undone
    )


def record(
    engine: Engine, found: Reconciliation, residuals: Sequence[Residual], *, newest: int
) -> tuple[int, ...]:
    """Add a reconciliation and its residuals; their numbers.

    `newest` is the newest entry that they take into account, 0 for none. Raises `Busy` when
    there is a newer one by now: then they would count twice.
    """
    with writing(engine) as connection:
        _wait_for_turn(connection)
        if newest_entry(connection) != newest:
            raise Busy("adjustments were recorded meanwhile: type the same command again")
        rating = _newest_rating(connection)
        values = {
            "recorded_at": found.author.at,
            "recorded_by": found.author.name,
            "endpoint": found.endpoint,
            "simulated": int(found.simulated),
            "days": msgspec.json.encode(found.days).decode(),
            "files": msgspec.json.encode(
                [{"name": n, "sha256": h} for n, h in found.files]
            ).decode(),
            "after_rating": rating,
        }
        insert = reconciliations.insert().values(values)
        number = connection.execute(insert.returning(reconciliations.c.reconciliation_id))
        reconciliation_id = number.scalar_one()
        return tuple(
            _add(connection, reconciliation_id, each, found.author, rating)
            for each in residuals
        )


def undo(engine: Engine, number: int, author: Author) -> Adjustment:
    """Take an entry back by one of the opposite amount; the new entry.

    Raises `UsageError` for an entry that is not there, was taken back, or takes back another.
    """
    with writing(engine) as connection:
        _wait_for_turn(connection)
        known = {each.adjustment_id: each for each in read_adjustments(connection)}
        _require_standing(known, number)
        before = known[number]
        owner = select(adjustments.c.reconciliation_id).where(
            adjustments.c.adjustment_id == number
        )
        residual = Residual(
            before.residual.place, -before.amount, f"undo: takes back adjustment {number}"
        )
        _add(
            connection,
            connection.execute(owner).scalar_one(),
            residual,
            author,
            _newest_rating(connection),
            undoes=number,
        )
        return read_adjustments(connection)[-1]


def newest_entry(connection: Connection) -> int:
    """The number of the newest entry, 0 when there is none."""
    return int(connection.scalar(select(func.max(adjustments.c.adjustment_id))) or 0)


def _require_standing(known: dict[int, Adjustment], number: int) -> None:
    if number not in known:
        raise UsageError(
            f"there is no adjustment {number}: batcher reconcile --recorded lists all"
        )
    if known[number].undoes is not None:
        raise UsageError(
            f"adjustment {number} takes back adjustment {known[number].undoes}: to have that"
            " again, reconcile with --record again"
        )
    by = next((each for each in known.values() if each.undoes == number), None)
    if by is not None:
        raise UsageError(f"adjustment {number} was taken back before, by {by.adjustment_id}")


def _add(
    connection: Connection,
    reconciliation_id: int,
    residual: Residual,
    author: Author,
    rating: int,
    undoes: int | None = None,
) -> int:
    place = residual.place
    values = {
        "reconciliation_id": reconciliation_id,
        "recorded_at": author.at,
        "recorded_by": author.name,
        **{name: getattr(place, name) for name in _PLACE},
        "amount": residual.amount,
        "cause": residual.cause,
        "after_rating": rating,
        "undoes": undoes,
    }
    insert = adjustments.insert().values(values).returning(adjustments.c.adjustment_id)
    return int(connection.execute(insert).scalar_one())


_PLACE: Final = ("day", "model", "tier", "geography", "kind")


def _adjustment(row: Any) -> Adjustment:  # noqa: ANN401 - a row of SQLAlchemy
    place = Place(*(getattr(row, name) for name in _PLACE))
    return Adjustment(
        adjustment_id=row.adjustment_id,
        residual=Residual(place, row.amount, row.cause),
        author=Author(row.recorded_by, row.recorded_at),
        endpoint=row.endpoint,
        simulated=bool(row.simulated),
        files=_files(row.files),
        after_rating=row.after_rating,
        undoes=row.undoes,
    )


def _files(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((each["name"], each["sha256"]) for each in msgspec.json.decode(text))


def _newest_rating(connection: Connection) -> int:
    return int(connection.scalar(select(func.max(ratings.c.rating_id))) or 0)


def _wait_for_turn(connection: Connection) -> None:
    """One at a time; on SQLite the transaction itself is the lock."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE adjustments IN SHARE ROW EXCLUSIVE MODE")
