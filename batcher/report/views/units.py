"""Unit costs: what a thousand answers cost, and how the cost of one row is spread."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from batcher.report.figures import Key, sort_key
from batcher.report.ledgers import Ledgers
from batcher.report.sheet import (
    Cell,
    Field,
    Named,
    Sheet,
    Unit,
    currency_field,
    key_fields,
    named_key,
)
from batcher.report.views.frame import asked, sentences_of
from batcher.report.views.row_costs import read_row_costs
from batcher.report.views.spread import spread_of
from batcher.report.words import count_of

_FIELDS: Final = (
    Field("answered", "Answered", Unit.COUNT),
    Field("cost", "Cost", Unit.MONEY),
    Field("cost_per_1000_answered", "Per 1,000 answered", Unit.MONEY),
    Field("cost_per_1000_complete", "Per 1,000 complete", Unit.MONEY, in_narrow=False),
    Field("mean", "Mean per row", Unit.MONEY),
    Field("p50", "p50", Unit.MONEY),
    Field("p95", "p95", Unit.MONEY),
    Field("max", "Largest", Unit.MONEY),
)


@dataclass(slots=True)
class RowAmounts:
    """The priced rows of one group and currency; `complete` are neither cut off nor refused."""

    amounts: list[int] = field(default_factory=list)
    complete: int = 0


@dataclass(frozen=True, slots=True)
class UnitCosts:
    """Priced rows by key and currency, and how many answered rows have no price."""

    groups: dict[tuple[Key, str], RowAmounts]
    unpriced: int


def read_unit_costs(ledgers: Ledgers) -> UnitCosts:
    """The cost of every answered row; one number per row is kept."""
    groups: dict[tuple[Key, str], RowAmounts] = {}
    unpriced = 0
    for ledger in ledgers.each:
        for row in read_row_costs(ledger):
            if row.amount is None:
                unpriced += 1
                continue
            group = groups.setdefault((row.key, row.currency), RowAmounts())
            group.amounts.append(row.amount)
            group.complete += row.useful
    return UnitCosts(groups, unpriced)


def units_sheet(ledgers: Ledgers) -> Sheet:
    """A row per group and currency; the cost is that of the answered rows, retries included."""
    found = read_unit_costs(ledgers)
    by = ledgers.query.by
    keys = sorted(found.groups, key=lambda pair: (sort_key(pair[0]), pair[1]))
    rows = [
        (*named_key(key, ledgers.labels[key]), currency, *_cells(found.groups[key, currency]))
        for key, currency in keys
    ]
    return Sheet(
        name="units",
        fields=(*key_fields(by), currency_field(), *_FIELDS),
        rows=tuple(rows),
        totals=_totals(found, len(by)) if rows else (),
        sentences=sentences_of(ledgers, _said(found.unpriced), empty=not rows),
        query=asked(ledgers.query),
    )


def _cells(group: RowAmounts) -> tuple[Cell, ...]:
    spread = spread_of(group.amounts)
    total = sum(group.amounts)
    if spread is None:
        return (0, 0, None, None, None, None, None, None)
    return (
        spread.count,
        total,
        Fraction(total * 1000, spread.count),
        Fraction(total * 1000, group.complete) if group.complete else None,
        spread.mean,
        spread.p50,
        spread.p95,
        spread.largest,
    )


def _totals(found: UnitCosts, dimensions: int) -> tuple[tuple[Cell, ...], ...]:
    together: dict[str, RowAmounts] = {}
    for (_, currency), group in found.groups.items():
        total = together.setdefault(currency, RowAmounts())
        total.amounts += group.amounts
        total.complete += group.complete
    blanks = [Named(None, "")] * (dimensions - 1)
    return tuple(
        (Named(None, "Total"), *blanks, currency, *_cells(together[currency]))
        for currency in sorted(together)
    )


def _said(unpriced: int) -> tuple[str, ...]:
    said = (
        "A row's cost is all that was paid for it: legs, retries and late answers. Complete"
        " answers are those neither cut off nor refused; percentiles are amounts that occur.",
    )
    if not unpriced:
        return said
    verb = "has" if unpriced == 1 else "have"
    return (*said, f"Left out: {count_of(unpriced, 'answered row')} that {verb} no price.")
