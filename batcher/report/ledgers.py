"""One or several ledgers, opened to be read as one: nothing is made, nothing is changed."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Executable, RowMapping, Select, func, select

from batcher.errors import UsageError
from batcher.ledger.connect import engine_at, parse_url, place, reading, storage_errors
from batcher.ledger.migrate import require_head
from batcher.ledger.money.adjustments import Adjustment
from batcher.ledger.runs import database_uid, input_files, stored_inputs
from batcher.ledger.schema import invocations
from batcher.outputs import Guard
from batcher.report.adjusted import entries_that_stand, join_adjusted, read_adjusted
from batcher.report.figures import Adjusted, Counts, Key
from batcher.report.names import Grouping, LedgerNames, read_names
from batcher.report.query import LAST_RUN, ReportQuery, time_zone
from batcher.report.scope import RatingBound, ReportScope
from batcher.report.totals import GROUP_KEYS, Group


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
    read, stored = list(inputs), list[str]()
    for engine in engines:
        with reading(engine) as connection:
            read += input_files(connection)
            stored += stored_inputs(connection)
    files = (place(engine).path for engine in engines)
    ledgers = tuple(path for path in files if path is not None)
    return Guard(inputs=tuple(read), stored_inputs=tuple(stored), ledgers=ledgers, force=force)


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


_AT_ONCE: Final = 10_000


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


def scope_of(query: ReportQuery, names: LedgerNames) -> ReportScope:
    """What of a ledger counts. Simulated charges count only where there are no real ones.

    Raises `UsageError` for a run or a rating that is not there.
    """
    bound = _bound(query.rating, names)
    chosen = [
        invocation
        for invocation_id, invocation in names.invocations.items()
        if (query.run is None or invocation.run == query.run)
        and invocation_id >= (query.first_invocation or 0)
        and (bound is None or invocation_id <= bound.last_invocation)
    ]
    if query.run is not None and not chosen:
        raise UsageError(f"there is no run {query.run} here: `batcher status` lists all runs")
    simulated = {invocation.simulated for invocation in chosen}
    return ReportScope(
        query,
        with_simulated=simulated != {True, False},
        only_simulated=simulated == {True},
        bound=bound,
    )


def narrowed(engine: Engine, query: ReportQuery, last: str | None) -> ReportQuery:
    """The query down to what the latest processes sent, where `last` asks for the last run."""
    if last != LAST_RUN:
        return query
    run_id, first_invocation = last_run(engine)
    return replace(query, run=run_id, first_invocation=first_invocation)


def last_run(engine: Engine) -> tuple[int, int]:
    """The run that began last, and the first of the processes that did it together then.

    Raises `UsageError` where there is none.
    """
    table = invocations.c
    newest = select(invocations).order_by(table.invocation_id.desc()).limit(1)
    with reading(engine) as connection:
        last = connection.execute(newest).first()
        if last is None:
            raise UsageError("there is no run here yet: `batcher run` makes one")
        beside = select(func.min(table.invocation_id)).where(
            table.run_id == last.run_id, table.ended_at > last.started_at
        )
        first = connection.execute(beside).scalar() or last.invocation_id
    return last.run_id, min(first, last.invocation_id)


def _bound(rating: int | None, names: LedgerNames) -> RatingBound | None:
    """The ledger when `rating` was complete: a reprice at once, others before the next one.

    `None` is now: no rating is asked for, or it is still growing.
    """
    if rating is None:
        return None
    if rating not in names.price_books:
        raise UsageError(
            f"there is no rating {rating} here: batcher prices ratings lists all of them"
        )
    if rating in names.positions:
        return RatingBound(rating, names.positions[rating], adjusted_after=rating - 1)
    following = min((each for each in names.positions if each > rating), default=None)
    if following is None:
        return None
    return RatingBound(following - 1, names.positions[following], adjusted_after=following - 1)
