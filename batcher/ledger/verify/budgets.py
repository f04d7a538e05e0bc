"""Money under caps: what the rows of budgets say against the attempts they stand for.

Money that is lent and money that is settled never exceed a cap together.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, or_, select

from batcher.ledger.money.spending import (
    current,
    first_rated,
    in_force_at,
    open_bounds,
    spending,
)
from batcher.ledger.schema import budgets, invocations, ratings
from batcher.ledger.schema_internal import budget_slices
from batcher.ledger.verify.findings import Findings

_KIND: Final = "budget"


def budgets_agree(connection: Connection, findings: Findings) -> None:
    """Check every scope that was ever capped."""
    for budget in connection.execute(select(budgets).order_by(budgets.c.scope)).all():
        _check_scope(connection, budget, findings)


def _check_scope(connection: Connection, budget: Any, findings: Findings) -> None:  # noqa: ANN401  a record
    name = f"the budget of {budget.scope}"
    slices = _slices(connection, budget.scope)
    _check_cap(name, budget, slices, findings)
    granted = sum(each.granted for each in slices)
    if budget.granted != granted:
        text = f"{name} has lent {budget.granted} pico-USD, its slices hold {granted}"
        findings.add(_KIND, text)
    if slices:
        _check_slices(connection, budget, slices, findings)
        _check_settled(connection, budget, slices, findings)


def _slices(connection: Connection, scope: str) -> Sequence[Any]:
    """Those of the scope, the oldest invocation first, with when that began and ended."""
    times = invocations.c.started_at, invocations.c.ended_at
    return connection.execute(
        select(budget_slices, *times)
        .join(invocations, invocations.c.invocation_id == budget_slices.c.invocation_id)
        .where(budget_slices.c.scope == scope)
        .order_by(budget_slices.c.invocation_id)
    ).all()


def _check_cap(
    name: str,
    budget: Any,  # noqa: ANN401  a record
    slices: Sequence[Any],
    findings: Findings,
) -> None:
    """A cap may be set below what was spent; then nothing more is lent or spent under it."""
    used = bool(slices) and (slices[-1].granted > 0 or slices[-1].settled > 0)
    total = budget.granted + budget.settled
    if total > budget.cap and used:
        text = f"{name} has lent and settled {total} pico-USD under a cap of {budget.cap}"
        findings.add(_KIND, text)
    for place, row in (
        (name, budget),
        *((f"{name}, slice {s.invocation_id}", s) for s in slices),
    ):
        if row.granted < 0 or row.settled < 0:
            text = f"{place} has a negative amount: {row.granted} lent, {row.settled} settled"
            findings.add(_KIND, text)


def _check_slices(
    connection: Connection,
    budget: Any,  # noqa: ANN401  a record
    slices: Sequence[Any],
    findings: Findings,
) -> None:
    """A slice covers what its invocation spent and may still spend, and tells of no more."""
    spent = spending(connection, budget.scope, first_rated())
    bounds = open_bounds(connection, budget.scope)
    for each in slices:
        number = each.invocation_id
        place = f"the slice of invocation {number} of {budget.scope}"
        closed = spent[number] - bounds[number]
        ended = each.ended_at is not None
        if each.settled > closed or (ended and each.settled != closed):
            text = f"{place} has settled {each.settled} pico-USD, its attempts cost {closed}"
            findings.add(_KIND, text)
        elif each.settled + each.granted < spent[number]:
            held = each.settled + each.granted
            text = f"{place} holds {held} pico-USD, its attempts may cost {spent[number]}"
            findings.add(_KIND, text)
        if ended and each.granted > bounds[number]:
            text = (
                f"{place} holds {each.granted} pico-USD for open attempts of {bounds[number]}"
            )
            findings.add(_KIND, text)


def _check_settled(
    connection: Connection,
    budget: Any,  # noqa: ANN401  a record
    slices: Sequence[Any],
    findings: Findings,
) -> None:
    """What is settled is what slices tell and what all before the newest of them had cost."""
    newest = slices[-1]
    if _overlapped(connection, newest, {each.invocation_id for each in slices}):
        return  # what those had spent when the scope was counted is not known any more
    repriced = select(func.count()).where(ratings.c.created_at > newest.started_at)
    rated = in_force_at(newest.started_at) if connection.scalar(repriced) else current()
    spent = spending(connection, budget.scope, rated)
    with_slice = {each.invocation_id for each in slices}
    others = {n: amount for n, amount in spent.items() if n not in with_slice}
    told = sum(each.settled for each in slices)
    before = told + sum(amount for n, amount in others.items() if n < newest.invocation_id)
    # A process that joined later and died was counted, a later run without a cap was not.
    if budget.settled not in {before, told + sum(others.values())}:
        text = f"the budget of {budget.scope} has settled {budget.settled} pico-USD"
        findings.add(_KIND, f"{text}, its attempts cost {before}")


def _overlapped(connection: Connection, newest: Any, known: set[int]) -> bool:  # noqa: ANN401  a record
    """Whether an older invocation without a slice may have worked after the newest began.

    Not on a SQLite file, which has one owner, and not one that its own run went on without.
    """
    if connection.dialect.name == "sqlite":
        return False
    later = invocations.alias("later")
    followed = select(later.c.invocation_id).where(
        later.c.run_id == invocations.c.run_id,
        later.c.invocation_id > invocations.c.invocation_id,
        later.c.invocation_id <= newest.invocation_id,
    )
    others = select(invocations.c.invocation_id).where(
        invocations.c.invocation_id < newest.invocation_id,
        invocations.c.fallback_of.is_(None),
        or_(
            invocations.c.ended_at.is_(None) & ~followed.exists(),
            invocations.c.ended_at > newest.started_at,
        ),
    )
    return any(number not in known for number in connection.execute(others).scalars())
