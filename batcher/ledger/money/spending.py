"""What the ledger says was spent in a scope, by process: what counts against a cap.

An answer counts with its charges where all of them have an amount in USD, else with its upper
bound; any other attempt counts with its upper bound, which is 0 where nothing can be billed.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from batcher.clock import microseconds
from batcher.ledger.schema import PICO_PER_WHOLE, attempts, charges, invocations, ratings
from batcher.messages.request import State

_WITH_ANSWER: Final = (State.ANSWERED.value, State.LATE.value)


def current() -> ColumnElement[bool]:
    """The charges that are in force now."""
    return charges.c.current == 1


def first_rated() -> ColumnElement[bool]:
    """The charges that were made when the answers came."""
    return charges.c.rating_id.in_(
        select(ratings.c.rating_id).where(ratings.c.reason == "initial")
    )


# What a cap counts: the upper end.
_MOST: Final = func.coalesce(charges.c.high_amount, charges.c.total_amount)


def in_force_at(moment_us: int) -> ColumnElement[bool]:
    """The charges that were in force at a moment, of answers from before it."""
    known = select(ratings.c.rating_id).where(
        or_(ratings.c.created_at <= moment_us, ratings.c.reason == "initial")
    )
    newer = charges.alias("newer")
    newest = select(func.max(newer.c.rating_id)).where(
        newer.c.attempt_id == charges.c.attempt_id,
        newer.c.line == charges.c.line,
        newer.c.rating_id.in_(known),
    )
    return charges.c.rating_id == newest.scalar_subquery()


def spending(
    connection: Connection, scope: str, rated: ColumnElement[bool] | None = None
) -> Counter[int]:
    """Pico-USD by invocation; `rated` says which charges count, those in force by default."""
    rated = current() if rated is None else rated
    inside = _inside(scope)
    with_answer = attempts.c.state.in_(_WITH_ANSWER)
    unknown = charges.c.total_amount.is_(None) | (charges.c.currency != "USD")
    of_unknown = select(charges.c.attempt_id).where(rated, unknown)
    charged = and_(attempts.c.attempt_id == charges.c.attempt_id, with_answer)
    spent: Counter[int] = Counter()
    _add(
        connection, spent,
        _sums(_MOST).select_from(charges).join(attempts, charged)
        .where(rated, charges.c.attempt_id.not_in(of_unknown), inside),
    )  # fmt: skip
    bounds = _sums(attempts.c.cost_high)
    _add(connection, spent, bounds.where(inside, attempts.c.state.not_in(_WITH_ANSWER)))
    unpriced = attempts.c.attempt_id.in_(of_unknown)
    _add(connection, spent, bounds.where(inside, with_answer, unpriced))
    return spent


def open_bounds(connection: Connection, scope: str) -> Counter[int]:
    """The upper bounds of attempts that are still open, pico-USD by invocation."""
    bounds: Counter[int] = Counter()
    still_open = _sums(attempts.c.cost_high).where(
        _inside(scope), attempts.c.state != "answered", attempts.c.state == State.OPEN.value
    )
    _add(connection, bounds, still_open)
    return bounds


def _sums(amount: ColumnElement[Any]) -> Select[Any]:
    """SQLite's own sum would overflow beyond nine million dollars; its halves do not."""
    halves = func.sum(amount // PICO_PER_WHOLE), func.sum(amount % PICO_PER_WHOLE)
    return select(attempts.c.invocation_id, *halves).group_by(attempts.c.invocation_id)


def _processes(connection: Connection) -> dict[int, int]:
    """To whom the invocations belong that are no process of their own; seldom any."""
    table = invocations.c
    query = select(table.invocation_id, table.fallback_of).where(table.fallback_of.is_not(None))
    return {row.invocation_id: row.fallback_of for row in connection.execute(query)}


def _add(connection: Connection, spent: Counter[int], query: Select[Any]) -> None:
    found: Sequence[Any] = connection.execute(query).all()
    processes = _processes(connection)
    for invocation_id, whole, rest in found:
        process = processes.get(invocation_id, invocation_id)
        spent[process] += int(whole or 0) * PICO_PER_WHOLE + int(rest or 0)


def _inside(scope: str) -> ColumnElement[bool]:
    kind, name = scope.split(":", 1)
    if kind == "run":
        of_run = select(invocations.c.invocation_id).where(invocations.c.run_id == int(name))
        return attempts.c.invocation_id.in_(of_run)
    first = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    after = (first + timedelta(days=32)).replace(day=1)
    sent = func.coalesce(attempts.c.sent_at, attempts.c.opened_at)
    return and_(sent >= microseconds(first), sent < microseconds(after))
