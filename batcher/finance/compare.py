"""Two periods, runs or models side by side; two runs over the same rows also row by row."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from fractions import Fraction
from math import sqrt
from statistics import NormalDist
from typing import Any, Final

from sqlalchemy import Engine

from batcher.clock import microseconds
from batcher.errors import UsageError
from batcher.pricing.money import format_usd
from batcher.report.export.answers import paired_answers, the_run
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
from batcher.report.views.frame import asked
from batcher.report.words import (
    NOTHING_HERE,
    SIMULATED_LEFT_OUT,
    SIMULATED_ONLY,
    count_of,
    moment_words,
    safe_text,
)

_CONFIDENCE: Final = 0.95
_FEWEST: Final = 5  # pairs; fewer say nothing about the rest
_MEASURES: Final = ("cost_pico_usd", "output_tokens", "latency_ms")


@dataclass(slots=True)
class PairedDifferences:
    """Sums over pairs of numbers: what the second of each has more than the first."""

    pairs: int = 0
    total: int = 0
    squares: int = 0

    def add(self, before: int, after: int) -> None:
        """Take up one pair."""
        self.pairs += 1
        self.total += after - before
        self.squares += (after - before) ** 2

    @property
    def mean(self) -> float:
        """The mean difference."""
        return self.total / self.pairs

    def margin(self) -> float:
        """Half the interval around the mean that holds the true one with 95 % confidence.

        Student's for paired differences: t s / sqrt(n), with n - 1 degrees of freedom, as in
        any textbook (W. S. Gosset, "The probable error of a mean", Biometrika 6, 1908).
        """
        n = self.pairs
        scatter = Fraction(self.squares * n - self.total**2, n * (n - 1))
        return student_quantile(0.5 + _CONFIDENCE / 2, n - 1) * sqrt(scatter / n)


def student_quantile(probability: float, freedom: int) -> float:
    """Student's quantile, to a thousandth from four degrees of freedom on.

    The expansion about the normal one is 26.7.5 of Abramowitz and Stegun, "Handbook of
    Mathematical Functions", 1964.
    """
    x = NormalDist().inv_cdf(probability)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def paired_sentences(
    engine: Engine, words: tuple[str, str], runs: tuple[int, int]
) -> list[str]:
    """What the answers of the second run have more than those of the first, a row."""
    pairs = paired_answers(engine, runs, _MEASURES)
    found, rows = _added_up(pairs)
    if not rows:
        return [f"No row has an answer in both {words[0]} and {words[1]}."]
    said = [_sentence(name, found[name]) for name in _MEASURES if found[name].pairs >= _FEWEST]
    head = f"{count_of(rows, 'row')} with an answer in both; {words[1]} less {words[0]}, a row"
    return [f"{head}: {'; '.join(said) or f'fewer than {_FEWEST} pairs tell nothing'}."]


def _added_up(
    pairs: Iterable[tuple[Sequence[Any], Sequence[Any]]],
) -> tuple[dict[str, PairedDifferences], int]:
    found, rows = {name: PairedDifferences() for name in _MEASURES}, 0
    for before, after in pairs:
        rows += 1
        for name, one, other in zip(_MEASURES, before, after, strict=True):
            if one is not None and other is not None:
                found[name].add(one, other)
    return found, rows


def _sentence(name: str, found: PairedDifferences) -> str:
    margin = found.margin()
    mean, low, high = (
        _words(name, value) for value in (found.mean, found.mean - margin, found.mean + margin)
    )
    title = {
        "cost_pico_usd": "cost",
        "output_tokens": "output tokens",
        "latency_ms": "latency",
    }[name]
    return f"{title} {mean} (95 % interval {low} to {high})"


def _words(name: str, value: float) -> str:
    sign = "+" if value > 0 else "-" if value < 0 else ""
    if name == "cost_pico_usd":
        return f"{sign}{format_usd(abs(round(value)))}"
    return f"{sign}{abs(value):,.1f}{' ms' if name == 'latency_ms' else ''}"


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
