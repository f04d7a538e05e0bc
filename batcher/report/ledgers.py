"""One or several ledgers, opened to be read as one: nothing is made, nothing is changed.

And what reconciliations recorded in them, as a report shows it: by its dimensions, in its
window.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, Executable, RowMapping, Select, func, or_, select

from batcher.clock import microseconds
from batcher.errors import StorageError, UsageError
from batcher.ledger.connect import engine_at, parse_url, place, reading, storage_errors
from batcher.ledger.migrate import require_head
from batcher.ledger.money.adjustments import (
    Adjustment,
    Reconciliation,
    effective,
    read_adjustments,
    read_reconciliations,
)
from batcher.ledger.runs import COMMAND_UID, database_uid, input_files, stored_inputs
from batcher.ledger.schema import invocations, sources
from batcher.outputs import Guard
from batcher.report.figures import Adjusted, AdjustedLine, Counts, Key, sort_key
from batcher.report.names import Grouping, LedgerNames, bucket, read_names, scope_of
from batcher.report.query import LAST_RUN, Dimension, Kind, ReportQuery, time_zone
from batcher.report.scope import ReportScope
from batcher.report.totals import GROUP_KEYS, Group

_T = TypeVar("_T", Key, str)
_NOON: Final = time(12, tzinfo=UTC)


_AT_ONCE: Final = 10_000


@contextmanager
def ledger_to_read(url: str) -> Iterator[Engine]:
    """A read-only engine for the ledger at `url`, closed at the end.

    Raises `UsageError` when there is no such file, `SchemaVersionError` when the ledger is
    older or newer than this program, `StorageError` when it holds no ledger or cannot be read.
    """
    where = parse_url(url)
    if where.path is not None and not where.path.is_file():
        raise UsageError(
            f"there is no database {where.shown}: `batcher run` makes one, or name another with"
            " --database"
        )
    with engine_at(url, read_only=True) as engine:
        require_head(engine)
        with storage_errors(url):
            yield engine


def shown(engine: Engine) -> str:
    """The ledger's address, safe to print."""
    return place(engine).shown


def ledger_name(engine: Engine) -> str:
    """The ledger's name for people who are sent a page: its file's, or its database's."""
    where = place(engine)
    return where.path.name if where.path is not None else str(engine.url.database)


@contextmanager
def ledgers_to_read(urls: Sequence[str]) -> Iterator[tuple[Engine, ...]]:
    """Read-only engines for several ledgers, in order.

    Raises like `ledger_to_read`, and `UsageError` when two are the same ledger, or copies of
    it: then its money would count twice.
    """
    with ExitStack() as stack:
        engines = tuple(stack.enter_context(ledger_to_read(url)) for url in urls)
        if len(engines) > 1:
            _require_different(engines)
        yield engines


def guard_of(
    engines: Sequence[Engine], *, force: bool = False, inputs: Sequence[Path] = ()
) -> Guard:
    """What a file written from these ledgers may not replace: they, and the inputs of runs.

    `inputs` are what else is read.
    """
    read, stored, seen = list(inputs), list[str](), set[str]()
    for engine in engines:
        with reading(engine) as connection:
            read += input_files(connection)
            stored += stored_inputs(connection)
            seen.update(connection.scalars(select(sources.c.fingerprint).distinct()))
    files = (place(engine).path for engine in engines)
    ledgers = tuple(path for path in files if path is not None)
    return Guard(
        inputs=tuple(read),
        stored_inputs=tuple(stored),
        ledgers=ledgers,
        force=force,
        was_read=partial(_was_read, seen),
    )


def _was_read(seen: Set[str], file: Path) -> bool:
    """Whether it is what a run has read, renamed or moved since."""
    from batcher.rows.read.source import fingerprint  # noqa: PLC0415 - only where a file is there

    with suppress(StorageError):
        return fingerprint(file) in seen
    return False


def _require_different(engines: Sequence[Engine]) -> None:
    known: dict[str, str] = {}
    for engine in engines:
        with reading(engine) as connection:
            uid = database_uid(connection)
        if uid in known:
            raise UsageError(
                f"{known[uid]} and {shown(engine)} are the same ledger, or copies of it: its"
                " money would count twice"
            )
        known[uid] = shown(engine)


@dataclass(slots=True, kw_only=True)
class OpenLedger:
    """One ledger at one moment: what of it counts, and the names behind its ids.

    `place` is its address where several are read, else empty.
    """

    connection: Connection
    scope: ReportScope
    names: LedgerNames
    grouping: Grouping
    place: str = ""
    _keys: dict[tuple[Any, ...], Key] = field(default_factory=dict)
    _labels: dict[Key, tuple[str, ...]]

    def rows(self, statement: Executable) -> Iterator[RowMapping]:
        """The records of `statement`, a bounded number at a time."""
        options = {"yield_per": _AT_ONCE}
        yield from self.connection.execute(statement, execution_options=options).mappings()

    def keyed(self, statement: Select[Any]) -> Iterator[tuple[Key, Sequence[Any]]]:
        """The records of `statement`, each with its key: for very many of them."""
        result = self.connection.execute(statement, execution_options={"yield_per": _AT_ONCE})
        names = list(result.keys())
        places = [names.index(name) for name in GROUP_KEYS if name in names]
        known: dict[tuple[Any, ...], Key] = {}
        for row in result:
            ids = tuple([row[place] for place in places])
            if ids not in known:
                known[ids] = self.key(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
            yield known[ids], row

    def key(self, row: RowMapping) -> Key:
        """The key of a record that has the columns of `answer_keys` or `attempt_keys`."""
        ids = tuple(row.get(name) for name in GROUP_KEYS)
        if ids not in self._keys:
            self._keys[ids] = self._named(row)
        return self._keys[ids]

    def _named(self, row: RowMapping) -> Key:
        ids = {name: row[name] for name in GROUP_KEYS if name in row}
        return self.key_of(Group(**ids, counts=Counts()))

    def key_of(self, group: Group) -> Key:
        """The key of a group; what it has beyond the dimensions does not matter."""
        key, label = self.grouping.line(group)
        self._labels[key] = label
        return key


@dataclass(slots=True, kw_only=True)
class Ledgers:
    """What a report is made from. `labels` are the words for every key met so far.

    `opened` are all ledgers in order, `each` those of them whose charges count.
    """

    query: ReportQuery
    opened: tuple[OpenLedger, ...]
    each: tuple[OpenLedger, ...]
    labels: dict[Key, tuple[str, ...]]
    simulated_left_out: bool
    simulated_only: bool

    def adjusted(self) -> Adjusted | None:
        """What reconciliations recorded about the same money; `None` for a run.

        Also in a ledger without charges: it may keep the adjustments of the others.
        """
        return join_adjusted(
            read_adjusted(each.connection, each.scope) for each in self._about_the_same()
        )

    def entries(self) -> tuple[Adjustment, ...]:
        """The adjustments themselves; none for a run."""
        if self.query.run is not None:
            return ()
        return tuple(
            entry
            for each in self._about_the_same()
            for entry in entries_that_stand(each.connection, each.scope)
        )

    def _about_the_same(self) -> list[OpenLedger]:
        return [
            each for each in self.opened if each.scope.only_simulated == self.simulated_only
        ]


@contextmanager
def open_ledgers(engines: Sequence[Engine], query: ReportQuery) -> Iterator[Ledgers]:
    """All of `engines`, each at one moment, with what of them `query` asks for.

    Ledgers with simulated charges only are left out where another has real ones. Raises
    `UsageError` like `summarise`.
    """
    zone = time_zone(query.timezone)
    labels: dict[Key, tuple[str, ...]] = {}
    with ExitStack() as stack:
        found = []
        for engine in engines:
            connection = stack.enter_context(reading(engine))
            names = read_names(connection)
            place = shown(engine) if len(engines) > 1 else ""
            found.append(
                OpenLedger(
                    connection=connection,
                    scope=scope_of(query, names),
                    names=names,
                    grouping=Grouping(names, query.by, zone, place),
                    place=place,
                    _labels=labels,
                )
            )
        yield _together(query, found, labels)


def _together(
    query: ReportQuery, found: list[OpenLedger], labels: dict[Key, tuple[str, ...]]
) -> Ledgers:
    used = [each for each in found if each.names.invocations]
    real = [each for each in used if not each.scope.only_simulated]
    return Ledgers(
        query=query,
        opened=tuple(found),
        each=tuple(real or used),
        labels=labels,
        simulated_left_out=len(real) not in {0, len(used)}
        or any(not each.scope.with_simulated for each in real),
        simulated_only=bool(used) and not real,
    )


def narrowed(engine: Engine, query: ReportQuery, last: str | None) -> ReportQuery:
    """The query down to what the latest processes sent, where `last` asks for the last run."""
    if last != LAST_RUN:
        return query
    run_id, first_invocation = last_run(engine)
    return replace(query, run=run_id, first_invocation=first_invocation)


def last_run(engine: Engine) -> tuple[int, int]:
    """The run that began last, and the first invocation of its command, or of those beside it.

    Raises `UsageError` where there is none.
    """
    table = invocations.c
    newest = select(invocations).order_by(table.invocation_id.desc()).limit(1)
    with reading(engine) as connection:
        last = connection.execute(newest).first()
        if last is None:
            raise UsageError("there is no run here yet: `batcher run` makes one")
        belongs = table.ended_at > last.started_at
        if uid := msgspec.json.decode(last.options).get(COMMAND_UID):
            belongs = or_(belongs, table.options.contains(f'"{COMMAND_UID}":"{uid}"'))
        beside = select(func.min(table.invocation_id)).where(
            table.run_id == last.run_id, belongs
        )
        first = connection.execute(beside).scalar() or last.invocation_id
    return last.run_id, min(first, last.invocation_id)


def read_adjusted(connection: Connection, scope: ReportScope) -> Adjusted | None:
    """The adjustments that belong to `scope`; `None` for a run: whole days are reconciled.

    A UTC day counts as its noon: that is the same date almost everywhere.
    """
    query = scope.query
    if query.run is not None:
        return None
    found = entries_that_stand(connection, scope)
    known = [each for each in read_reconciliations(connection) if _was_there(each, scope)]
    days = {day for each in known for day in each.days if _in_window(day, query)}
    told = [each.author for each in known if days.intersection(each.days)]
    return Adjusted(
        lines=_adjusted_lines((_adjusted_key(each, query), 1, each.amount) for each in found),
        causes=_causes((_cause_of(each), 1, each.amount) for each in found),
        days=tuple(sorted(days)),
        last=max(((author.at, author.name) for author in told), default=None),
    )


def entries_that_stand(connection: Connection, scope: ReportScope) -> tuple[Adjustment, ...]:
    """Those of the window that nobody took back."""
    there = (each for each in read_adjustments(connection) if _was_there(each, scope))
    return tuple(
        each for each in effective(there) if _in_window(each.residual.place.day, scope.query)
    )


def join_adjusted(parts: Iterable[Adjusted | None]) -> Adjusted | None:
    """Those of several ledgers together."""
    parts = tuple(parts)
    found = [each for each in parts if each is not None]
    if len(found) < len(parts):
        return None
    return Adjusted(
        lines=_adjusted_lines(
            (line.key, line.entries, line.amount) for each in found for line in each.lines
        ),
        causes=_causes(cause for each in found for cause in each.causes),
        days=tuple(sorted({day for each in found for day in each.days})),
        last=max((each.last for each in found if each.last is not None), default=None),
    )


def _was_there(recorded: Adjustment | Reconciliation, scope: ReportScope) -> bool:
    """Whether it is about the same money, and existed when the scope's rating was complete."""
    if recorded.simulated != scope.only_simulated:
        return False
    return scope.bound is None or recorded.after_rating <= scope.bound.adjusted_after


def _in_window(day: str, query: ReportQuery) -> bool:
    moment = _noon(day)
    return (query.since is None or moment >= query.since) and (
        query.until is None or moment < query.until
    )


def _noon(day: str) -> int:
    return microseconds(datetime.combine(date.fromisoformat(day), _NOON))


def _adjusted_key(entry: Adjustment, query: ReportQuery) -> Key:
    return tuple(_adjusted_part(entry, dimension, query.timezone) for dimension in query.by)


def _adjusted_part(entry: Adjustment, dimension: Dimension, timezone: str) -> str | None:
    place = entry.residual.place
    match dimension.kind:
        case Kind.MODEL:
            return place.model
        case Kind.ENDPOINT:
            return entry.endpoint
        case Kind.DAY | Kind.WEEK | Kind.MONTH:
            return bucket(dimension.kind, _noon(place.day), time_zone(timezone))
        case _:
            return None  # nobody tells of it


def _cause_of(entry: Adjustment) -> str:
    return entry.residual.cause.partition(":")[0]


def _adjusted_lines(parts: Iterable[tuple[Key, int, int]]) -> tuple[AdjustedLine, ...]:
    sums = _summed(parts)
    return tuple(
        AdjustedLine(key=key, entries=sums[key][0], amount=sums[key][1])
        for key in sorted(sums, key=sort_key)
    )


def _causes(parts: Iterable[tuple[str, int, int]]) -> tuple[tuple[str, int, int], ...]:
    sums = _summed(parts)
    return tuple((cause, *sums[cause]) for cause in sorted(sums))


def _summed(parts: Iterable[tuple[_T, int, int]]) -> dict[_T, tuple[int, int]]:
    sums: dict[_T, tuple[int, int]] = {}
    for name, entries, amount in parts:
        before = sums.get(name, (0, 0))
        sums[name] = (before[0] + entries, before[1] + amount)
    return sums
