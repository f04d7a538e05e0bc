"""One or several ledgers, opened together to be read as one."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Engine, RowMapping, Select

from batcher.ledger.connect import reading
from batcher.report.figures import Counts, Key
from batcher.report.names import Directory, Grouping, read_directory
from batcher.report.open_ledger import shown
from batcher.report.query import Dimension, Kind, ReportQuery, time_zone
from batcher.report.summary import scope_of
from batcher.report.totals import GROUP_KEYS, Group, Scope

# Numbers of one database, that mean something else in another.
OWN_NUMBERS: Final = frozenset({Kind.RUN, Kind.INVOCATION})
_AT_ONCE: Final = 10_000


@dataclass(slots=True, kw_only=True)
class Ledger:
    """One ledger at one moment: what of it counts, and the names behind its ids.

    `place` is its address where several are read, else empty.
    """

    connection: Connection
    scope: Scope
    directory: Directory
    grouping: Grouping
    place: str = ""
    _keys: dict[tuple[Any, ...], Key] = field(default_factory=dict)
    _labels: dict[Key, tuple[str, ...]]

    def rows(self, statement: Select[Any]) -> Iterator[RowMapping]:
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
        own = self.grouping.key(group)
        key = placed_key(own, self.grouping.by, self.place)
        self._labels[key] = placed_label(self.grouping.label(own), self.grouping.by, self.place)
        return key


@dataclass(slots=True, kw_only=True)
class Ledgers:
    """What a view is made from. `labels` are the words for every key met so far.

    `connections` are of all ledgers in order, also of those that are left out of `each`.
    """

    query: ReportQuery
    each: tuple[Ledger, ...]
    connections: tuple[Connection, ...]
    labels: dict[Key, tuple[str, ...]]
    simulated_left_out: bool
    simulated_only: bool


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
            directory = read_directory(connection)
            found.append(
                Ledger(
                    connection=connection,
                    scope=scope_of(query, directory),
                    directory=directory,
                    grouping=Grouping(directory, query.by, zone),
                    place=shown(engine) if len(engines) > 1 else "",
                    _labels=labels,
                )
            )
        yield _together(query, found, labels)


def _together(
    query: ReportQuery, found: list[Ledger], labels: dict[Key, tuple[str, ...]]
) -> Ledgers:
    used = [each for each in found if each.directory.invocations]
    real = [each for each in used if not each.scope.only_simulated]
    return Ledgers(
        query=query,
        each=tuple(real or used),
        connections=tuple(each.connection for each in found),
        labels=labels,
        simulated_left_out=len(real) not in {0, len(used)}
        or any(not each.scope.with_simulated for each in real),
        simulated_only=bool(used) and not real,
    )


def placed_key(key: Key, by: tuple[Dimension, ...], place: str) -> Key:
    """`key` with the numbers of one database made unmistakable, where `place` is not empty."""
    if not place:
        return key
    return tuple(
        f"{place}#{part}" if dimension.kind in OWN_NUMBERS else part
        for dimension, part in zip(by, key, strict=True)
    )


def placed_label(
    label: tuple[str, ...], by: tuple[Dimension, ...], place: str
) -> tuple[str, ...]:
    """`label` with the database's address before what only it knows."""
    if not place:
        return label
    return tuple(
        f"{place} {part}" if dimension.kind in OWN_NUMBERS else part
        for dimension, part in zip(by, label, strict=True)
    )
