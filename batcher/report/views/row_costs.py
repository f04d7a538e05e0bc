"""What each answered row cost, all of its legs, retries and late answers together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Select

from batcher.ledger.schema import answers, charges
from batcher.report.figures import USD, Key
from batcher.report.ledgers import OpenLedger
from batcher.report.scope import answer_keys, answers_with_charges

_ATTEMPT, _REQUEST, _CURRENCY, _AMOUNT, _HIGH, _STOP_REASON, _VALID = range(
    7
)  # of the columns below
# How an answer ended that is complete and of use.
USEFUL: Final = ("end_turn", "stop_sequence", "tool_use")


_Line = tuple[Key, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class RowCost:
    """One answered row. `amount` is pico-units, `None` when a part of it has no price.

    Where a part rests on an assumption `at_most` is the upper end, of which `amount` is the
    lower one; else it is `None`.
    `valid` says whether the answer follows its schema, `None` where there is none. One that is
    not `answered` has invalid answers only.
    """

    key: Key
    attempt_id: int
    currency: str
    amount: int | None
    at_most: int | None
    useful: bool
    valid: bool | None
    answered: bool


def read_row_costs(ledger: OpenLedger) -> Iterator[RowCost]:
    """Every answered row that counts, in the order of sending.

    Then what was paid for invalid answers alone: rows that were given up, or are not done yet.
    """
    others = _paid_beside(ledger)
    lines: list[_Line] = []
    for line in ledger.keyed(_final_answers(ledger)):
        if lines and lines[0][1][_ATTEMPT] != line[1][_ATTEMPT]:
            yield _row_cost(lines, others)
            lines = []
        lines.append(line)
    if lines:
        yield _row_cost(lines, others)
    for beside in others.values():
        if any(row[_VALID] == 0 for _, row in beside):
            yield replace(_row_cost(beside, {}), valid=False, answered=False)


def _row_cost(lines: list[_Line], others: dict[int, list[_Line]]) -> RowCost:
    """The lines of an answer, and what `others` have of its request, which is taken out."""
    key, first = lines[0]
    beside = others.pop(first[_REQUEST], ()) if others else ()
    currency, amount, at_most = first[_CURRENCY] or USD, first[_AMOUNT], first[_HIGH]
    if len(lines) > 1 or beside:  # seldom
        rows = [row for _, row in (*lines, *beside)]
        amounts = [row[_AMOUNT] for row in rows]
        currencies = {row[_CURRENCY] for row in rows} - {None}
        priced = None not in amounts and len(currencies) <= 1
        currency = next(iter(currencies), USD)
        amount = sum(filter(None, amounts)) if priced else None
        at_most = _at_most(rows) if priced else None
    return RowCost(
        key=key,
        attempt_id=first[_ATTEMPT],
        currency=currency,
        amount=amount,
        at_most=at_most,
        useful=first[_STOP_REASON] in USEFUL,
        valid=None if first[_VALID] is None else bool(first[_VALID]),
        answered=True,
    )


def _at_most(rows: Sequence[Sequence[Any]]) -> int | None:
    """The upper end of all together, where one of them has one."""
    if all(row[_HIGH] is None for row in rows):
        return None
    return sum(int(row[_AMOUNT] if row[_HIGH] is None else row[_HIGH]) for row in rows)


def _final_answers(ledger: OpenLedger) -> Select[Any]:
    """Ordered by the primary key, so that the lines of an answer follow each other."""
    return _lines(ledger).where(answers.c.final == 1).order_by(answers.c.attempt_id)


def _paid_beside(ledger: OpenLedger) -> dict[int, list[_Line]]:
    """By request: the charges of its answers that are not the final one; there are few."""
    statement = _lines(ledger).where(answers.c.final == 0).order_by(answers.c.attempt_id)
    found: dict[int, list[_Line]] = {}
    for line in ledger.keyed(statement):
        found.setdefault(line[1][_REQUEST], []).append(line)
    return found


def _lines(ledger: OpenLedger) -> Select[Any]:
    columns = (
        answers.c.attempt_id,
        answers.c.request_id,
        charges.c.currency,
        charges.c.total_amount,
        charges.c.high_amount,
        answers.c.stop_reason.label("stop_reason_as_came"),
        answers.c.valid,
    )
    query = ledger.scope.query
    keys = [column.label(name) for name, column in answer_keys(query).items()]
    return answers_with_charges(ledger.scope).add_columns(*columns, *keys)
