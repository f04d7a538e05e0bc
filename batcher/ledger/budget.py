"""The truth about caps: one row per scope, changed by conditional updates only.

A worker is granted slices and reserves from them in memory. What it spent moves from `granted`
to `settled` now and then; a dead worker's slice is replaced by what the ledger says it spent.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from batcher.ledger.schema import (
    attempts,
    budget_slices,
    budgets,
    charges,
    invocations,
)

_HALF: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeState:
    """How a scope stands, in pico-USD."""

    cap: int
    granted: int
    settled: int


def run_scope(run_id: int) -> str:
    """The scope of one run, and so of one job."""
    return f"run:{run_id}"


def month_scope(now_us: int) -> str:
    """The scope of the calendar month (UTC) of a moment."""
    return f"month:{datetime.fromtimestamp(now_us // 1_000_000, UTC):%Y-%m}"


def open_scope(
    connection: Connection, scope: str, *, cap: int, invocation_id: int
) -> ScopeState:
    """Set the cap, and put the scope right after dead invocations.

    The caller has recovered: every open attempt of a dead process is settled as unknown, so
    that the ledger's own sums include its upper bound. Only slices of invocations that are
    neither ended nor dead stay; when none does, `settled` is counted anew from the ledger.
    """
    _make(connection, scope, cap)
    connection.execute(
        delete(budget_slices).where(
            budget_slices.c.scope == scope,
            budget_slices.c.invocation_id.in_(_gone(invocation_id)),
        )
    )
    granted, settled = connection.execute(
        select(
            func.coalesce(func.sum(budget_slices.c.granted), 0),
            func.coalesce(func.sum(budget_slices.c.settled), 0),
        ).where(budget_slices.c.scope == scope)
    ).one()
    living = select(budget_slices.c.invocation_id).where(budget_slices.c.scope == scope)
    spent = int(settled) + _spent(connection, scope, without=living)
    connection.execute(
        update(budgets)
        .where(budgets.c.scope == scope)
        .values(cap=cap, granted=int(granted), settled=spent)
    )
    values = {"scope": scope, "invocation_id": invocation_id, "granted": 0, "settled": 0}
    connection.execute(insert(budget_slices).values(values))
    return state(connection, scope)


def state(connection: Connection, scope: str) -> ScopeState:
    """How the scope stands now."""
    row = connection.execute(select(budgets).where(budgets.c.scope == scope)).one()
    return ScopeState(cap=row.cap, granted=row.granted, settled=row.settled)


def grant(connection: Connection, scope: str, invocation_id: int, amount: int) -> bool:
    """Lend `amount` to the invocation, if settled + granted stay within the cap."""
    free = budgets.c.cap - budgets.c.settled - budgets.c.granted
    lent = connection.execute(
        update(budgets)
        .where(budgets.c.scope == scope, free >= amount)
        .values(granted=budgets.c.granted + amount)
    )
    if lent.rowcount != 1:
        return False
    _change_slice(connection, scope, invocation_id, granted=amount, settled=0)
    return True


def spend(
    connection: Connection, scope: str, invocation_id: int, *, spent: int, returned: int
) -> None:
    """Move `spent` from granted to settled, and give `returned` back unspent."""
    connection.execute(
        update(budgets)
        .where(budgets.c.scope == scope)
        .values(
            granted=budgets.c.granted - spent - returned,
            settled=budgets.c.settled + spent,
        )
    )
    _change_slice(connection, scope, invocation_id, granted=-spent - returned, settled=spent)


def _change_slice(
    connection: Connection, scope: str, invocation_id: int, *, granted: int, settled: int
) -> None:
    connection.execute(
        update(budget_slices)
        .where(budget_slices.c.scope == scope, budget_slices.c.invocation_id == invocation_id)
        .values(
            granted=budget_slices.c.granted + granted,
            settled=budget_slices.c.settled + settled,
        )
    )


def _make(connection: Connection, scope: str, cap: int) -> None:
    known = select(budgets.c.scope).where(budgets.c.scope == scope)
    if connection.execute(known).first() is None:
        values = {"scope": scope, "cap": cap, "granted": 0, "settled": 0}
        connection.execute(insert(budgets).values(values))


def _gone(invocation_id: int) -> Select[Any]:
    """Invocations that spend nothing any more: ended, or dead because we hold their run."""
    mine = select(invocations.c.run_id).where(invocations.c.invocation_id == invocation_id)
    return select(invocations.c.invocation_id).where(
        or_(invocations.c.ended_at.is_not(None), invocations.c.run_id == mine.scalar_subquery())
    )


def _spent(connection: Connection, scope: str, *, without: Select[Any]) -> int:
    """What the ledger says was spent in the scope, doubt at its upper bound, in pico-USD."""
    inside = and_(_inside(scope), attempts.c.invocation_id.not_in(without))
    priced = (
        select(*_halves(charges.c.total_amount))
        .join(attempts, attempts.c.attempt_id == charges.c.attempt_id)
        .where(charges.c.current == 1, charges.c.currency == "USD", inside)
    )
    doubted = select(*_halves(attempts.c.cost_high)).where(
        attempts.c.state.in_(("unknown", "partial", "unusable", "open")), inside
    )
    return sum(
        int(whole or 0) * _HALF + int(rest or 0)
        for query in (priced, doubted)
        for whole, rest in connection.execute(query)
    )


def _halves(amount: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """SQLite's own sum would overflow beyond nine million dollars; its halves do not."""
    return func.sum(amount // _HALF), func.sum(amount % _HALF)


def _inside(scope: str) -> ColumnElement[bool]:
    kind, name = scope.split(":", 1)
    if kind == "run":
        of_run = select(invocations.c.invocation_id).where(invocations.c.run_id == int(name))
        return attempts.c.invocation_id.in_(of_run)
    first = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    after = (first + timedelta(days=32)).replace(day=1)
    sent = func.coalesce(attempts.c.sent_at, attempts.c.opened_at)
    return and_(sent >= _microseconds(first), sent < _microseconds(after))


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000
