"""Unit costs: what a thousand answers cost, and how the cost of one row is spread."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from batcher.report.figures import Key
from batcher.report.ledgers import Ledgers
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.views.buckets import spread_of
from batcher.report.views.frame import table_by_currency
from batcher.report.views.row_costs import RowCost, read_row_costs
from batcher.report.words import count_of

_FIELDS: Final = (
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


@dataclass(slots=True)
class RowAmounts:
    """The priced rows of one group and currency; `complete` are neither cut off nor refused.

    The cost of `assumed` ones rests on an assumption: all rows may cost `above` more.
    Of rows that a schema was asked for `valid` follow it, `None` where none was asked; all of
    these rows, given up ones too, cost `cost_with_schema`.
    """

    amounts: list[int] = field(default_factory=list)
    complete: int = 0
    assumed: int = 0
    above: int = 0
    valid: int | None = None
    cost_with_schema: int = 0

    def add(self, row: RowCost, amount: int) -> None:
        """Take up a row; one that is not answered costs, and is no valid one."""
        if row.answered:
            self.amounts.append(amount)
            self.assumed += row.at_most is not None
            self.above += 0 if row.at_most is None else row.at_most - amount
            self.complete += row.useful
        if row.valid is not None:
            self.valid = (self.valid or 0) + row.valid
            self.cost_with_schema += amount

    def join(self, other: "RowAmounts") -> None:
        """Take up all of another group."""
        self.amounts += other.amounts
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
    """The cost of every answered row; one number per row is kept."""
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
    fields = (currency_field(), *_FIELDS)
    return table_by_currency(ledgers, "units", fields, found.groups, _cells, _said(found))


def _cells(group: RowAmounts, currency: str) -> tuple[Cell, ...]:
    spread, total = spread_of(group.amounts), sum(group.amounts)
    count = len(group.amounts)
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


def _said(found: UnitCosts) -> tuple[str, ...]:
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
