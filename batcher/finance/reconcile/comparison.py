"""Ours and theirs as a table, with the cause of each difference."""

from fractions import Fraction
from typing import Final

from batcher.finance.reconcile.cause import Line, cause_of, explained, is_settled
from batcher.finance.reconcile.lines import Comparison
from batcher.finance.reconcile.theirs import Measure
from batcher.pricing.money import format_usd
from batcher.report.figures import USD
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.words import SIMULATED_ONLY, count_of, safe_text

_FIELDS: Final = (
    Field("day", "Day", Unit.TEXT),
    Field("model", "Model", Unit.TEXT),
    Field("tier", "Tier", Unit.TEXT, in_narrow=False),
    Field("geography", "Geography", Unit.TEXT, in_narrow=False),
    Field("kind", "Kind", Unit.TEXT),
    Field("ours", "Ours", Unit.COUNT, in_narrow=False),
    Field("theirs", "Theirs", Unit.COUNT, in_narrow=False),
    Field("difference", "Difference", Unit.COUNT),
    currency_field(),
    Field("ours_cost", "Our cost", Unit.MONEY, in_narrow=False),
    Field("theirs_cost", "Their cost", Unit.MONEY, in_narrow=False),
    Field("recorded", "Recorded", Unit.MONEY, in_narrow=False),
    Field("cost_difference", "Difference", Unit.MONEY),
    Field("cause", "Cause", Unit.TEXT),
)


def comparison_table(found: Comparison, *, every: bool, further: tuple[str, ...] = ()) -> Table:
    """The differing lines, or `every` one, as a table; `further` sentences stand last."""
    shown = [line for line in found.lines if every or not is_settled(line)]
    costs = [line for line in found.lines if line.ours_cost is not None]
    return Table(
        name="reconcile",
        fields=_FIELDS,
        rows=tuple(_row(line) for line in shown),
        totals=(_total(costs),) if shown and costs else (),
        sentences=(*_said(found), *map(safe_text, further)),
        query=(("endpoint", found.ours.endpoint),),
    )


def _row(line: Line) -> tuple[Cell, ...]:
    place = line.place
    return (
        place.day.isoformat(), place.model or "all", place.tier or "all",
        place.geography or "all", place.kind.replace("_", " "),
        *_usage(line), USD, *_costs(line), cause_of(line),
    )  # fmt: skip


def _usage(line: Line) -> tuple[Cell, Cell, Cell]:
    ours, theirs = line.ours_used, line.theirs_used
    if ours is None or theirs is None:
        return None, None, None
    return ours, theirs, theirs - ours


def _costs(line: Line) -> tuple[Cell, Cell, Cell, Cell]:
    ours, theirs, recorded = line.ours_cost, line.theirs_cost, line.recorded
    if ours is None or theirs is None:
        return None, None, None, None
    return ours, theirs, recorded or None, theirs - ours - recorded


def _total(costs: list[Line]) -> tuple[Cell, ...]:
    """Costs only: tokens of different kinds are no sum that means anything."""
    ours = sum(line.ours_cost or 0 for line in costs)
    theirs = sum((line.theirs_cost or Fraction(0) for line in costs), Fraction(0))
    recorded = sum(line.recorded for line in costs)
    figures = (ours, theirs, recorded or None, theirs - ours - recorded)
    return ("Total", "", "", "", "", None, None, None, USD, *figures, "")


def _said(found: Comparison) -> tuple[str, ...]:
    ours, lines, differing = found.ours, found.lines, len(found.differing)
    agreed = len(lines) - differing
    days = {line.place.day for line in lines}
    recorded = sum(1 for line in lines if is_settled(line) and line.recorded)
    of_these = f" ({recorded:,} by what was recorded)" if recorded else ""
    said = [
        f"Compared: {count_of(len(lines), 'line')} over {count_of(len(days), 'day')}, endpoint"
        f" {ours.endpoint or 'none'}: {agreed:,} agree{of_these}, {differing:,} do not."
    ]
    said += [f"There is a further page: {name} is not the whole report."
             for name in found.theirs.unfinished]  # fmt: skip
    said += found.theirs.once
    said += explained(map(cause_of, found.differing))
    said += _not_compared(found)
    said += [SIMULATED_ONLY] if ours.simulated else []
    return tuple(map(safe_text, said))


def _not_compared(found: Comparison) -> list[str]:
    ours, theirs = found.ours, found.theirs
    days = theirs.days(Measure.USAGE) | theirs.days(Measure.COST)
    others = {place.day for place in ours.places} - days
    amount = sum(each.amount for place, each in ours.places.items() if place.day in others)
    if not others:
        return []
    return [
        f"Not compared: {count_of(len(others), 'day')} of ours, {format_usd(amount)}, that no"
        " file covers."
    ]
