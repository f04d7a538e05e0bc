"""Connections to PostgreSQL that need no session of it.

A pooler such as PgBouncer may give each transaction another session of the server, and a
session to other applications afterwards. So nothing is set on one: a transaction's settings
come with its BEGIN and end with it, no lock outlives its transaction, and no statement is
prepared.
"""

import re
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError

from batcher.errors import ConfigurationError

BEGIN: Final = "batcher_begin"
# Options of connections: after how many milliseconds in which we say nothing the server ends a
# transaction, whose locks others may wait for; and whether many rows do not go through the
# driver's pipeline. At its end the server gets a Flush after the Sync, and forgets to watch how
# long we idle.
MOST_IDLE: Final = "batcher_most_idle"
ONE_BY_ONE: Final = "batcher_one_by_one"
# Every statement of the transaction sees the same state.
BEGIN_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
SCHEMA: Final = "schema"  # the one parameter of a URL that is ours

_BEGIN_WRITING: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
_MOST_IDLE_MS: Final = 900_000  # somebody who computes long inside of a transaction
_LONGEST_NAME: Final = 63  # bytes
# A dead machine is noticed after 25 s, not after the system's two hours.
_KEEPALIVE: Final = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",  # the same for bytes on their way, in milliseconds
    "client_encoding": "utf8",
}
_NUMBERS: Final = _KEEPALIVE.keys() - {"client_encoding"}
# How the driver, libpq and the server word a parameter that they do not understand; no code.
_NOT_UNDERSTOOD: Final = re.compile(
    r"invalid [\w ]*(option|value|number|parameter|integer)|bad value|requires a value|"
    r"unrecognized configuration parameter|unsupported startup parameter|weak sslmode|"
    r"could not match \d|could not parse network address|definition of service|service file|"
    r"invalid \"\w+\" value",
    re.IGNORECASE,
)


def open_server(url: URL, shown: str, *, our_name: str, read_only: bool) -> Engine:
    """An engine for the server at `url`, called `shown` in sentences; nothing is connected yet.

    `our_name` is who we are for others who use it.

    Raises:
        ConfigurationError: the driver is missing, or does not know a parameter of the URL.
    """
    ours: dict[str, Any] = _KEEPALIVE | {"application_name": our_name}
    given = {name: value for name, value in ours.items() if name not in url.query}
    schema = schema_of(url)
    try:
        engine = create_engine(url, connect_args=given, use_native_hstore=False)
        _check_names(url)
    except ImportError as error:
        raise ConfigurationError(
            f"the database {shown} needs the PostgreSQL driver: type"
            " pip install 'messages-batcher[postgres]'"
        ) from error
    except (ArgumentError, ValueError) as error:
        raise _not_understood(shown, error) from error
    usual = BEGIN_READING if read_only else _BEGIN_WRITING
    event.listen(
        engine, "do_connect", lambda dialect, _, __, how: _connect(dialect, how, shown)
    )
    event.listen(engine, "begin", lambda begun: _begin(begun, usual, schema))
    event.listen(engine, "do_executemany", _execute_one_by_one)
    return engine


def schema_of(url: URL) -> str | None:
    """The schema that the ledger is in; `None`: what the server says.

    Raises:
        ConfigurationError: no schema can be called so.
    """
    named = url.query.get(SCHEMA)
    if named is None:
        return None
    name = named if isinstance(named, str) else ",".join(named)
    if not name or "\0" in name or len(name.encode()) > _LONGEST_NAME:
        raise ConfigurationError(
            f"schema = {name!r}: the name of a schema has 1 to {_LONGEST_NAME} bytes"
        )
    return name


def quoted(name: str) -> str:
    """`name` as SQL names a thing, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _connect(dialect: Any, how: dict[str, Any], shown: str) -> Any:  # noqa: ANN401  psycopg is optional
    """A connection of the driver's that begins nothing by itself and prepares nothing."""
    how = {name: value for name, value in how.items() if name != SCHEMA}
    try:
        return dialect.connect(**how | {"autocommit": True, "prepare_threshold": None})
    except dialect.dbapi.Error as error:
        if not _NOT_UNDERSTOOD.search(str(error)) or getattr(error, "sqlstate", None):
            raise
        raise _not_understood(shown, error) from error


def _check_names(url: URL) -> None:
    """Raise `ValueError` for a parameter that libpq does not have; ones of the driver's too."""
    from psycopg import ProgrammingError  # noqa: PLC0415  optional
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415  as above

    for name in _NUMBERS & url.query.keys():
        _check_number(name, url.query[name])
    try:
        make_conninfo(**{name: "" for name in url.query if name != SCHEMA})
    except ProgrammingError as error:
        raise ValueError(str(error)) from error


def _check_number(name: str, value: str | tuple[str, ...]) -> None:
    """Raise `ValueError` for what is none; libpq looks at one only where it has use for it."""
    least = -1 if name == "connect_timeout" else 0
    written = isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", value)
    if not written or int(str(value)) < least:
        raise ValueError(f"{name}={value} must be a whole number")


def _not_understood(shown: str, error: Exception) -> ConfigurationError:
    words = " ".join(str(error).split()).rstrip(".")
    variables = ", ".join(_variables())
    told = f"; the environment has {variables}, which count as parameters" if variables else ""
    return ConfigurationError(
        f"the database URL {shown} has a parameter that is not understood: {words}{told}"
    )


def _variables() -> list[str]:
    """What libpq takes from the environment where the URL does not say it."""
    from psycopg.pq import Conninfo  # noqa: PLC0415  optional

    known = [
        each for each in Conninfo.get_defaults() if each.keyword not in {b"user", b"dbname"}
    ]
    taken = [each.envvar for each in known if each.val and each.val != each.compiled]
    return [name.decode() for name in taken if name]


def _begin(connection: Connection, usual: str, schema: str | None) -> None:
    """One statement: it costs no more than the BEGIN that the driver would send."""
    options = connection.get_execution_options()
    mode = options.get(BEGIN, usual)
    if mode is None:
        return
    most_idle = options.get(MOST_IDLE, _MOST_IDLE_MS)
    settings = [mode, "SET LOCAL TIME ZONE 'UTC'"]
    if schema is not None:
        settings.append(f"SET LOCAL search_path = {quoted(schema)}")
    if mode != BEGIN_READING:
        settings.append("SET LOCAL synchronous_commit = on")
        settings.append(f"SET LOCAL idle_in_transaction_session_timeout = {most_idle}")
    connection.exec_driver_sql("; ".join(settings))


def _execute_one_by_one(cursor: Any, statement: str, rows: Any, context: Any) -> bool:  # noqa: ANN401  psycopg is optional
    """See `ONE_BY_ONE`; `False`: the driver is to do it its way."""
    if not context.execution_options.get(ONE_BY_ONE):
        return False
    for row in rows:
        cursor.execute(statement, row)
    return True
