"""The drawings of the page, each with its title and the words below it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from fractions import Fraction
from itertools import accumulate
from typing import Final

from sqlalchemy import Engine, select

from batcher.ledger.connect import reading
from batcher.ledger.schema import budgets
from batcher.pricing.money import METERS, format_currency
from batcher.pricing.rate.rates import month_window
from batcher.report.figures import USD
from batcher.report.html.charts import Amounts, Bar, Chart, bars, growing, histogram, stacked
from batcher.report.html.measured import (
    read_latencies,
    read_meter_sums,
    read_row_buckets,
)
from batcher.report.ledgers import Ledgers
from batcher.report.names import bucket
from batcher.report.query import Dimension, Kind, ReportQuery, parse_moment, time_zone
from batcher.report.render.text_table import cell_text, time_text
from batcher.report.summary import summarise
from batcher.report.table import Unit
from batcher.report.views.spread import Buckets
from batcher.report.views.waste import Waste, Wasted, read_waste
from batcher.report.words import count_of, shorten_apart

_MOST_SERIES: Final = 7
_NAME_LENGTH: Final = 34
_ENOUGH_ROWS: Final = 50_000  # for a percentile: of more rows only so many are looked at
_HOURS_UP_TO: Final = 2  # days
_DAYS_UP_TO: Final = 62
_WEEKS_UP_TO: Final = 400  # days
_METER_NAMES: Final = {
    "input": "Input",
    "cache_write_5m": "Cache write, 5 minutes",
    "cache_write_1h": "Cache write, 1 hour",
    "cache_read": "Cache read",
    "output": "Output",
    "web_search": "Web searches",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One drawing (`None` where there is nothing to draw), words below it, names of colours."""

    title: str
    chart: Chart | None
    words: str
    legend: tuple[str, ...] = ()


def over_time(engines: Sequence[Engine], query: ReportQuery, currency: str) -> tuple[Card, ...]:
    """Cost per hour, day, week or month (by how long it took) and model; and its running total.

    Empty buckets between the first and the last are there.
    """
    kind, named = _buckets(engines, query)
    by = (Dimension(kind), Dimension(Kind.MODEL))
    report = summarise(engines, replace(query, by=by))
    costs = {line.key: line.cost(currency) for line in report.lines}
    words = {line.key[1]: line.label[1] for line in report.lines}
    missed = {str(name) for name, _ in costs} - set(named)
    named = (
        sorted({*named, *missed}) if missed else named
    )  # a zone with a shift of half an hour
    models, amounts = _largest(costs, words)
    totals = [sum(amounts.get((name, model), 0) for model in models) for name in named]
    if not any(totals):
        return ()
    shown = [name.replace("T", " ").removesuffix("+00:00") for name in named]
    amounts = {(shown[named.index(n)], m): amount for (n, m), amount in amounts.items()}

    of, cap = _cap(engines, query) if currency == USD else ("", None)

    def money(amount: int) -> str:
        return format_currency(amount, currency)

    return (
        Card(
            title=f"Cost per {kind.value}",
            chart=stacked(shown, models, amounts, money),
            words=f"By model. {_dearest(shown, totals, money)}",
            legend=tuple(models),
        ),
        Card(
            title="Running total",
            chart=growing(shown, list(accumulate(totals)), money, cap),
            words="What had been spent at the end of each bucket."
            + (f" The red line is the cap of the {of}, {money(cap)}." if cap else ""),
        ),
    )


def _cap(engines: Sequence[Engine], query: ReportQuery) -> tuple[str, int | None]:
    """Of what, and the cap in pico-USD, of the one run or the month UTC that is reported.

    `None` where there is none.
    """
    of, scope = ("run", f"run:{query.run}") if query.run is not None else _month(query)
    if not scope or len(engines) > 1:
        return of, None
    statement = select(budgets.c.cap).where(budgets.c.scope == scope)
    with reading(engines[0]) as connection:
        return of, connection.execute(statement).scalar_one_or_none()


def _month(query: ReportQuery) -> tuple[str, str]:
    """The budget's scope, where the window is exactly a calendar month UTC; else empty."""
    if query.since is None or query.until is None:
        return "", ""
    name = bucket(Kind.MONTH, query.since, UTC)
    is_month = month_window(name) == (query.since, query.until)
    return ("month", f"month:{name}") if is_month else ("", "")


def details(ledgers: Ledgers, currency: str, answered: int, cost: int) -> tuple[Card, ...]:
    """The drawings that need more than sums: meters, rows, latency, waste."""
    one_in = max(answered // _ENOUGH_ROWS, 1)
    cards = (
        _meters(ledgers, currency, cost),
        _rows(ledgers, currency, one_in),
        _latency(ledgers, one_in),
        _waste(ledgers, currency),
    )
    return tuple(card for card in cards if card is not None)


def _buckets(engines: Sequence[Engine], query: ReportQuery) -> tuple[Kind, list[str]]:
    """The width of a bucket, and the name of each from the first to the last."""
    zone = time_zone(query.timezone)
    days = summarise(engines, replace(query, by=(Dimension(Kind.DAY),)))
    first, last = str(days.lines[0].key[0]), str(days.lines[-1].key[0])
    start, end = parse_moment(first, zone), parse_moment(last, zone)
    length = (end - start) // _DAY_US + 1
    if length <= _HOURS_UP_TO:
        hours = summarise(engines, replace(query, by=(Dimension(Kind.HOUR),)))
        names = [str(line.key[0]) for line in hours.lines]
        start, end = (parse_moment(name, zone) for name in (names[0], names[-1]))
        return Kind.HOUR, list(_names(Kind.HOUR, start, end, zone))
    kind = Kind.DAY if length <= _DAYS_UP_TO else (
        Kind.WEEK if length <= _WEEKS_UP_TO else Kind.MONTH
    )  # fmt: skip
    return kind, list(_names(kind, start, end, zone))


_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 24 * _HOUR_US


def _names(kind: Kind, start: int, end: int, zone: tzinfo) -> Iterator[str]:
    """In steps of an hour, so that days of 23 and 25 hours come out right, each name once."""
    before = None
    for moment in range(start, end + 1, _HOUR_US):
        name = bucket(kind, moment, zone)
        if name != before:
            yield name
        before = name


def _largest(
    costs: dict[tuple[str | int | None, ...], int], words: dict[str | int | None, str]
) -> tuple[list[str], dict[tuple[str, str], int]]:
    """The models that cost most, the rest as one; and the amounts by bucket and model."""
    totals: dict[str, int] = {}
    for (_, model), amount in costs.items():
        totals[words[model]] = totals.get(words[model], 0) + amount
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    kept = ranked[:_MOST_SERIES] if len(ranked) > _MOST_SERIES + 1 else ranked
    others = f"{len(ranked) - len(kept):,} others"
    amounts: dict[tuple[str, str], int] = {}
    for (name, model), amount in costs.items():
        key = (str(name), words[model] if words[model] in kept else others)
        amounts[key] = amounts.get(key, 0) + amount
    return [*kept, *([others] if len(kept) < len(ranked) else [])], amounts


def _dearest(names: Sequence[str], totals: Sequence[int], money: Amounts) -> str:
    largest = max(totals)
    return f"The dearest: {names[totals.index(largest)]} with {money(largest)}."


def _meters(ledgers: Ledgers, currency: str, cost: int) -> Card | None:
    found = read_meter_sums(ledgers, currency, cost)
    total = sum(found.amounts)
    if not total:
        return None
    rows = [
        Bar(
            label=_METER_NAMES[meter],
            value=f"{format_currency(amount, currency)} · {_share(amount, total)}",
            length=amount,
            series=number,
        )
        for number, (meter, amount) in enumerate(zip(METERS, found.amounts, strict=True))
        if found.quantities[number]
    ]
    return Card(
        title="Cost by meter",
        chart=bars(rows, "What each kind of billable quantity cost.", total),
        words="What was billed for each kind of token, and for searches; a whole bar is"
        " everything.",
    )


def _rows(ledgers: Ledgers, currency: str, one_in: int) -> Card | None:
    amounts = read_row_buckets(ledgers, currency, one_in)
    spread = amounts.spread()
    paid = Buckets({edge: bucket for edge, bucket in amounts.each.items() if edge})
    if spread is None or not paid.each:
        return None
    free = spread.count - sum(bucket.count for bucket in paid.each.values())

    def money(amount: int) -> str:
        return format_currency(amount, currency)

    return Card(
        title="Cost of a row",
        chart=histogram(paid, money),
        words=(
            f"Mean {money(round(spread.mean))}, p50 {money(spread.p50)}, p95"
            f" {money(spread.p95)}, dearest {money(spread.largest)}; how many of"
            f" {count_of(spread.count, 'answered row')} cost how much, retries included."
            + (f" {count_of(free, 'row')} cost nothing." if free else "")
            + _one_row_in(one_in)
        ),
    )


def _one_row_in(number: int) -> str:
    return f" Only one row in {number:,} is looked at here, evenly." if number > 1 else ""


def _latency(ledgers: Ledgers, one_in: int) -> Card | None:
    found = read_latencies(ledgers, one_in)
    slowest = sorted(
        (
            (spread, ledgers.labels[key][0])
            for key, times in found.whole.items()
            if (spread := times.spread())
        ),
        key=lambda pair: (-pair[0].count, pair[1]),
    )
    if not slowest:
        return None
    left_out = len(slowest) - _MOST_SERIES - 1
    slowest = slowest[: _MOST_SERIES + 1]
    names = shorten_apart([label for _, label in slowest], _NAME_LENGTH)
    rows = [
        Bar(
            label=name,
            value=f"p50 {time_text(spread.p50)} · p95 {time_text(spread.p95)}",
            length=spread.p95,
            inner=spread.p50,
        )
        for (spread, _), name in zip(slowest, names, strict=True)
    ]
    first = found.first_token.spread()
    said = (
        f" First token p50 {time_text(first.p50)}, p95 {time_text(first.p95)}." if first else ""
    )
    return Card(
        title="Latency",
        chart=bars(rows, "Median and 95th percentile of the time to a whole answer, by model."),
        words=f"To the last byte; the whole bar is p95, its strong part p50.{said}"
        + (f" {left_out:,} models with fewer answers are left out." if left_out > 0 else "")
        + _one_row_in(one_in),
    )


def _waste(ledgers: Ledgers, currency: str) -> Card:
    found = read_waste(ledgers)
    paid = found.paid.get(currency, 0)
    mine = {kind: each for (kind, money), each in found.by_kind().items() if money == currency}
    if not mine:
        return Card(
            title="Waste",
            chart=None,
            words="None: no answer was cut off, refused, discarded or late, none is in doubt.",
        )
    rows = [
        Bar(
            label=f"{kind.value.capitalize()}, {count_of(wasted.attempts, 'attempt')}",
            value=_wasted(wasted, kind, currency, paid),
            length=wasted.cost_at_most if kind is Waste.IN_DOUBT else wasted.cost,
            inner=wasted.cost if kind is Waste.IN_DOUBT else None,
            series=number,
        )
        for number, (kind, wasted) in enumerate(mine.items())
    ]
    return Card(
        title="Waste",
        chart=bars(rows, "What was paid for answers of no use, by why.", paid),
        words="Paid, or in doubt, for answers of no use; the share is that of all cost, and so"
        " is the part of a bar.",
    )


def _wasted(wasted: Wasted, kind: Waste, currency: str, paid: int) -> str:
    cost = format_currency(wasted.cost, currency)
    if kind is not Waste.IN_DOUBT:
        return f"{cost} · {_share(wasted.cost, paid)}"
    if wasted.unbounded:
        return f"{cost} to ?"
    high = format_currency(wasted.cost_at_most, USD)
    shares = f" · {_share(wasted.cost, paid)} to {_share(wasted.cost_at_most, paid)}"
    return f"{cost} to {high}{shares if paid else ''}"


def _share(part: int, whole: int) -> str:
    return cell_text(Fraction(part, whole) if whole else None, Unit.SHARE)
