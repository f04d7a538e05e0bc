"""Two periods, runs or models side by side."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Final

from sqlalchemy import Engine

from batcher.clock import microseconds
from batcher.errors import UsageError
from batcher.finance.paired import paired_sentences
from batcher.report.export.answers import the_run
from batcher.report.figures import Counts, Key, Report, ReportLine, sort_key, total_of
from batcher.report.query import Dimension, Kind, ReportQuery, time_zone
from batcher.report.summary import summarise
from batcher.report.table import (
    Cell,
    Field,
    Table,
    Unit,
    currency_field,
    key_fields,
    named_key,
    total_key,
)
from batcher.report.views.frame import asked, moment_words
from batcher.report.words import (
    NOTHING_HERE,
    SIMULATED_LEFT_OUT,
    SIMULATED_ONLY,
    count_of,
    safe_text,
)

_RUN, _MODEL = "run:", "model:"
_PERIODS: Final = {
    "year": re.compile(r"\d{4}"),
    "month": re.compile(r"\d{4}-\d{2}"),
    "week": re.compile(r"\d{4}-W\d{2}"),
    "day": re.compile(r"\d{4}-\d{2}-\d{2}"),
}
_A_WEEK, _A_DAY = timedelta(days=7), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its words as typed, what to sum for it, and the model it is about."""

    words: str
    query: ReportQuery
    model: str | None = None


def parse_side(words: str, query: ReportQuery) -> Side:
    """What `words` means: a year, month, ISO week or day, `run:ID`, or `model:NAME`.

    Raises `UsageError` for anything else, and for a period or run where `query` has one.
    """
    if words.startswith(_MODEL) and len(words) > len(_MODEL):
        by = (Dimension(Kind.MODEL), *query.by)
        return Side(words, replace(query, by=by), words.removeprefix(_MODEL))
    run = words.removeprefix(_RUN)
    if words.startswith(_RUN) and run.isdecimal():
        if query.run is not None:
            raise UsageError("--compare already names the runs: leave out --run")
        return Side(words, replace(query, run=int(run)))
    since, until = _period(words, time_zone(query.timezone))
    if query.since is not None or query.until is not None:
        raise UsageError(
            "--compare already says from when to when: leave out --since, --until and --last"
        )
    return Side(words, replace(query, since=since, until=until))


def compare_table(
    engines: Sequence[Engine], query: ReportQuery, pair: tuple[str, str]
) -> Table:
    """A row per group of `query` and currency, with both sides and the difference.

    Raises `UsageError` like `summarise` and `parse_side`.
    """
    numbered = (_numbered(engines, pair[0]), _numbered(engines, pair[1]))
    sides = [
        replace(parse_side(words, query), words=typed)
        for typed, words in zip(pair, numbered, strict=True)
    ]
    reports = [summarise(engines, side.query) for side in sides]
    before, after = (_lines(report, side) for report, side in zip(reports, sides, strict=True))
    keys = sorted({*before, *after}, key=sort_key)
    rows = [
        row for key in keys for row in _rows(key, before.get(key), after.get(key), named=True)
    ]
    totals = _rows((), _sum(before), _sum(after), named=False)
    return Table(
        name="compare",
        fields=_fields(query, sides),
        rows=tuple(rows),
        totals=tuple((*total_key(query.by), *row) for row in totals) if rows else (),
        sentences=(*_said(sides, reports), *_paired(engines, sides)),
        query=(*asked(query), ("before", pair[0]), ("after", pair[1])),
    )


def _numbered(engines: Sequence[Engine], words: str) -> str:
    """`run:NAME` as `run:ID`; other words as they are."""
    name = words.removeprefix(_RUN)
    if not words.startswith(_RUN) or name.isdecimal() or not name:
        return words
    return f"{_RUN}{the_run(engines[0], name)}"


def _paired(engines: Sequence[Engine], sides: Sequence[Side]) -> tuple[str, ...]:
    """What two runs over the same rows have of each row, where runs are compared."""
    before, after = (side.query.run for side in sides)
    if before is None or after is None or before == after or len(engines) > 1:
        return ()
    words = (sides[0].words, sides[1].words)
    return tuple(map(safe_text, paired_sentences(engines[0], words, (before, after))))


def _period(words: str, zone: tzinfo) -> tuple[int, int]:
    unit = next((unit for unit, form in _PERIODS.items() if form.fullmatch(words)), None)
    try:
        first, end = _days(unit, words)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--compare {words!r} is not known: write 2026, 2026-10, 2026-W40, 2026-10-05,"
            " run:ID, run:NAME or model:NAME"
        ) from None
    since, until = (
        microseconds(datetime(day.year, day.month, day.day, tzinfo=zone))
        for day in (first, end)
    )
    return since, until


def _days(unit: str | None, words: str) -> tuple[date, date]:
    """The first day, and the first one after."""
    match unit:
        case "year":
            return date(int(words), 1, 1), date(int(words) + 1, 1, 1)
        case "month":
            first = date.fromisoformat(f"{words}-01")
            return first, (first + timedelta(days=31)).replace(day=1)
        case "week":
            first = date.fromisoformat(f"{words}-1")
            return first, first + _A_WEEK
        case "day":
            first = date.fromisoformat(words)
            return first, first + _A_DAY
        case _:
            raise ValueError(words)


def _lines(report: Report, side: Side) -> dict[Key, ReportLine]:
    if side.model is None:
        return {line.key: line for line in report.lines}
    return {
        line.key[1:]: replace(line, key=line.key[1:], label=line.label[1:])
        for line in report.lines
        if line.key[0] == side.model
    }


def _sum(lines: dict[Key, ReportLine]) -> ReportLine:
    return total_of(lines.values())


def _rows(
    key: Key, before: ReportLine | None, after: ReportLine | None, *, named: bool
) -> list[tuple[Cell, ...]]:
    lines = [line for line in (before, after) if line is not None]
    currencies = sorted({currency for line in lines for currency, _ in line.costs}) or ["USD"]
    words = named_key(key, lines[0].label) if named else ()
    return [(*words, currency, *_cells(before, after, currency)) for currency in currencies]


def _cells(
    before: ReportLine | None, after: ReportLine | None, currency: str
) -> tuple[Cell, ...]:
    one, other = _cost(before, currency), _cost(after, currency)
    difference = None if one is None or other is None else other - one
    change = Fraction(difference, one) if one and difference is not None else None
    return (
        _answered(before), one, _each(before, one),
        _answered(after), other, _each(after, other),
        difference, change,
    )  # fmt: skip


def _cost(line: ReportLine | None, currency: str) -> int | None:
    """Nothing sent costs nothing; what has no price is not known."""
    if line is None:
        return 0
    return None if line.is_unpriced else line.cost(currency)


def _answered(line: ReportLine | None) -> int:
    return 0 if line is None else line.counts.requests


def _each(line: ReportLine | None, cost: int | None) -> Fraction | None:
    counts = Counts() if line is None else line.counts
    return (
        Fraction(cost * 1000, counts.requests) if cost is not None and counts.requests else None
    )


def _fields(query: ReportQuery, sides: Sequence[Side]) -> tuple[Field, ...]:
    of_sides = [
        field
        for name, side in zip(("before", "after"), sides, strict=True)
        for field in (
            Field(f"{name}_answered", "Answered", Unit.COUNT, in_narrow=False),
            Field(f"{name}_cost", safe_text(side.words), Unit.MONEY),
            Field(f"{name}_cost_per_1000", "Per 1,000", Unit.MONEY, in_narrow=False),
        )
    ]
    return (
        *key_fields(query.by),
        currency_field(),
        *of_sides,
        Field("difference", "Difference", Unit.MONEY),
        Field("change", "Change", Unit.SHARE),
    )


def _said(sides: Sequence[Side], reports: Sequence[Report]) -> tuple[str, ...]:
    said = [_about(side, report) for side, report in zip(sides, reports, strict=True)]
    if not any(report.lines for report in reports):
        said.append(NOTHING_HERE)
    said += [SIMULATED_LEFT_OUT] if any(each.simulated_left_out for each in reports) else []
    said += [SIMULATED_ONLY] if any(each.simulated_only for each in reports) else []
    return tuple(map(safe_text, said))


def _about(side: Side, report: Report) -> str:
    """The side's exact bounds, and what of it is in no cost."""
    query = side.query
    lines = [line for line in report.lines if side.model in {None, line.key[0]}]
    counts = total_of(lines).counts
    when = (
        f", {moment_words(query.since)} to {moment_words(query.until)}" if query.since else ""
    )
    doubt = (
        f"; {count_of(counts.in_doubt_attempts, 'attempt')} in doubt"
        if counts.in_doubt_attempts
        else ""
    )
    unpriced = (
        f"; {count_of(counts.unpriced_requests, 'answer')} without a price"
        if counts.unpriced_requests
        else ""
    )
    return f"{side.words}{when}: {count_of(counts.attempts, 'attempt')}{doubt}{unpriced}."
