"""What reconciliations recorded, as a report shows it: by its dimensions, in its window."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import Final, TypeVar

from sqlalchemy import Connection

from batcher.clock import microseconds
from batcher.ledger.money.adjustments import (
    Adjustment,
    Reconciliation,
    effective,
    read_adjustments,
    read_reconciliations,
)
from batcher.report.figures import Adjusted, AdjustedLine, Key, sort_key
from batcher.report.names import bucket
from batcher.report.query import Dimension, Kind, ReportQuery, time_zone
from batcher.report.scope import ReportScope

_T = TypeVar("_T", Key, str)
_NOON: Final = time(12, tzinfo=UTC)


def read_adjusted(connection: Connection, scope: ReportScope) -> Adjusted | None:
    """The adjustments that belong to `scope`; `None` for a run: whole days are reconciled.

    A UTC day counts as its noon: that is the same date almost everywhere.
    """
    query = scope.query
    if query.run is not None:
        return None
    found = entries_that_stand(connection, scope)
    known = [each for each in read_reconciliations(connection) if _was_there(each, scope)]
    days = {day for each in known for day in each.days if _in_window(day, query)}
    told = [each.author for each in known if days.intersection(each.days)]
    return Adjusted(
        lines=_lines((_key(each, query), 1, each.amount) for each in found),
        causes=_causes((_cause(each), 1, each.amount) for each in found),
        days=tuple(sorted(days)),
        last=max(((author.at, author.name) for author in told), default=None),
    )


def entries_that_stand(connection: Connection, scope: ReportScope) -> tuple[Adjustment, ...]:
    """Those of the window that nobody took back."""
    there = (each for each in read_adjustments(connection) if _was_there(each, scope))
    return tuple(
        each for each in effective(there) if _in_window(each.residual.place.day, scope.query)
    )


def join_adjusted(parts: Iterable[Adjusted | None]) -> Adjusted | None:
    """Those of several ledgers together."""
    parts = tuple(parts)
    found = [each for each in parts if each is not None]
    if len(found) < len(parts):
        return None
    return Adjusted(
        lines=_lines(
            (line.key, line.entries, line.amount) for each in found for line in each.lines
        ),
        causes=_causes(cause for each in found for cause in each.causes),
        days=tuple(sorted({day for each in found for day in each.days})),
        last=max((each.last for each in found if each.last is not None), default=None),
    )


def _was_there(recorded: Adjustment | Reconciliation, scope: ReportScope) -> bool:
    """Whether it is about the same money, and existed when the scope's rating was complete."""
    if recorded.simulated != scope.only_simulated:
        return False
    return scope.bound is None or recorded.after_rating <= scope.bound.adjusted_after


def _in_window(day: str, query: ReportQuery) -> bool:
    moment = _noon(day)
    return (query.since is None or moment >= query.since) and (
        query.until is None or moment < query.until
    )


def _noon(day: str) -> int:
    return microseconds(datetime.combine(date.fromisoformat(day), _NOON))


def _key(entry: Adjustment, query: ReportQuery) -> Key:
    return tuple(_part(entry, dimension, query.timezone) for dimension in query.by)


def _part(entry: Adjustment, dimension: Dimension, timezone: str) -> str | None:
    place = entry.residual.place
    match dimension.kind:
        case Kind.MODEL:
            return place.model
        case Kind.ENDPOINT:
            return entry.endpoint
        case Kind.DAY | Kind.WEEK | Kind.MONTH:
            return bucket(dimension.kind, _noon(place.day), time_zone(timezone))
        case _:
            return None  # nobody tells of it


def _cause(entry: Adjustment) -> str:
    return entry.residual.cause.partition(":")[0]


def _lines(parts: Iterable[tuple[Key, int, int]]) -> tuple[AdjustedLine, ...]:
    sums = _added(parts)
    return tuple(
        AdjustedLine(key=key, entries=sums[key][0], amount=sums[key][1])
        for key in sorted(sums, key=sort_key)
    )


def _causes(parts: Iterable[tuple[str, int, int]]) -> tuple[tuple[str, int, int], ...]:
    sums = _added(parts)
    return tuple((cause, *sums[cause]) for cause in sorted(sums))


def _added(parts: Iterable[tuple[_T, int, int]]) -> dict[_T, tuple[int, int]]:
    sums: dict[_T, tuple[int, int]] = {}
    for name, entries, amount in parts:
        before = sums.get(name, (0, 0))
        sums[name] = (before[0] + entries, before[1] + amount)
    return sums
