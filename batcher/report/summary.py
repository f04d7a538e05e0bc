"""From ledgers to a report: a short read-only transaction each, then a little arithmetic."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Engine

from batcher.report.figures import (
    USD,
    ChargeReason,
    Key,
    LineSums,
    Report,
    ReportLine,
    currencies_of,
    sort_key,
    total_of,
)
from batcher.report.ledgers import Ledgers, OpenLedger, open_ledgers
from batcher.report.query import Dimension, ReportQuery
from batcher.report.totals import Group, read_groups, read_reasons

_Reasons = tuple[ChargeReason, ...]


def summarise(engines: Sequence[Engine], query: ReportQuery) -> Report:
    """The report over all of `engines`; works while a run is on, and sees one moment of each.

    Everything that was paid counts, also answers that came late or belong to an older version
    of a file. Charges of simulated endpoints are left out when there are real ones beside them.
    Over several ledgers lines of the same key are added up; runs and invocations, whose numbers
    are a database's own, stay apart and carry its address. Raises `UsageError` for a run or a
    rating that is not there and for an unknown time zone.
    """
    with open_ledgers(engines, query) as ledgers:
        groups = [tuple(read_groups(each.connection, each.scope)) for each in ledgers.each]
        read = list(zip(ledgers.each, groups, strict=True))
        lines = _lines(ledgers, read, query.by)
        unpriced, assumed = _reasons(read)
        return Report(
            query=query,
            lines=lines,
            total=total_of(lines),
            currencies=currencies_of(lines),
            price_books=_price_books(read),
            unpriced=unpriced,
            assumed=assumed,
            simulated_left_out=ledgers.simulated_left_out,
            simulated_only=bool(lines) and ledgers.simulated_only,
            adjusted=ledgers.adjusted(),
        )


_Read = list[tuple[OpenLedger, tuple[Group, ...]]]


def _lines(ledgers: Ledgers, read: _Read, by: tuple[Dimension, ...]) -> tuple[ReportLine, ...]:
    """Each bucket of time after the one before, what costs most first within it."""
    sums: dict[Key, LineSums] = {}
    for ledger, group in ((ledger, group) for ledger, groups in read for group in groups):
        key = ledger.key_of(group)
        found = sums.setdefault(key, LineSums(ledgers.labels[key]))
        found.add(group.counts, group.currency, group.amount)
    lines = [sums[key].line(key) for key in sorted(sums, key=sort_key)]
    times = [place for place, dimension in enumerate(by) if dimension.kind.is_time]

    def by_cost(line: ReportLine) -> tuple[Any, ...]:
        return (sort_key(tuple(line.key[place] for place in times)), -line.cost(USD))

    return tuple(sorted(lines, key=by_cost))


def _price_books(read: _Read) -> tuple[str, ...]:
    return tuple(
        sorted(
            {
                ledger.names.price_books[group.rating_id]
                for ledger, groups in read
                for group in groups
                if group.rating_id is not None
            }
        )
    )


def _reasons(read: _Read) -> tuple[_Reasons, _Reasons]:
    """Why charges are unpriced, and what others assume; most frequent first."""
    found = [
        read_reasons(ledger.connection, ledger.scope)
        for ledger, groups in read
        if any(g.counts.unpriced_requests or g.counts.assumed_charges for g in groups)
    ]
    return _together(unpriced for unpriced, _ in found), _together(each for _, each in found)


def _together(several: Iterable[_Reasons]) -> _Reasons:
    counts: dict[tuple[str, str | None], int] = {}
    for reason in (reason for reasons in several for reason in reasons):
        key = (reason.text, reason.model)
        counts[key] = counts.get(key, 0) + reason.charges
    found = [
        ChargeReason(text=text, model=model, charges=n) for (text, model), n in counts.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.charges, each.text, each.model or "")))
