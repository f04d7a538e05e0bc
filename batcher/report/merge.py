"""One report over several ledgers; nothing is counted twice, nothing mixed up."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Engine

from batcher.report.adjusted import join_adjusted
from batcher.report.figures import (
    Key,
    Reason,
    Report,
    ReportLine,
    Sums,
    currencies_of,
    sort_key,
    total_of,
)
from batcher.report.ledgers import placed_key, placed_label
from batcher.report.open_ledger import shown
from batcher.report.query import ReportQuery
from batcher.report.summary import summarise


def summarise_all(engines: Sequence[Engine], query: ReportQuery) -> Report:
    """The report over all of `engines`; for one it is `summarise`.

    Lines of the same key are added up; runs and invocations, whose numbers are a database's
    own, stay apart and carry its address. A ledger that holds only simulated charges is left
    out where another holds real ones. Raises `UsageError` like `summarise`.
    """
    if len(engines) == 1:
        return summarise(engines[0], query)
    reports = [(shown(engine), summarise(engine, query)) for engine in engines]
    used = [(place, report) for place, report in reports if report.lines]
    real = [(place, report) for place, report in used if not report.simulated_only]
    chosen = real or used
    simulated = bool(used) and not real
    lines = _together([_placed(report, place) for place, report in chosen])
    return Report(
        query=query,
        lines=lines,
        total=total_of(lines),
        currencies=currencies_of(lines),
        price_books=tuple(sorted({book for _, each in chosen for book in each.price_books})),
        unpriced=_reasons(each.unpriced for _, each in chosen),
        assumed=_reasons(each.assumed for _, each in chosen),
        simulated_left_out=len(chosen) < len(used)
        or any(each.simulated_left_out for _, each in chosen),
        simulated_only=simulated,
        # Also of a ledger without charges: it may keep the adjustments of the others.
        adjusted=join_adjusted(
            each.adjusted for _, each in reports if each.simulated_only == simulated
        ),
    )


def _placed(report: Report, place: str) -> list[ReportLine]:
    by = report.query.by
    return [
        replace(
            line,
            key=placed_key(line.key, by, place),
            label=placed_label(line.label, by, place),
        )
        for line in report.lines
    ]


def _together(groups: Iterable[list[ReportLine]]) -> tuple[ReportLine, ...]:
    sums: dict[Key, Sums] = {}
    for line in (line for lines in groups for line in lines):
        found = sums.setdefault(line.key, Sums(line.label))
        found.add(line.counts)
        for currency, amount in line.costs:
            found.costs[currency] = found.costs.get(currency, 0) + amount
    return tuple(sums[key].line(key) for key in sorted(sums, key=sort_key))


def _reasons(groups: Iterable[tuple[Reason, ...]]) -> tuple[Reason, ...]:
    counts: dict[tuple[str, str | None], int] = {}
    for reason in (reason for reasons in groups for reason in reasons):
        key = (reason.text, reason.model)
        counts[key] = counts.get(key, 0) + reason.charges
    found = [Reason(text=text, model=model, charges=n) for (text, model), n in counts.items()]
    return tuple(sorted(found, key=lambda each: (-each.charges, each.text, each.model or "")))
