"""One name per view of a ledger."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, assert_never

from sqlalchemy import Engine

from batcher.report.ledgers import open_ledgers
from batcher.report.query import ReportQuery
from batcher.report.sheet import Sheet
from batcher.report.views.cache import cache_sheet
from batcher.report.views.costs import costs_sheet
from batcher.report.views.latency import latency_sheet
from batcher.report.views.top import top_sheet
from batcher.report.views.units import units_sheet
from batcher.report.views.waste import waste_sheet

TOP: Final = 20


class View(StrEnum):
    """A way to look at what was sent; each takes the dimensions of a report but `TOP`."""

    WASTE = "waste"
    CACHE = "cache"
    COSTS = "costs"
    LATENCY = "latency"
    UNITS = "units"
    TOP = "top"


def look(engines: Sequence[Engine], query: ReportQuery, view: View, *, top: int = TOP) -> Sheet:
    """The sheet of `view` over all of `engines`; `top` is how many of the dearest rows.

    Raises `UsageError` like `summarise`.
    """
    with open_ledgers(engines, query) as ledgers:
        match view:
            case View.WASTE:
                return waste_sheet(ledgers)
            case View.CACHE:
                return cache_sheet(ledgers)
            case View.COSTS:
                return costs_sheet(ledgers)
            case View.LATENCY:
                return latency_sheet(ledgers)
            case View.UNITS:
                return units_sheet(ledgers)
            case View.TOP:
                return top_sheet(ledgers, top)
            case _:
                assert_never(view)
