"""Which part of a ledger a report is about: a window, a run, real charges, a rating."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, select

from batcher.ledger.schema import charges, invocations
from batcher.report.query import ReportQuery


@dataclass(frozen=True, slots=True)
class Bound:
    """The ledger as it was, up to and with these.

    Adjustments count that were recorded when there was no newer rating than `adjusted_after`.
    """

    last_rating: int
    last_invocation: int
    adjusted_after: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of the ledger is summed.

    `with_simulated` is whether simulated endpoints count, `only_simulated` that there are no
    others. Without a `bound` it is the ledger of now.
    """

    query: ReportQuery
    with_simulated: bool
    only_simulated: bool
    bound: Bound | None = None


def conditions(
    scope: Scope, sent_at: ColumnElement[Any], invocation_id: ColumnElement[Any]
) -> list[ColumnElement[bool]]:
    """Which records of a scope count: its window, its run, real charges or simulated ones."""
    query, found = scope.query, of_invocations(scope, invocation_id)
    if query.since is not None:
        found.append(sent_at >= query.since)
    if query.until is not None:
        found.append(sent_at < query.until)
    return found


def of_invocations(
    scope: Scope, invocation_id: ColumnElement[Any]
) -> list[ColumnElement[bool]]:
    """Which invocations count, as conditions on the column that names them."""
    query, found = scope.query, []
    if scope.bound is not None:
        found.append(invocation_id <= scope.bound.last_invocation)
    chosen = select(invocations.c.invocation_id)
    if query.run is not None:
        chosen = chosen.where(invocations.c.run_id == query.run)
    if not scope.with_simulated:
        chosen = chosen.where(invocations.c.simulated == 0)
    if query.run is not None or not scope.with_simulated:
        found.append(invocation_id.in_(chosen))
    return found


def in_force(scope: Scope) -> ColumnElement[bool]:
    """Which of an answer's charges count: the current ones, or those that were at the bound."""
    if scope.bound is None:
        return charges.c.current == 1
    newer = charges.alias("newer")
    last = scope.bound.last_rating
    replaced = exists().where(
        newer.c.attempt_id == charges.c.attempt_id,
        newer.c.rating_id > charges.c.rating_id,
        newer.c.rating_id <= last,
    )
    return and_(charges.c.rating_id <= last, ~replaced)
