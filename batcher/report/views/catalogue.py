"""One name per view of a ledger."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from sqlalchemy import Engine

from batcher.errors import UsageError
from batcher.report.ledgers import Ledgers, open_ledgers
from batcher.report.query import ReportQuery
from batcher.report.table import Table
from batcher.report.views.cache import cache_table, prefixes_table
from batcher.report.views.costs import costs_table
from batcher.report.views.latency import latency_table
from batcher.report.views.row_costs import top_table, units_table
from batcher.report.views.waste import waste_table

TOP: Final = 20


class View(StrEnum):
    """A way to look at what was sent; all but the last two take a report's dimensions."""

    WASTE = "waste"
    CACHE = "cache"
    COSTS = "costs"
    LATENCY = "latency"
    UNITS = "units"
    TOP = "top"
    PREFIXES = "prefixes"


def view_named(word: str) -> View:
    """The view of that name; raises `UsageError` with the list of all otherwise."""
    try:
        return View(word)
    except ValueError as exc:
        words = ", ".join(View)
        raise UsageError(f"--view {word!r} is not known: use one of {words}") from exc


def look(engines: Sequence[Engine], query: ReportQuery, view: View, *, top: int = TOP) -> Table:
    """The table of `view` over all of `engines`; `top` is how many of the dearest rows.

    Raises `UsageError` like `summarise`.
    """
    with open_ledgers(engines, query) as ledgers:
        return top_table(ledgers, top) if view is View.TOP else _TABLES[view](ledgers)


_TABLES: Final[dict[View, Callable[[Ledgers], Table]]] = {
    View.WASTE: waste_table,
    View.CACHE: cache_table,
    View.COSTS: costs_table,
    View.LATENCY: latency_table,
    View.UNITS: units_table,
    View.PREFIXES: prefixes_table,
}
