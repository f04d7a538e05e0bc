"""A FOCUS file as CSV, and its rows for other formats."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TextIO

from sqlalchemy import Engine

from batcher.finance.focus.columns import Grain, Version, columns_of
from batcher.finance.focus.rows import FocusRow, LeftOut, adjustment_rows, focus_rows
from batcher.report.ledgers import open_ledgers
from batcher.report.query import Dimension, Kind, ReportQuery
from batcher.report.words import SIMULATED_LEFT_OUT, SIMULATED_ONLY, count_of, csv_text


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusOptions:
    """How fine, in which version's names, and whose bill: the id of the billing account.

    Without an `account` it is the name of the endpoint.
    """

    grain: Grain = Grain.HOUR
    version: Version = Version.V1_2
    account: str | None = None


_BY: Final = (Dimension(Kind.WORKSPACE),)
# Names that people chose, and that a spreadsheet must not run.
_CHOSEN: Final = frozenset({"SubAccountId", "SubAccountName", "ChargeDescription",
                            "BillingAccountId", "BillingAccountName", "x_CustomId", "x_Job",
                            "x_Endpoint", "x_MessageId", "x_ReportedByProvider",
                            "x_StopReason"})  # fmt: skip


def write_focus(
    engines: Sequence[Engine], query: ReportQuery, options: FocusOptions, stream: TextIO
) -> tuple[str, ...]:
    """Write a header and the rows; give back the sentences about what is not in them.

    The dimensions of `query` mean nothing here. Raises `UsageError` like `summarise`.
    """
    names = columns_of(options.version)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    return give_focus(
        engines,
        query,
        options,
        lambda row: writer.writerow(_cell(name, row.get(name)) for name in names),
    )


def give_focus(
    engines: Sequence[Engine],
    query: ReportQuery,
    options: FocusOptions,
    take: Callable[[FocusRow], object],
) -> tuple[str, ...]:
    """Hand every row to `take`; otherwise like `write_focus`."""
    left_out = LeftOut()
    with open_ledgers(engines, replace(query, by=_BY)) as ledgers:
        for row in focus_rows(ledgers, options.grain, options.account, left_out):
            take(row)
        for row in adjustment_rows(ledgers, options.account):
            take(row)
        return _said(
            left_out,
            left_out_simulated=ledgers.simulated_left_out,
            simulated=ledgers.simulated_only,
        )


def _cell(name: str, value: str | None) -> str | None:
    return csv_text(value) if value is not None and name in _CHOSEN else value


def _said(left_out: LeftOut, *, left_out_simulated: bool, simulated: bool) -> tuple[str, ...]:
    unpriced = (
        f"Not in the file: {count_of(left_out.unpriced, 'charge')} without a price."
        if left_out.unpriced
        else ""
    )
    said = (
        unpriced,
        SIMULATED_LEFT_OUT if left_out_simulated else "",
        SIMULATED_ONLY if simulated else "",
    )
    return tuple(sentence for sentence in said if sentence)
