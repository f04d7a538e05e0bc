"""The dearest rows."""

from collections.abc import Iterable
from fractions import Fraction
from heapq import nsmallest
from typing import Any, Final

from sqlalchemy import RowMapping, select

from batcher.ledger.schema import answers, sources
from batcher.report.ledgers import Ledgers, OpenLedger
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.views.frame import asked, sentences_of
from batcher.report.views.row_costs import RowCost, read_row_costs
from batcher.report.words import count_of

_FIELDS: Final = (
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
_Found = tuple[str, int, int, RowCost]  # currency, minus the most, which ledger, the row


def top_table(ledgers: Ledgers, count: int) -> Table:
    """The `count` dearest answered rows of each currency, the dearest first.

    What rests on an assumption counts by its upper end, so that no dear row is missing.
    The share is that of all answered rows' cost. Rows that cost the same are in the order of
    sending.
    """
    totals: dict[str, int] = {}
    dearest: dict[str, list[_Found]] = {}
    for number, ledger in enumerate(ledgers.each):
        for row in read_row_costs(ledger):
            if row.answered and row.amount is not None:
                _keep(dearest.setdefault(row.currency, []), (number, row), count)
                totals[row.currency] = totals.get(row.currency, 0) + row.amount
    found = [each for currency in sorted(dearest) for each in _first(dearest[currency], count)]
    rows = _described(ledgers, found, totals)
    return Table(
        name="top",
        fields=_FIELDS,
        rows=rows,
        sentences=sentences_of(ledgers, (_said(rows),), empty=not rows),
        query=asked(ledgers.query),
    )


def _keep(found: list[_Found], row: tuple[int, RowCost], count: int) -> None:
    number, cost = row
    most = cost.amount if cost.at_most is None else cost.at_most
    found.append((cost.currency, -(most or 0), number, cost))
    if len(found) > 2 * count + 1000:  # now and then, so that memory stays bounded
        found[:] = _first(found, count)


def _first(found: list[_Found], count: int) -> list[_Found]:
    return nsmallest(count, found, key=lambda each: (each[1], each[2], each[3].attempt_id))


def _described(
    ledgers: Ledgers, found: list[_Found], totals: dict[str, int]
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
    names = [each.name for each in _FIELDS[:8]]
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


def _said(rows: tuple[tuple[Cell, ...], ...]) -> str:
    return (
        f"The {count_of(len(rows), 'dearest row')}; a cost is all that was paid for the row."
        " Tokens are those of its last leg."
    )
