"""What the page shows, gathered from one or several ledgers, and the page as text.

That is one file, no script, nothing loaded, everything escaped.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from fractions import Fraction
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from jinja2 import Environment, StrictUndefined, Template
from sqlalchemy import Engine

from batcher.clock import moment_of
from batcher.pricing.money import format_currency, format_usd
from batcher.report.figures import USD, Report
from batcher.report.html.cards import Card, details, over_time
from batcher.report.html.charts import WIDTH
from batcher.report.ledgers import ledger_name, open_ledgers
from batcher.report.query import Dimension, Kind, ReportQuery, time_zone
from batcher.report.render.text_table import Detail, Layout, lay_out
from batcher.report.summary import summarise
from batcher.report.table import table_of
from batcher.report.words import shorten_apart

_TITLE: Final = "What the answers cost"
_NAMES_LENGTH: Final = 88  # characters of all names of a line together
_SHORTEST_NAME: Final = 22
MOST_LINES: Final = 300  # of the table; a page is for people


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline number with a few words below."""

    title: str
    value: str
    words: str
    alarming: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that the template writes; `left_out` is how many lines the table does not show."""

    title: str
    origin: str
    subtitle: str
    tiles: tuple[Tile, ...]
    cards: tuple[Card, ...]
    table: Layout
    left_out: int


def gather(engines: Sequence[Engine], query: ReportQuery, made_at_us: int) -> Page:
    """The page over all of `engines`, made at a moment; raises like `summarise`."""
    report = summarise(engines, query)
    currency = _main_currency(report)
    return Page(
        title=_TITLE,
        origin=_origin(engines, moment_of(made_at_us).astimezone(time_zone(query.timezone))),
        subtitle=_subtitle(query, len(engines)),
        tiles=_tiles(report, currency),
        cards=_cards(engines, query, currency, report) if report.lines else (),
        table=_table(report, currency),
        left_out=max(len(report.lines) - MOST_LINES, 0),
    )


def _origin(engines: Sequence[Engine], made_at: datetime) -> str:
    """The ledgers by name, and when this was made."""
    names = ", ".join(ledger_name(engine) for engine in engines)
    return f"{names}, as of {made_at:%Y-%m-%d %H:%M}"


def _cards(
    engines: Sequence[Engine], query: ReportQuery, currency: str, report: Report
) -> tuple[Card, ...]:
    by_model = replace(query, by=(Dimension(Kind.MODEL),))
    total = report.total
    with open_ledgers(engines, by_model) as ledgers:
        found = details(ledgers, currency, total.counts.requests, total.cost(currency))
    return (*over_time(engines, query, currency), *found)


def _tiles(report: Report, currency: str) -> tuple[Tile, ...]:
    total, counts = report.total, report.total.counts
    cost = total.cost(currency)
    each = round(Fraction(cost * 1000, counts.requests)) if counts.requests else None
    shown = "unpriced" if total.is_unpriced else format_currency(cost, currency)
    others = [c for c in report.currencies if c != currency and total.cost(c)]
    also = ", ".join(f"and {format_currency(total.cost(c), c)}" for c in others)
    if report.adjusted and report.adjusted.entries:
        also = f"{format_usd(report.adjusted_total)} as billed, with adjustments"
    tiles = [
        Tile("Cost", shown, also or f"{counts.tokens:,} tokens"),
        Tile("Answered", f"{counts.requests:,}", f"{counts.attempts:,} attempts"),
        Tile("Per 1,000 answered", "-" if each is None else format_currency(each, currency),
             "all that was paid, by the rows that have an answer"),
        Tile("In doubt", _doubt(report), "may have been billed; not in the cost",
             alarming=counts.in_doubt_attempts > 0),
        Tile("Assumed", _assumed(report), "from the part that is in the cost to all of it",
             alarming=counts.assumed_charges > 0),
        Tile("Without a price", f"{counts.unpriced_requests:,}", "answers, not in the cost",
             alarming=counts.unpriced_requests > 0),
    ]  # fmt: skip
    return tuple(tiles)


def _doubt(report: Report) -> str:
    counts = report.total.counts
    if not counts.in_doubt_attempts:
        return "none"
    high = "?" if counts.in_doubt_unbounded else format_usd(counts.in_doubt_high)
    return f"{format_usd(counts.in_doubt_low)} to {high}"


def _assumed(report: Report) -> str:
    counts = report.total.counts
    if not counts.assumed_charges:
        return "none"
    return f"{format_usd(counts.assumed_low)} to {format_usd(counts.assumed_high)}"


def _main_currency(report: Report) -> str:
    """The one the drawings are in: USD where there is any, else the first."""
    paid = [currency for currency in report.currencies if report.total.cost(currency)]
    return USD if USD in paid or not paid else paid[0]


def _subtitle(query: ReportQuery, databases: int) -> str:
    zone = time_zone(query.timezone)
    since, until = _day_of(query.since, zone), _day_of(query.until, zone)
    said = (
        f"from {since}" if since else "",
        f"before {until}" if until else "",
        f"run {query.run}" if query.run is not None else "",
        f"from invocation {query.first_invocation} on" if query.first_invocation else "",
        f"{databases} databases" if databases > 1 else "",
        "" if since or until else "all that was ever sent",
        f"time zone {query.timezone}",
    )
    return ", ".join(part for part in said if part)


def _day_of(moment_us: int | None, zone: tzinfo) -> str:
    if moment_us is None:
        return ""
    moment = moment_of(moment_us).astimezone(zone).replace(tzinfo=None)
    return moment.isoformat(sep=" ", timespec="minutes").removesuffix(" 00:00")


def _table(report: Report, currency: str) -> Layout:
    """The dearest lines, in the report's own order."""
    if len(report.lines) <= MOST_LINES:
        return _with_short_names(lay_out(table_of(report), Detail.WIDE))
    dearest = sorted(report.lines, key=lambda line: -line.cost(currency))[:MOST_LINES]
    kept = {line.key for line in dearest}
    lines = tuple(line for line in report.lines if line.key in kept)
    return _with_short_names(lay_out(table_of(replace(report, lines=lines)), Detail.WIDE))


def _with_short_names(layout: Layout) -> Layout:
    """However long the names, the numbers stay on the screen."""
    texts = [not column.is_number for column in layout.columns]
    length = max(_NAMES_LENGTH // max(sum(texts), 1), _SHORTEST_NAME)
    columns = [
        shorten_apart(cells, length) if is_text else cells
        for is_text, cells in zip(texts, zip(*layout.rows, strict=True), strict=True)
    ] if layout.rows else []  # fmt: skip
    return replace(layout, rows=tuple(zip(*columns, strict=True)))


_ROOM: Final = "batcher.report.html"


def render_page(page: Page) -> str:
    """The HTML of `page`; the same page gives the same bytes.

    Its policy allows its own style sheet and nothing else, so that not even a text that was
    not escaped could load or run anything.
    """
    style = _text("report.css")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return _template().render(
        page=page,
        style=style,
        style_hash=digest,
        chart_width=WIDTH,
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(_text("report.html.jinja"))


def _text(name: str) -> str:
    return files(_ROOM).joinpath(name).read_text(encoding="utf-8")
