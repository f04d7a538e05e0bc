"""Ours and theirs place by place, and the cause of each difference."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from sqlalchemy import Engine

from batcher.pricing.meters import METERS
from batcher.pricing.money import format_usd
from batcher.report.figures import USD
from batcher.report.reconcile.cause import Line, cause_of, explained, is_settled
from batcher.report.reconcile.ours import Amounts, Doubt, Ours, read_ours
from batcher.report.reconcile.theirs import Measure, Place, Theirs
from batcher.report.reconcile.theirs_files import read_theirs
from batcher.report.sentences import SIMULATED_ONLY
from batcher.report.sheet import Cell, Field, Sheet, Unit, currency_field
from batcher.report.words import count_of, safe_text

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
    Field("cost_difference", "Difference", Unit.MONEY),
    Field("cause", "Cause", Unit.TEXT),
)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The table, and how many of the lines compared do not agree."""

    sheet: Sheet
    differing: int


def reconcile(
    engines: Sequence[Engine], names: Iterable[str], *, endpoint: str | None, every: bool
) -> Reconciled:
    """Hold the ledgers against the provider's files; only differing lines, or `every` one.

    Theirs less ours is the difference. Days that no file speaks of are not compared, and told.
    Raises `UsageError` for files and endpoints that will not do.
    """
    theirs = read_theirs(names)
    ours = read_ours(engines, endpoint)
    lines = _lines(ours, theirs)
    differing = [line for line in lines if not is_settled(line)]
    shown = lines if every else differing
    costs = [line for line in lines if line.ours_cost is not None]
    return Reconciled(
        Sheet(
            name="reconcile",
            fields=_FIELDS,
            rows=tuple(_row(line) for line in shown),
            totals=(_total(costs),) if shown and costs else (),
            sentences=_said(ours, theirs, lines, len(differing)),
            query=(("endpoint", ours.endpoint),),
        ),
        len(differing),
    )


def _lines(ours: Ours, theirs: Theirs) -> list[Line]:
    found: dict[Place, Line] = {}
    for measure in Measure:
        mine = _ours_like(ours, theirs, measure)
        amounts, slack = _theirs_by_place(theirs, measure)
        for place in {*mine, *amounts}:
            line = found.setdefault(place, Line(place))
            line.take(measure, mine.get(place, Amounts()), amounts.get(place, Fraction(0)))
            line.slack = max(line.slack, slack.get(place, Fraction(0)))
            line.whole = line.whole and theirs.is_whole(measure, place.day)
    for place, line in found.items():
        line.doubt = _doubt(ours, place)
    return [found[place] for place in sorted(found, key=_order)]


def _theirs_by_place(
    theirs: Theirs, measure: Measure
) -> tuple[dict[Place, Fraction], dict[Place, Fraction]]:
    amounts: dict[Place, Fraction] = {}
    slack: dict[Place, Fraction] = {}
    for figure in theirs.figures:
        if figure.measure is measure and figure.amount:
            place = figure.place
            amounts[place] = amounts.get(place, Fraction(0)) + figure.amount
            slack[place] = slack.get(place, Fraction(0)) + figure.slack
    return amounts, slack


def _ours_like(ours: Ours, theirs: Theirs, measure: Measure) -> dict[Place, Amounts]:
    """Ours of the days they speak of, told apart only as far as they do it for that kind."""
    days = theirs.days(measure)
    told = _told_apart(theirs, measure)
    everything = set().union(*told.values()) if told else set()
    found: dict[Place, Amounts] = {}
    for place, amounts in ours.places.items():
        if place.day in days:
            names = told.get(place.kind, everything)
            like = Place(
                place.day,
                place.model if "model" in names else None,
                place.tier if "tier" in names else None,
                place.geography if "geography" in names else None,
                place.kind,
            )
            found.setdefault(like, Amounts()).add(amounts)
    return found


_TOLD: Final = ("model", "tier", "geography")


def _told_apart(theirs: Theirs, measure: Measure) -> dict[str, set[str]]:
    """By kind, which of model, tier and geography their files name."""
    found: dict[str, set[str]] = {}
    for figure in theirs.figures:
        if figure.measure is measure:
            names = {name for name in _TOLD if getattr(figure.place, name) is not None}
            found.setdefault(figure.place.kind, set()).update(names)
    return found


def _doubt(ours: Ours, place: Place) -> Doubt | None:
    found = [
        doubt
        for (day, model), doubt in ours.doubts.items()
        if day == place.day and place.model in {None, model}
    ]
    if not found:
        return None
    highs = [doubt.high for doubt in found]
    return Doubt(
        sum(doubt.attempts for doubt in found),
        sum(doubt.low for doubt in found),
        None if None in highs else sum(filter(None, highs)),
    )


def _order(place: Place) -> tuple[str, ...]:
    kinds = {kind: f"{number}" for number, kind in enumerate(METERS)}
    return (place.day.isoformat(), place.model or "~", place.tier or "~",
            place.geography or "~", kinds.get(place.kind, place.kind))  # fmt: skip


def _row(line: Line) -> tuple[Cell, ...]:
    place = line.place
    return (
        place.day.isoformat(), place.model or "all", place.tier or "all",
        place.geography or "all", place.kind.replace("_", " "),
        *_pair(line.ours_used, line.theirs_used), USD,
        *_pair(line.ours_cost, line.theirs_cost), cause_of(line),
    )  # fmt: skip


def _pair(ours: int | None, theirs: Fraction | None) -> tuple[Cell, Cell, Cell]:
    if ours is None or theirs is None:
        return None, None, None
    return ours, theirs, theirs - ours


def _total(costs: list[Line]) -> tuple[Cell, ...]:
    """Costs only: tokens of different kinds are no sum that means anything."""
    ours = sum(line.ours_cost or 0 for line in costs)
    theirs = sum((line.theirs_cost or Fraction(0) for line in costs), Fraction(0))
    return ("Total", "", "", "", "", None, None, None, USD, ours, theirs, theirs - ours, "")


def _said(ours: Ours, theirs: Theirs, lines: list[Line], differing: int) -> tuple[str, ...]:
    agreed = len(lines) - differing
    days = {line.place.day for line in lines}
    said = [
        f"Compared: {count_of(len(lines), 'line')} over {count_of(len(days), 'day')}, endpoint"
        f" {ours.endpoint or 'none'}: {agreed:,} agree, {differing:,} do not."
    ]
    said += [f"There is a further page: {name} is not the whole report."
             for name in theirs.unfinished]  # fmt: skip
    said += explained(map(cause_of, lines))
    said += _not_compared(ours, theirs)
    said += [SIMULATED_ONLY] if ours.simulated else []
    return tuple(map(safe_text, said))


def _not_compared(ours: Ours, theirs: Theirs) -> list[str]:
    days = theirs.days(Measure.USAGE) | theirs.days(Measure.COST)
    others = {place.day for place in ours.places} - days
    amount = sum(each.amount for place, each in ours.places.items() if place.day in others)
    if not others:
        return []
    return [
        f"Not compared: {count_of(len(others), 'day')} of ours, {format_usd(amount)}, that no"
        " file covers."
    ]
