"""The truth about caps: one row per scope, changed by conditional updates only.

A worker is granted slices and reserves from them in memory. What it spent moves from `granted`
to `settled` now and then; a dead worker's slice is replaced by what the ledger says it spent.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, or_, select, update

from batcher.ledger.money.spending import spending
from batcher.ledger.schema import budgets, invocations, rollups
from batcher.ledger.schema_internal import budget_slices


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
    connection: Connection,
    scope: str,
    *,
    cap: int,
    invocation_id: int,
    living: Collection[int] = (),
) -> ScopeState:
    """Set the cap, and put the scope right after dead invocations.

    The caller has recovered: every open attempt of a dead process is settled as unknown, so
    that the ledger's own sums include its upper bound. Only slices of invocations that are
    neither ended nor dead stay; when none does, `settled` is counted anew from the ledger. Of
    the same run all others are dead but the `living`.
    """
    _make(connection, scope, cap)
    count_anew(connection, scope, cap=cap, invocation_id=invocation_id, living=living)
    values = {"scope": scope, "invocation_id": invocation_id, "granted": 0, "settled": 0}
    connection.execute(insert(budget_slices).values(values))
    return state(connection, scope)


def count_anew(
    connection: Connection,
    scope: str,
    *,
    cap: int,
    invocation_id: int,
    living: Collection[int] = (),
) -> None:
    """Replace the slices of dead invocations by what the ledger says they spent; see above."""
    locked = select(budgets.c.scope).where(budgets.c.scope == scope).with_for_update()
    connection.execute(locked).all()  # nobody is granted anything while it is counted
    gone = _gone(connection, invocation_id).where(invocations.c.invocation_id.not_in(living))
    connection.execute(
        delete(budget_slices).where(
            budget_slices.c.scope == scope,
            budget_slices.c.invocation_id.in_(gone),
        )
    )
    granted, settled = connection.execute(
        select(
            func.coalesce(func.sum(budget_slices.c.granted), 0),
            func.coalesce(func.sum(budget_slices.c.settled), 0),
        ).where(budget_slices.c.scope == scope)
    ).one()
    lending = select(budget_slices.c.invocation_id).where(budget_slices.c.scope == scope)
    counted = set(connection.execute(lending).scalars())
    others = spending(connection, scope)
    spent = int(settled) + sum(others[key] for key in others.keys() - counted)
    connection.execute(
        update(budgets)
        .where(budgets.c.scope == scope)
        .values(cap=cap, granted=int(granted), settled=spent)
    )


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


def _gone(connection: Connection, invocation_id: int) -> Select[Any]:
    """Invocations that spend nothing any more: ended, or dead.

    Dead are all others of our run, since we hold it; a SQLite file is held as a whole.
    """
    others = select(invocations.c.invocation_id).where(
        invocations.c.invocation_id != invocation_id
    )
    if connection.dialect.name == "sqlite":
        return others
    mine = select(invocations.c.run_id).where(invocations.c.invocation_id == invocation_id)
    return others.where(
        or_(invocations.c.ended_at.is_not(None), invocations.c.run_id == mine.scalar_subquery())
    )


def unclear_charges(connection: Connection, run_id: int) -> dict[str, int]:
    """How many answers of the run are unpriced, and how many charges assumed, if any are."""
    table = rollups.c
    mine = select(invocations.c.invocation_id).where(invocations.c.run_id == run_id)
    assumed = func.sum(table.charges).filter(table.status == "assumed")
    statement = select(func.sum(table.unpriced_answers), assumed).where(
        table.invocation_id.in_(mine), table.superseded_by.is_(None)
    )
    unpriced, charged = connection.execute(statement).one()
    counts = {"unpriced": int(unpriced or 0), "assumed": int(charged or 0)}
    return {name: count for name, count in counts.items() if count}
