"""The names behind the ids of a ledger: a line's key, and which part of the ledger counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final, assert_never

import msgspec
from sqlalchemy import Connection, select

from batcher.clock import moment_of
from batcher.errors import UsageError
from batcher.ledger.schema import (
    QUARTER_HOUR_US,
    invocations,
    price_books,
    process_id,
    ratings,
    runs,
    sources,
)
from batcher.report.figures import Key
from batcher.report.query import Dimension, Kind, ReportQuery
from batcher.report.scope import RatingBound, ReportScope
from batcher.report.totals import Group
from batcher.report.words import moment_text

_NO_VALUE: Final = {
    Kind.MODEL: "(unknown)",
    Kind.REQUESTED_MODEL: "(unknown)",
    Kind.STOP_REASON: "(none)",
    Kind.JOB: "(no job)",
    Kind.WORKSPACE: "(not told)",
    Kind.TAG: "(untagged)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationNames:
    """What a report says of one process of a run; `started_at` is microseconds UTC."""

    run: int
    started_at: int
    endpoint: str
    simulated: bool
    job: str | None
    run_key: str
    tags: Mapping[str, str]
    process: int
    key_fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerNames:
    """Names by id: invocations, sources, and the price book's version of each rating.

    `positions` are the newest invocation that each reprice found, by rating.
    """

    invocations: Mapping[int, InvocationNames]
    sources: Mapping[int, str]
    price_books: Mapping[int, str]
    positions: Mapping[int, int]


def read_names(connection: Connection) -> LedgerNames:
    """All names; there are few compared with the answers."""
    books = select(ratings.c.rating_id, price_books.c.version).join(
        price_books, price_books.c.price_book_id == ratings.c.price_book_id
    )
    positions = select(ratings.c.rating_id, ratings.c.position).where(
        ratings.c.reason != "initial", ratings.c.position.is_not(None)
    )
    return LedgerNames(
        invocations=dict(_read_invocations(connection)),
        sources=dict(connection.execute(select(sources.c.source_id, sources.c.name)).all()),
        price_books=dict(connection.execute(books).all()),
        positions=dict(connection.execute(positions).all()),
    )


def _read_invocations(connection: Connection) -> list[tuple[int, InvocationNames]]:
    statement = select(
        invocations.c.invocation_id,
        invocations.c.run_id,
        invocations.c.started_at,
        invocations.c.endpoint,
        invocations.c.simulated,
        invocations.c.tags,
        invocations.c.key_fingerprint,
        process_id.label("process"),
        runs.c.job,
        runs.c.key,
    ).join(runs, runs.c.run_id == invocations.c.run_id)
    return [
        (
            row.invocation_id,
            InvocationNames(
                run=row.run_id,
                started_at=row.started_at,
                endpoint=row.endpoint,
                simulated=bool(row.simulated),
                job=row.job,
                run_key=row.key,
                tags=msgspec.json.decode(row.tags),
                process=row.process,
                key_fingerprint=row.key_fingerprint,
            ),
        )
        for row in connection.execute(statement)
    ]


@dataclass(frozen=True, slots=True)
class Grouping:
    """How groups of the database become lines of a report.

    `place` is the ledger's address where several are read, else empty: it makes the numbers
    that only one database knows unmistakable.
    """

    names: LedgerNames
    by: tuple[Dimension, ...]
    zone: tzinfo
    place: str = ""

    def line(self, group: Group) -> tuple[Key, tuple[str, ...]]:
        """One value per dimension, and the same in words for people: a run's command, say."""
        values = [(each.kind.is_number, each, self._value(each, group)) for each in self.by]
        where = f"{self.place} " if self.place else ""
        return (
            tuple(f"{self.place}#{value}" if own and self.place else value
                  for own, _, value in values),
            tuple(f"{where if own else ''}{self._words(each, value)}"
                  for own, each, value in values),
        )  # fmt: skip

    def _value(self, dimension: Dimension, group: Group) -> str | int | None:
        invocation = self.names.invocations[group.invocation_id]
        found: str | int | None
        match dimension.kind:
            case (
                Kind.MODEL
                | Kind.REQUESTED_MODEL
                | Kind.STOP_REASON
                | Kind.LANE
                | Kind.WORKSPACE
            ):
                found = getattr(group, dimension.kind.value)
            case Kind.RUN | Kind.JOB | Kind.ENDPOINT:
                found = getattr(invocation, dimension.kind.value)
            case Kind.HOUR | Kind.DAY | Kind.WEEK | Kind.MONTH:
                found = bucket(dimension.kind, group.quarter * QUARTER_HOUR_US, self.zone)
            case Kind.INVOCATION:
                found = invocation.process
            case Kind.SOURCE:
                found = self.names.sources.get(group.source_id or 0)
            case Kind.TAG:
                found = invocation.tags.get(dimension.tag)
            case _:
                assert_never(dimension.kind)
        return found

    def _words(self, dimension: Dimension, value: str | int | None) -> str:
        if value is None:
            return _NO_VALUE.get(dimension.kind, "(none)")
        if dimension.kind is Kind.INVOCATION:
            return f"{value} {moment_text(self.names.invocations[int(value)].started_at)}"
        if dimension.kind is Kind.RUN:
            return f"{value} {self._run_name(int(value))}"
        return str(value)

    def _run_name(self, run_id: int) -> str:
        return next(
            each.job or each.run_key
            for each in self.names.invocations.values()
            if each.run == run_id
        )


def bucket(kind: Kind, moment_us: int, zone: tzinfo) -> str:
    """The hour (with its offset from UTC), day, ISO week or month of a moment in `zone`."""
    local = moment_of(moment_us).astimezone(zone)
    if kind is Kind.HOUR:
        # Not by subtraction: that forgets which of the two hours at the end of summer it is.
        return local.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")
    if kind is Kind.WEEK:
        year, week, _ = local.isocalendar()
        return f"{year}-W{week:02d}"
    return local.strftime("%Y-%m-%d" if kind is Kind.DAY else "%Y-%m")


def scope_of(query: ReportQuery, names: LedgerNames) -> ReportScope:
    """What of a ledger counts. Simulated charges count only where there are no real ones.

    Raises `UsageError` for a run or a rating that is not there.
    """
    bound = _bound(query.rating, names)
    chosen = [
        invocation
        for invocation_id, invocation in names.invocations.items()
        if (query.run is None or invocation.run == query.run)
        and invocation_id >= (query.first_invocation or 0)
        and (bound is None or invocation_id <= bound.last_invocation)
    ]
    if query.run is not None and not chosen:
        raise UsageError(f"there is no run {query.run} here: `batcher status` lists all runs")
    simulated = {invocation.simulated for invocation in chosen}
    return ReportScope(
        query,
        with_simulated=simulated != {True, False},
        only_simulated=simulated == {True},
        bound=bound,
    )


def _bound(rating: int | None, names: LedgerNames) -> RatingBound | None:
    """The ledger when `rating` was complete: a reprice at once, others before the next one.

    `None` is now: no rating is asked for, or it is still growing.
    """
    if rating is None:
        return None
    if rating not in names.price_books:
        raise UsageError(
            f"there is no rating {rating} here: batcher prices ratings lists all of them"
        )
    if rating in names.positions:
        return RatingBound(rating, names.positions[rating], adjusted_after=rating - 1)
    following = min((each for each in names.positions if each > rating), default=None)
    if following is None:
        return None
    return RatingBound(following - 1, names.positions[following], adjusted_after=following - 1)
