"""What each answered row cost: all of its legs, retries and late answers together.

The dearest rows, and unit costs: what a thousand answers cost, and how the cost of one row is
spread.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from heapq import nsmallest
from typing import Any, Final

from sqlalchemy import RowMapping, Select, select

from batcher.ledger.schema import answers, charges, sources
from batcher.report.figures import USD, Key
from batcher.report.ledgers import Ledgers, OpenLedger
from batcher.report.scope import answer_keys, answers_with_charges
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.views.frame import asked, sentences_of, table_by_currency
from batcher.report.views.spread import Numbers
from batcher.report.words import count_of

_ATTEMPT, _REQUEST, _CURRENCY, _AMOUNT, _HIGH, _STOP_REASON, _VALID = range(
    7
)  # of the columns below

# How an answer ended that is complete and of use.
USEFUL: Final = ("end_turn", "stop_sequence", "tool_use")


_Line = tuple[Key, Sequence[Any]]


_TOP_FIELDS: Final = (
    Field("source", "Source", Unit.TEXT),
    Field("row_number", "Row", Unit.COUNT),
    Field("custom_id", "custom_id", Unit.TEXT),
    Field("model", "Model", Unit.TEXT),
    Field("stop_reason", "Stop reason", Unit.TEXT, in_narrow=False),
    Field("attempts", "Attempts", Unit.COUNT, in_narrow=False),
    Field("input_tokens", "Input", Unit.COUNT, in_narrow=False),
    Field("output_tokens", "Output", Unit.COUNT),
    currency_field(),
    Field("cost", "Cost", Unit.MONEY),
    Field("cost_at_most", "At most", Unit.MONEY),
    Field("share", "Share", Unit.SHARE),
)
_UNIT_FIELDS: Final = (
    Field("answered", "Answered", Unit.COUNT),
    Field("cost", "Cost", Unit.MONEY),
    Field("cost_at_most", "At most", Unit.MONEY),
    Field("cost_per_1000_answered", "Per 1,000 answered", Unit.MONEY),
    Field("cost_per_1000_at_most", "Per 1,000 at most", Unit.MONEY, in_narrow=False),
    Field("cost_per_1000_complete", "Per 1,000 complete", Unit.MONEY, in_narrow=False),
    Field("mean", "Mean per row", Unit.MONEY),
    Field("p50", "p50", Unit.MONEY),
    Field("p95", "p95", Unit.MONEY),
    Field("max", "Largest", Unit.MONEY),
    Field("valid", "Valid", Unit.COUNT, in_narrow=False),
    Field("cost_per_valid", "Per valid answer", Unit.MONEY),
)


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


_Candidate = tuple[str, int, int, RowCost]  # currency, minus the most, which ledger, the row


def top_table(ledgers: Ledgers, count: int) -> Table:
    """The `count` dearest answered rows of each currency, the dearest first.

    What rests on an assumption counts by its upper end, so that no dear row is missing.
    The share is that of all answered rows' cost. Rows that cost the same are in the order of
    sending.
    """
    totals: dict[str, int] = {}
    dearest: dict[str, list[_Candidate]] = {}
    for number, ledger in enumerate(ledgers.each):
        for row in read_row_costs(ledger):
            if row.answered and row.amount is not None:
                _keep(dearest.setdefault(row.currency, []), (number, row), count)
                totals[row.currency] = totals.get(row.currency, 0) + row.amount
    found = [each for currency in sorted(dearest) for each in _first(dearest[currency], count)]
    rows = _described(ledgers, found, totals)
    return Table(
        name="top",
        fields=_TOP_FIELDS,
        rows=rows,
        sentences=sentences_of(ledgers, (_top_words(rows),), empty=not rows),
        query=asked(ledgers.query),
    )


def _keep(found: list[_Candidate], row: tuple[int, RowCost], count: int) -> None:
    number, cost = row
    most = cost.amount if cost.at_most is None else cost.at_most
    found.append((cost.currency, -(most or 0), number, cost))
    if len(found) > 2 * count + 1000:  # now and then, so that memory stays bounded
        found[:] = _first(found, count)


def _first(found: list[_Candidate], count: int) -> list[_Candidate]:
    return nsmallest(count, found, key=lambda each: (each[1], each[2], each[3].attempt_id))


def _described(
    ledgers: Ledgers, found: list[_Candidate], totals: dict[str, int]
) -> tuple[tuple[Cell, ...], ...]:
    known = {
        number: _read(ledger, (each[3].attempt_id for each in found if each[2] == number))
        for number, ledger in enumerate(ledgers.each)
    }
    return tuple(
        _row(known[number][cost.attempt_id], cost, totals[currency])
        for currency, _, number, cost in found
    )


def _row(row: RowMapping, cost: RowCost, total: int) -> tuple[Cell, ...]:
    names = [each.name for each in _TOP_FIELDS[:8]]
    share = Fraction(cost.amount or 0, total) if total else None
    return (*(row[name] for name in names), cost.currency, cost.amount, cost.at_most, share)


def _read(ledger: OpenLedger, attempt_ids: Iterable[int]) -> dict[int, Any]:
    columns = ("attempt_id", "row_number", "custom_id", "model", "stop_reason", "attempts",
               "input_tokens", "output_tokens")  # fmt: skip
    statement = (
        select(sources.c.name.label("source"), *(answers.c[name] for name in columns))
        .join(sources, sources.c.source_id == answers.c.source_id)
        .where(answers.c.attempt_id.in_(list(attempt_ids)))
    )
    return {row["attempt_id"]: row for row in ledger.rows(statement)}


def _top_words(rows: tuple[tuple[Cell, ...], ...]) -> str:
    return (
        f"The {count_of(len(rows), 'dearest row')}; a cost is all that was paid for the row."
        " Tokens are those of its last leg."
    )


@dataclass(slots=True)
class RowAmounts:
    """The priced rows of one group and currency; `complete` are neither cut off nor refused.

    The cost of `assumed` ones rests on an assumption: all rows may cost `above` more.
    Of rows that a schema was asked for `valid` follow it, `None` where none was asked; all of
    these rows, given up ones too, cost `cost_with_schema`.
    """

    amounts: Numbers = field(default_factory=Numbers)
    complete: int = 0
    assumed: int = 0
    above: int = 0
    valid: int | None = None
    cost_with_schema: int = 0

    def add(self, row: RowCost, amount: int) -> None:
        """Take up a row; one that is not answered costs, and is no valid one."""
        if row.answered:
            self.amounts.take(amount)
            self.assumed += row.at_most is not None
            self.above += 0 if row.at_most is None else row.at_most - amount
            self.complete += row.useful
        if row.valid is not None:
            self.valid = (self.valid or 0) + row.valid
            self.cost_with_schema += amount

    def join(self, other: "RowAmounts") -> None:
        """Take up all of another group."""
        self.amounts.join(other.amounts)
        self.complete += other.complete
        self.assumed += other.assumed
        self.above += other.above
        self.cost_with_schema += other.cost_with_schema
        if other.valid is not None:
            self.valid = (self.valid or 0) + other.valid


@dataclass(slots=True)
class UnitCosts:
    """Priced rows by key and currency, and how many answered rows have no price."""

    groups: dict[tuple[Key, str], RowAmounts] = field(default_factory=dict)
    unpriced: int = 0


def read_unit_costs(ledgers: Ledgers) -> UnitCosts:
    """The cost of every answered row."""
    found = UnitCosts()
    for row in (row for ledger in ledgers.each for row in read_row_costs(ledger)):
        if row.amount is not None:
            found.groups.setdefault((row.key, row.currency), RowAmounts()).add(row, row.amount)
        else:
            found.unpriced += row.answered
    return found


def units_table(ledgers: Ledgers) -> Table:
    """A row per group and currency; the cost is that of the answered rows, retries included."""
    found = read_unit_costs(ledgers)
    fields = (currency_field(), *_UNIT_FIELDS)
    return table_by_currency(
        ledgers, "units", fields, found.groups, _unit_cells, _unit_words(found)
    )


def _unit_cells(group: RowAmounts, currency: str) -> tuple[Cell, ...]:
    spread, total, count = group.amounts.spread(), group.amounts.total, group.amounts.count
    return (
        currency,
        count,
        total if count else None,
        total + group.above if group.assumed else None,
        Fraction(total * 1000, count) if count else None,
        Fraction((total + group.above) * 1000, count) if group.assumed else None,
        Fraction(total * 1000, group.complete) if group.complete else None,
        *((spread.mean, spread.p50, spread.p95, spread.largest) if spread else [None] * 4),
        group.valid,
        Fraction(group.cost_with_schema, group.valid) if group.valid else None,
    )


def _unit_words(found: UnitCosts) -> tuple[str, ...]:
    said = [
        "A row's cost is all that was paid for it: legs, retries and late answers. Complete"
        " answers are those neither cut off nor refused; percentiles are amounts that occur."
    ]
    if any(group.valid is not None for group in found.groups.values()):
        said.append(
            "Per valid answer: all that was paid for rows with a schema, invalid answers and"
            " rows given up included, by the answers that follow it."
        )
    if assumed := sum(group.assumed for group in found.groups.values()):
        said.append(
            f"Assumed: the cost of {count_of(assumed, 'row')} rests on an assumption, from"
            " Cost to At most; means and percentiles are of the lower ends."
        )
    if found.unpriced:
        verb = "has" if found.unpriced == 1 else "have"
        rows = count_of(found.unpriced, "answered row")
        said.append(f"Left out: {rows} that {verb} no price.")
    return tuple(said)
