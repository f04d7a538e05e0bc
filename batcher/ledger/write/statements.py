"""The statements of the hot path: compiled once, then run by the driver.

SQLAlchemy builds the SQL; going through `Connection.execute` for every batch would cost more
than the inserts themselves.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from sqlalchemy import Column, Connection, Dialect, LargeBinary, Table
from sqlalchemy.sql.dml import Insert

from batcher.ledger.schema import answers, attempts, charges, failures
from batcher.ledger.schema_internal import unusable_bodies

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

Values = Sequence[Any]

INTENT: Final = (
    "attempt_id", "attempt_uid", "invocation_id", "request_id", "source_id", "row_number",
    "byte_offset", "custom_id", "params_hash", "number", "leg", "purpose", "lane",
    "requested_model", "state", "pending", "opened_at", "cost_low", "cost_high",
    "batch_number", "cache_prefix", "cache_note",
)  # fmt: skip
SETTLED: Final = (
    "state", "pending", "sent_at", "settled_at", "http_status", "error_type", "error_code",
    "error_message", "provider_request_id", "cost_low", "cost_high", "workspace_id",
    "b_attempt_id",
)  # fmt: skip
ANSWER: Final = tuple(column.name for column in answers.columns)
CHARGE: Final = tuple(column.name for column in charges.columns)
FAILURE: Final = tuple(c.name for c in failures.columns if c.name != "failure_id")

# SQLite's driver lets go of the interpreter's lock at every step of a statement, and waits
# milliseconds to get it back from the busy event loop. So all rows go into one step, filled up
# with rows of nothing to one of a few sizes: prepared statements are kept, but not hundreds.
_SIZES: Final = (1, 4, 16, 32, 64)
_JSON_ROWS: Final = 128  # at a time, for the sake of memory
_JSON_BYTES: Final = 2**24  # in one text, unless a single row is larger
# As bytes, which the driver hands on without a copy.
_ROWS: Final = "convert_from(%(rows)b, 'UTF8')::json"
_encode: Final = msgspec.json.Encoder().encode  # bytes become base64


class Statement(Protocol):
    """One kind of change, for many rows at once."""

    def run(self, connection: Connection, rows: Iterable[Values]) -> None:
        """Apply it to `rows`, values in the statement's own order; nothing without rows."""


class Each:
    """See `Statement`: the statement once per row, by `executemany`."""

    def __init__(self, clause: Insert, names: Sequence[str], dialect: Dialect) -> None:
        compiled = clause.compile(dialect=dialect, column_keys=list(names))
        self._sql = str(compiled)
        self._names = None if compiled.positional else tuple(names)
        if compiled.positiontup and tuple(compiled.positiontup) != tuple(names):
            raise ValueError(f"the values must come in the order {compiled.positiontup}")

    def run(self, connection: Connection, rows: Iterable[Values]) -> None:
        """See `Statement.run`."""
        names = self._names
        if names is None:
            parameters: list[Any] = [tuple(row) for row in rows]
        else:
            parameters = [dict(zip(names, row, strict=True)) for row in rows]
        if parameters:
            connection.exec_driver_sql(self._sql, parameters)


class ManyRows:
    """See `Statement`: many rows in one statement, for SQLite.

    `sql` holds `{rows}` where the lists of `width` placeholders go, and passes over rows whose
    values are all NULL.
    """

    def __init__(self, sql: str, width: int) -> None:
        row = f"({', '.join('?' * width)})"
        self._by_size = [(n, sql.format(rows=", ".join([row] * n))) for n in _SIZES]
        self._nothing = (None,) * width

    def run(self, connection: Connection, rows: Iterable[Values]) -> None:
        """See `Statement.run`."""
        waiting = list(rows)
        for start in range(0, len(waiting), _SIZES[-1]):
            now = waiting[start : start + _SIZES[-1]]
            size, sql = next(choice for choice in self._by_size if choice[0] >= len(now))
            now.extend([self._nothing] * (size - len(now)))
            connection.exec_driver_sql(sql, tuple(chain.from_iterable(now)))


class AsJson:
    """See `Statement`: many rows as one JSON text, for PostgreSQL, which takes them apart.

    Handing over each value for itself costs this process five times as much. `sql` holds
    `{rows}` where the rows go, as a table of the columns `names` of `table`.
    """

    def __init__(self, sql: str, table: Table, names: Sequence[str], dialect: Dialect) -> None:
        listed = ", ".join(f"{name} {_json_type(name, table, dialect)}" for name in names)
        self._sql = sql.format(rows=f"json_to_recordset({_ROWS}) AS new ({listed})")
        self._names = names

    def run(self, connection: Connection, rows: Iterable[Values]) -> None:
        """See `Statement.run`."""
        names, waiting = self._names, list(rows)
        for start in range(0, len(waiting), _JSON_ROWS):
            now = waiting[start : start + _JSON_ROWS]
            self._run(connection, [dict(zip(names, row, strict=True)) for row in now])

    def _run(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        text = _encode(rows)
        if len(text) > _JSON_BYTES and len(rows) > 1:
            half = len(rows) // 2
            self._run(connection, rows[:half])
            self._run(connection, rows[half:])
        else:
            connection.exec_driver_sql(self._sql, {"rows": text})


class HotPath:
    """All statements of the writer's batches, for one database."""

    def __init__(self, dialect: Dialect) -> None:
        self.intent = _insert(attempts, INTENT, dialect)
        self.settled = update_by_key(attempts, SETTLED, dialect)
        self.superseded = update_by_key(attempts, ("pending", "b_attempt_id"), dialect)
        self.answer = _insert(answers, ANSWER, dialect)
        self.charge = _insert(charges, CHARGE, dialect)
        self.failure = Each(_failure(dialect), FAILURE, dialect)
        self.unusable = Each(unusable_bodies.insert(), ("attempt_id", "body"), dialect)


def _insert(table: Table, names: Sequence[str], dialect: Dialect) -> Statement:
    if dialect.name == "sqlite":
        listed = ", ".join(names)
        sql = (
            f"WITH new ({listed}) AS (VALUES {{rows}}) "  # noqa: S608 - names of ours
            f"INSERT INTO {table.name} ({listed}) "
            f"SELECT * FROM new WHERE {names[0]} IS NOT NULL"
        )
        return ManyRows(sql, len(names))
    chosen = ", ".join(_from_json(name, table) for name in names)
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {chosen} FROM {{rows}}"  # noqa: S608 - names of ours
    return AsJson(sql, table, names, dialect)


def _column(name: str, table: Table) -> Column[Any]:
    return table.columns[name.removeprefix("b_")]


def _is_binary(column: Column[Any]) -> bool:
    return isinstance(column.type, LargeBinary)


def _json_type(name: str, table: Table, dialect: Dialect) -> str:
    column = _column(name, table)
    return "TEXT" if _is_binary(column) else column.type.compile(dialect)


def _from_json(name: str, table: Table) -> str:
    return f"decode({name}, 'base64')" if _is_binary(_column(name, table)) else name


def update_by_key(table: Table, names: Sequence[str], dialect: Dialect) -> Statement:
    """Sets the columns `names`; the last of them names the key with `b_` before it."""
    key = names[-1].removeprefix("b_")
    where = f"WHERE {table.name}.{key} = new.{names[-1]}"
    changes = ", ".join(f"{name} = new.{name}" for name in names[:-1])
    if dialect.name == "sqlite":
        return ManyRows(
            f"WITH new ({', '.join(names)}) AS (VALUES {{rows}}) "  # noqa: S608 - names of ours
            f"UPDATE {table.name} SET {changes} FROM new {where}",
            len(names),
        )
    sql = f"UPDATE {table.name} SET {changes} FROM {{rows}} {where}"  # noqa: S608 - names of ours
    return AsJson(sql, table, names, dialect)


def insert_into(table: Table, dialect: Dialect) -> "postgresql.Insert | sqlite.Insert":
    """A statement that inserts, and may say what happens to what is there already."""
    if dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415 - slow to import

        return insert(table)
    from sqlalchemy.dialects.sqlite import insert as insert_into_file  # noqa: PLC0415

    return insert_into_file(table)


def _failure(dialect: Dialect) -> Insert:
    """A row has one failure: the last one wins, also when a crash made us see it twice."""
    insert = insert_into(failures, dialect)
    changed = {name: insert.excluded[name] for name in FAILURE}
    return insert.on_conflict_do_update(
        index_elements=["source_id", "row_number"], set_=changed
    )
