"""From a ledger to a report: one short read-only transaction, then a little arithmetic."""

from collections.abc import Iterable

from sqlalchemy import Engine

from batcher.errors import UsageError
from batcher.ledger.connect import reading
from batcher.report.adjusted import read_adjusted
from batcher.report.figures import (
    Key,
    Report,
    ReportLine,
    Sums,
    currencies_of,
    sort_key,
    total_of,
)
from batcher.report.names import Directory, Grouping, read_directory
from batcher.report.query import ReportQuery, time_zone
from batcher.report.scope import Bound, Scope
from batcher.report.totals import Group, read_groups, read_reasons


def summarise(engine: Engine, query: ReportQuery) -> Report:
    """The report that `query` asks for; works while a run is on, and sees one moment of it.

    Everything that was paid counts, also answers that came late or belong to an older version
    of a file. Charges of simulated endpoints are left out when there are real ones beside them.
    Raises `UsageError` for a run that is not there and for an unknown time zone.
    """
    zone = time_zone(query.timezone)
    with reading(engine) as connection:
        directory = read_directory(connection)
        scope = scope_of(query, directory)
        groups = tuple(read_groups(connection, scope))
        unclear = any(g.counts.unpriced_requests or g.counts.assumed_charges for g in groups)
        unpriced, assumed = read_reasons(connection, scope) if unclear else ((), ())
        adjusted = read_adjusted(connection, scope)
    lines = _lines(groups, Grouping(directory, query.by, zone))
    return Report(
        query=query,
        lines=lines,
        total=total_of(lines),
        currencies=currencies_of(lines),
        price_books=_price_books(groups, directory),
        unpriced=unpriced,
        assumed=assumed,
        simulated_left_out=not scope.with_simulated,
        simulated_only=bool(lines) and scope.only_simulated,
        adjusted=adjusted,
    )


def scope_of(query: ReportQuery, directory: Directory) -> Scope:
    """What of a ledger counts. Simulated charges count only where there are no real ones.

    Raises `UsageError` for a run or a rating that is not there.
    """
    bound = _bound(query.rating, directory)
    chosen = [
        invocation
        for invocation_id, invocation in directory.invocations.items()
        if (query.run is None or invocation.run == query.run)
        and (bound is None or invocation_id <= bound.last_invocation)
    ]
    if query.run is not None and not chosen:
        raise UsageError(f"there is no run {query.run} here: `batcher status` lists all runs")
    simulated = {invocation.simulated for invocation in chosen}
    return Scope(
        query,
        with_simulated=simulated != {True, False},
        only_simulated=simulated == {True},
        bound=bound,
    )


def _bound(rating: int | None, directory: Directory) -> Bound | None:
    """The ledger when `rating` was complete: a reprice at once, others before the next one.

    `None` is now: no rating is asked for, or it is still growing.
    """
    if rating is None:
        return None
    if rating not in directory.price_books:
        raise UsageError(
            f"there is no rating {rating} here: batcher prices ratings lists all of them"
        )
    if rating in directory.positions:
        return Bound(rating, directory.positions[rating], adjusted_after=rating - 1)
    following = min((each for each in directory.positions if each > rating), default=None)
    if following is None:
        return None
    return Bound(following - 1, directory.positions[following], adjusted_after=following - 1)


def _lines(groups: Iterable[Group], grouping: Grouping) -> tuple[ReportLine, ...]:
    sums: dict[Key, Sums] = {}
    for group in groups:
        key = grouping.key(group)
        if key not in sums:
            sums[key] = Sums(grouping.label(key))
        sums[key].add(group.counts, group.currency, group.amount)
    return tuple(sums[key].line(key) for key in sorted(sums, key=sort_key))


def _price_books(groups: Iterable[Group], directory: Directory) -> tuple[str, ...]:
    used = {group.rating_id for group in groups if group.rating_id is not None}
    return tuple(sorted({directory.price_books[rating] for rating in used}))
