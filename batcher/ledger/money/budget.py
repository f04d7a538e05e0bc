"""What stops a run before it hurts: caps, and what is usual for it.

The truth about caps is one row per scope, changed by conditional updates only.

A worker is granted slices and reserves from them in memory. What it spent moves from `granted`
to `settled` now and then; a dead worker's slice is replaced by what the ledger says it spent.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Connection,
    Select,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from batcher.ledger.money.spending import spending
from batcher.ledger.runs import DIED
from batcher.ledger.schema import (
    PICO_PER_WHOLE,
    answers,
    attempts,
    budgets,
    charges,
    invocations,
    rollups,
)
from batcher.ledger.schema_internal import budget_slices
from batcher.messages.request import IN_DOUBT, attempt_ids_of


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


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualAnswers:
    """What the newest answers of a run came to, all together: what is usual for it.

    `input_tokens` has cached ones too, `cost` is pico-USD, `latency` microseconds; `refusals`,
    `truncations` and `invalid` count answers, `failures` attempts that got none.
    """

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    latency: int = 0
    refusals: int = 0
    truncations: int = 0
    invalid: int = 0
    failures: int = 0


_UNUSUAL: Final = "unusual"  # among the options of an invocation that a guard stopped
_MOST_INVOCATIONS: Final = 100
_MOST_ANSWERS: Final = 10_000


def usual_answers(
    connection: Connection,
    run_id: int,
    *,
    settings_digest: str,
    besides: Collection[int],
    least: int,
    truncated: Collection[str],
) -> UsualAnswers:
    """The newest answers of the run's invocations, but for those `besides` and unusual ones.

    Those under the same settings, where there are at least `least` of them. `truncated` are
    the stop reasons of answers that were cut off.
    """
    newest = (
        select(
            invocations.c.invocation_id, invocations.c.options, invocations.c.settings_digest
        )
        .where(invocations.c.run_id == run_id, invocations.c.invocation_id.not_in(besides))
        .order_by(invocations.c.invocation_id.desc())
        .limit(_MOST_INVOCATIONS)
    )
    found = connection.execute(newest).all()
    usual = [row for row in found if not msgspec.json.decode(row.options).get(_UNUSUAL)]
    alike = [row.invocation_id for row in usual if row.settings_digest == settings_digest]
    sums = _together(connection, alike, truncated)
    if sums.answers >= least or len(alike) == len(usual):
        return sums
    return _together(connection, [row.invocation_id for row in usual], truncated)


def set_aside_as_unusual(connection: Connection, invocation_id: int) -> None:
    """What a guard stopped is no measure for others."""
    mine = invocations.c.invocation_id == invocation_id
    options = connection.execute(select(invocations.c.options).where(mine)).scalar_one()
    text = msgspec.json.encode(msgspec.json.decode(options) | {_UNUSUAL: True}).decode()
    connection.execute(update(invocations).where(mine).values(options=text))


def _together(
    connection: Connection, invocation_ids: Sequence[int], truncated: Collection[str]
) -> UsualAnswers:
    sums = dict.fromkeys(UsualAnswers.__dataclass_fields__, 0)
    for invocation_id in invocation_ids:
        if sums["answers"] >= _MOST_ANSWERS:
            break
        most = _MOST_ANSWERS - sums["answers"]
        for name, number in _sums_of(connection, invocation_id, most, truncated):
            sums[name] += int(number or 0)
    return UsualAnswers(**sums)


def _sums_of(
    connection: Connection, invocation_id: int, most: int, truncated: Collection[str]
) -> Iterator[tuple[str, Any]]:
    """Of its newest answers, `most` of them; and how many attempts failed beside them."""
    ids = attempt_ids_of(invocation_id)
    mine = (
        select(answers)
        .where(answers.c.attempt_id >= ids.start, answers.c.attempt_id < ids.stop)
        .order_by(answers.c.attempt_id.desc())
        .limit(most)
        .subquery()
    )
    kept = mine.c
    parts = (kept.input_tokens, kept.cache_read_tokens, kept.cache_write_tokens)
    first, second, third = (func.coalesce(part, 0) for part in parts)
    query = select(
        func.count().label("answers"),
        func.sum(first + second + third).label("input_tokens"),
        func.sum(kept.output_tokens).label("output_tokens"),
        (func.avg(kept.latency_us) * func.count()).label("latency"),
        func.count().filter(kept.stop_reason == "refusal").label("refusals"),
        func.count().filter(kept.stop_reason.in_(truncated)).label("truncations"),
        func.count().filter(kept.valid == 0).label("invalid"),
    )
    yield from connection.execute(query).mappings().one().items()
    first_of_them = connection.execute(select(func.min(kept.attempt_id))).scalar()
    whole, rest = connection.execute(
        select(
            func.sum(charges.c.total_amount // PICO_PER_WHOLE),
            func.sum(charges.c.total_amount % PICO_PER_WHOLE),
        )
        .join(mine, kept.attempt_id == charges.c.attempt_id)
        .where(charges.c.current == 1, charges.c.currency == "USD")
    ).one()
    yield "cost", int(whole or 0) * PICO_PER_WHOLE + int(rest or 0)
    yield (
        "failures",
        connection.execute(
            _failed_attempts(invocation_id, first_of_them or ids.start)
        ).scalar(),
    )


def _failed_attempts(invocation_id: int, first: int) -> Select[Any]:
    """Of a server that refused or broke off, but for those that only had to wait."""
    return (
        select(func.count())
        .select_from(attempts)
        .where(
            attempts.c.invocation_id == invocation_id,
            attempts.c.attempt_id >= first,
            literal_column("attempts.state <> 'answered'"),
            attempts.c.state.in_(("rejected", *IN_DOUBT)),
            func.coalesce(attempts.c.http_status, 0).not_in((429, 529)),
            func.coalesce(attempts.c.error_type, "").not_in((DIED, "aborted")),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneTokens:
    """The tokens of answers of one model that came one way, by the names of a usage.

    `moved`: they came live since the batches of their rows were given up, or canceled.
    """

    model: str
    in_batches: bool
    moved: bool
    rows: int
    tokens: dict[str, int]


_OF_USAGE: Final = (
    "input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens",
    "output_tokens",
)  # fmt: skip


def lane_tokens(connection: Connection, run_id: int, since_us: int) -> list[LaneTokens]:
    """What the run's final answers since that moment hold, by lane, and whether they moved."""
    moved = select(attempts.c.request_id).where(
        attempts.c.batch_number > 0,
        attempts.c.error_type.in_(("canceled", "batch_forgotten")),
        attempts.c.settled_at >= since_us,
    )
    in_batches = (func.coalesce(attempts.c.batch_number, 0) > 0).label("in_batches")
    has_moved = answers.c.request_id.in_(moved).label("has_moved")
    sums = [func.coalesce(func.sum(answers.c[name]), 0).label(name) for name in _OF_USAGE]
    model, rows = answers.c.requested_model, func.count().label("rows")
    query = (
        select(model, in_batches, has_moved, rows, *sums)
        .join(attempts, attempts.c.attempt_id == answers.c.attempt_id)
        .where(answers.c.run_id == run_id, answers.c.answered_at >= since_us)
        .where(answers.c.final == 1)
        .group_by(model, in_batches, has_moved)
    )
    return [
        LaneTokens(
            model=row["requested_model"],
            in_batches=bool(row["in_batches"]),
            moved=bool(row["has_moved"]) and not row["in_batches"],
            rows=row["rows"],
            tokens={name: int(row[name]) for name in _OF_USAGE},
        )
        for row in connection.execute(query).mappings()
    ]
