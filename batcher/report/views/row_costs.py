"""What each answered row cost, all of its legs, retries and late answers together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, and_

from batcher.ledger.schema import answers, charges
from batcher.report.figures import USD, Key
from batcher.report.ledgers import Ledger
from batcher.report.scope import in_force
from batcher.report.totals import (
    ANSWER_SENT_AT,
    answer_keys,
    answers_from,
    conditions,
    is_complete,
)

_ATTEMPT, _REQUEST, _CURRENCY, _AMOUNT, _STOP_REASON = range(5)  # of the columns below
# How an answer ended that is complete and of use; whether it is right, nobody recorded.
USEFUL: Final = ("end_turn", "stop_sequence", "tool_use")


@dataclass(frozen=True, slots=True)
class RowCost:
    """One answered row. `amount` is pico-units, `None` when a part of it has no price."""

    key: Key
    attempt_id: int
    currency: str
    amount: int | None
    useful: bool


def read_row_costs(ledger: Ledger) -> Iterator[RowCost]:
    """Every answered row that counts, in the order of sending."""
    others = _paid_beside(ledger)
    lines: list[Sequence[Any]] = []
    before: Key = ()
    for key, row in ledger.keyed(_final_answers(ledger)):
        if lines and lines[0][_ATTEMPT] != row[_ATTEMPT]:
            yield _row_cost(before, lines, others)
            lines = []
        lines.append(row)
        before = key
    if lines:
        yield _row_cost(before, lines, others)


def _row_cost(
    key: Key, lines: list[Sequence[Any]], others: dict[int, list[int | None]]
) -> RowCost:
    first = lines[0]
    beside = others.get(first[_REQUEST], ())
    useful = first[_STOP_REASON] in USEFUL
    if len(lines) == 1 and not beside:  # nearly all
        return RowCost(key, first[_ATTEMPT], first[_CURRENCY] or USD, first[_AMOUNT], useful)
    amounts = [*(line[_AMOUNT] for line in lines), *beside]
    currencies = {line[_CURRENCY] for line in lines} - {None}
    priced = None not in amounts and len(currencies) <= 1
    return RowCost(
        key,
        first[_ATTEMPT],
        next(iter(currencies), USD),
        sum(filter(None, amounts)) if priced else None,
        useful,
    )


def _final_answers(ledger: Ledger) -> Select[Any]:
    """Ordered by the primary key, so that the lines of an answer follow each other."""
    query = ledger.scope.query
    keys = [column.label(name) for name, column in answer_keys(query).items()]
    return (
        _answers_with_charges(ledger)
        .add_columns(*keys)
        .where(answers.c.final == 1)
        .order_by(answers.c.attempt_id)
    )


def _paid_beside(ledger: Ledger) -> dict[int, list[int | None]]:
    """By request: the amounts of its answers that are not the final one; there are few."""
    statement = _answers_with_charges(ledger).where(answers.c.final == 0, is_complete())
    found: dict[int, list[int | None]] = {}
    for row in ledger.rows(statement):
        found.setdefault(row["request_id"], []).append(row["total_amount"])
    return found


def _answers_with_charges(ledger: Ledger) -> Select[Any]:
    columns = (
        answers.c.attempt_id,
        answers.c.request_id,
        charges.c.currency,
        charges.c.total_amount,
        answers.c.stop_reason.label("stop_reason_as_came"),
    )
    current = and_(charges.c.attempt_id == answers.c.attempt_id, in_force(ledger.scope))
    return (
        answers_from(ledger.scope.query)
        .outerjoin(charges, current)
        .add_columns(*columns)
        .where(*conditions(ledger.scope, ANSWER_SENT_AT, answers.c.invocation_id))
    )
