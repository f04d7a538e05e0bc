"""The schema's revisions: created at head, looked at on every start, changed only when asked.

Alembic is imported only where a schema is changed or checked: it takes time and 12 MB, which a
run would keep. A start on a ledger that is at head costs two plain queries, and an empty
database gets the script that the revisions add up to; tests compare them.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from batcher.clock import SystemClock
from batcher.errors import ConfigurationError, SchemaVersionError, StorageError
from batcher.ledger.connect import (
    DatabaseUrl,
    check_schema,
    make_schema,
    place,
    reading,
    storage_errors,
    writing,
)
from batcher.ledger.database_errors import NO_RIGHT, sqlstate
from batcher.ledger.schema import UNCHECKED, metadata
from batcher.ledger.schema_internal import ledger_info

if TYPE_CHECKING:
    from alembic.config import Config

HEAD_SCRIPT_END: Final = ";\n\n"  # of each statement; see `Revisions.head_script`
# A name of our own: `alembic_version` is that of every other application in the same schema.
VERSION_TABLE: Final = "batcher_version"

_OR_A_SCHEMA: Final = ", or a schema of its own, by the setting schema"

# Where batcher 0.1.0 kept its revision, and the revisions it had.
_FIRST_VERSION_TABLE: Final = "alembic_version"
_FIRST_REVISIONS: Final = frozenset(f"{number:04}" for number in range(1, 13))
# The number of a PostgreSQL advisory lock: one process at a time changes a schema.
_CHANGING: Final = int.from_bytes(hashlib.sha256(b"batcher: schema").digest()[:8], signed=True)


@dataclass(frozen=True, slots=True)
class Revisions:
    """The migration scripts in a folder, up to the revision `head`."""

    folder: Path
    head: str

    def head_script(self, dialect: str) -> Path:
        """What the revisions make of an empty database, beside them."""
        return self.folder / f"head_{dialect}.sql"

    def head_statements(self, dialect: str) -> list[str]:
        """The statements that make an empty database a ledger at head, but for its identity."""
        script = self.head_script(dialect).read_text("utf-8")
        return script.removesuffix(HEAD_SCRIPT_END).split(HEAD_SCRIPT_END)

    def know(self, revision: str) -> bool:
        """Whether it is one of them: they are numbered."""
        return revision.isdecimal() and int(revision) <= int(self.head)


def revisions_in(folder: Path) -> Revisions:
    """All revisions in `folder`: the files of its `versions` begin with their numbers."""
    newest = max(path.name for path in (folder / "versions").glob("[0-9]*.py"))
    return Revisions(folder=folder, head=newest.split("_")[0])


def _shipped() -> Path:
    """Inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


SHIPPED: Final = revisions_in(_shipped())


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` did: `created` is true when it found the database empty."""

    created: bool


def prepare(engine: Engine, revisions: Revisions = SHIPPED) -> Prepared:
    """Make an empty database ready at head; leave one that is at head as it is.

    Two processes may do so at once: one of them creates, the other waits.

    Raises:
        SchemaVersionError: the database is older or newer than this program.
        ConfigurationError: the database holds tables of something else.
    """
    with reading(engine) as connection:
        empty = _look(connection, place(engine), revisions) is None
    return Prepared(created=empty and _create(engine, revisions))


def require_head(engine: Engine, revisions: Revisions = SHIPPED) -> None:
    """Raise what `prepare` raises, and `StorageError` for an empty database; change nothing."""
    where = place(engine)
    with reading(engine) as connection:
        revision = _look(connection, where, revisions)
    if revision is None:
        raise StorageError(
            f"the database {where.shown} holds no ledger yet; batcher run makes one"
        )


def current(engine: Engine) -> str | None:
    """The database's revision, `None` when it is empty.

    Raises:
        ConfigurationError: the database holds tables of something else.
    """
    with reading(engine) as connection:
        return _revision(connection, place(engine))


def upgrade(
    engine: Engine,
    revisions: Revisions = SHIPPED,
    *,
    fence: Callable[[Connection], object] = lambda _: None,
) -> str | None:
    """Bring the database to head in one transaction; returns the revision it had.

    `fence` begins it: it raises where the database is not ours any more. Killed at any
    statement, it leaves the database as it was.

    Raises:
        SchemaVersionError: the database is newer than this program, or of batcher 0.1.0.
        ConfigurationError: a view or table that is not ours stands in the way.
        Busy: another process is changing the schema.
    """
    where = place(engine)
    with writing(engine) as connection:
        fence(connection)
        _wait_for_turn(connection)
        before = _revision(connection, where)
        if before is None:
            make_schema(connection, where)
            _check_encoding(connection, where)
        elif not revisions.know(before):
            raise _newer(before, where, revisions)
        _upgrade_on(connection, revisions)
    return before


def check(engine: Engine, revisions: Revisions = SHIPPED) -> list[str]:
    """How tables and views differ from what this program expects, a line each.

    Raises:
        SchemaVersionError: the database is not at head.
    """
    require_head(engine, revisions)
    with storage_errors(engine.url), engine.connect() as connection:  # ends in a rollback
        return [*_table_differences(connection), *_view_differences(connection, revisions)]


# --- What is there


def _look(connection: Connection, where: DatabaseUrl, revisions: Revisions) -> str | None:
    """Head, or `None` for an empty database; raises for every other state."""
    revision = _revision(connection, where)
    if revision is None or revision == revisions.head:
        return revision
    if not revisions.know(revision):
        raise _newer(revision, where, revisions)
    raise SchemaVersionError(
        f"the database {where.shown} has schema {revision} and this batcher needs"
        f" {revisions.head}: type batcher db upgrade {where.option}"
    )


def _revision(connection: Connection, where: DatabaseUrl) -> str | None:
    tables = set(sa.inspect(connection).get_table_names())
    if {VERSION_TABLE, ledger_info.name} <= tables:
        found = connection.scalar(_version_in(VERSION_TABLE))
        if found is not None:
            return str(found)
    if tables <= {_FIRST_VERSION_TABLE}:  # of an application that has no table yet
        return None
    if {_FIRST_VERSION_TABLE, ledger_info.name} <= tables:
        _refuse_first(connection, where)
    raise ConfigurationError(
        f"the database {where.shown} holds tables of something else: name an empty one"
        + _OR_A_SCHEMA * (where.path is None)
    )


def _refuse_first(connection: Connection, where: DatabaseUrl) -> None:
    if connection.scalar(_version_in(_FIRST_VERSION_TABLE)) in _FIRST_REVISIONS:
        raise SchemaVersionError(
            f"the database {where.shown} was made by batcher 0.1.0 and cannot be upgraded:"
            " start a new one, by naming another with --database"
        )


def _version_in(table: str) -> sa.TextClause:
    return sa.text(f"SELECT version_num FROM {table}")  # noqa: S608  one of two constants


def _newer(revision: str, where: DatabaseUrl, revisions: Revisions) -> SchemaVersionError:
    return SchemaVersionError(
        f"the database {where.shown} has schema {revision} and this batcher knows schemas up to"
        f" {revisions.head}: install a newer messages-batcher, one that knows {revision}"
    )


# --- Changing it


def _create(engine: Engine, revisions: Revisions) -> bool:
    with writing(engine) as connection:
        return create_on(connection, revisions)


def create_on(connection: Connection, revisions: Revisions = SHIPPED) -> bool:
    """Make an empty database ready, in the caller's transaction; `False`: it was at head.

    Raises what `prepare` raises.
    """
    where = place(connection.engine)
    _wait_for_turn(connection)
    if _look(connection, where, revisions) is not None:
        return False  # another process was faster
    check_schema(connection, where)
    _check_encoding(connection, where)
    _create_at_head(connection, revisions)
    return True


def _create_at_head(connection: Connection, revisions: Revisions) -> None:
    bare = connection.execution_options(no_parameters=True)  # a percent sign is one
    for statement in revisions.head_statements(connection.dialect.name):
        bare.exec_driver_sql(statement)
    connection.execution_options(no_parameters=False)
    connection.execute(ledger_info.insert(), _birth())


def _wait_for_turn(connection: Connection) -> None:
    """On SQLite the transaction itself is the lock."""
    if connection.dialect.name != "postgresql":
        return
    connection.exec_driver_sql("SET LOCAL lock_timeout = '60s'")
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": _CHANGING})
    connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
    connection.exec_driver_sql("SET LOCAL statement_timeout = '1h'")


def _check_encoding(connection: Connection, where: DatabaseUrl) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.scalar(sa.text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database {where.shown} stores text as {encoding}, which cannot hold every"
            " answer: create it with ENCODING 'UTF8'"
        )


def _upgrade_on(connection: Connection, revisions: Revisions) -> None:
    import alembic.command  # noqa: PLC0415  slow, and seldom wanted
    from alembic.util import CommandError  # noqa: PLC0415  as above

    try:
        alembic.command.upgrade(_config(connection, revisions), revisions.head)
    except CommandError as error:  # a revision's own words, see migrations/view_operations.py
        shown = place(connection.engine).shown
        raise ConfigurationError(f"the database {shown} was not upgraded: {error}") from error
    if connection.scalar(sa.select(ledger_info.c.value).limit(1)) is None:
        connection.execute(ledger_info.insert(), _birth())


def _birth() -> list[dict[str, str]]:
    return [
        {"name": "database_uid", "value": secrets.token_hex(6)},
        {"name": "created_at", "value": str(SystemClock().now_us())},
    ]


def _config(connection: Connection, revisions: Revisions) -> "Config":
    from alembic.config import Config  # noqa: PLC0415  slow, and seldom wanted

    config = Config()
    # The option is a ConfigParser value, in which a percent sign starts an interpolation.
    config.set_main_option("script_location", str(revisions.folder).replace("%", "%%"))
    config.attributes["connection"] = connection  # migrations/env.py uses it when it is there
    return config


# --- Checking it


def _table_differences(connection: Connection) -> list[str]:
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415  as above
    from alembic.migration import MigrationContext  # noqa: PLC0415  as above

    options: dict[str, Any] = {"compare_server_default": True, "include_name": _is_ours}
    others = []
    if connection.dialect.name == "postgresql":
        options["include_object"] = is_expected
        others = _checked_all_the_same(connection)
    context = MigrationContext.configure(connection, opts=options)
    return [*map(_describe, compare_metadata(context, metadata)), *others]


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """People may keep tables of their own beside the ledger's."""
    return kind != "table" or name in metadata.tables


def is_expected(thing: Any, _name: object, kind: str, *_: object) -> bool:  # noqa: ANN401  Alembic's
    """The references that `UNCHECKED` declares are not expected on a server."""
    return kind != "foreign_key_constraint" or thing.table.name not in UNCHECKED


def _checked_all_the_same(connection: Connection) -> list[str]:
    found = sa.inspect(connection).get_foreign_keys
    return [
        f"tables: the server checks {key['name']} for every row of {table}: half as fast"
        for table in UNCHECKED
        for key in found(table)
    ]


def _describe(difference: Any) -> str:  # noqa: ANN401  Alembic's nested tuples
    if isinstance(difference, list):  # changes of one column come together
        return "; ".join(map(_describe, difference))
    operation, *parts = difference
    names = (str(getattr(part, "name", part)) for part in parts if part is not None)
    return f"tables: {operation} {' '.join(name for name in names if name != '{}')}"


def _view_differences(connection: Connection, revisions: Revisions) -> list[str]:
    differs = _differs_sqlite if connection.dialect.name == "sqlite" else _differs_postgresql
    return [
        f"views: {name} is not as revision {revision} made it"
        for name, (revision, statement) in _expected_views(connection, revisions).items()
        if differs(connection, name, statement)
    ]


def _expected_views(connection: Connection, revisions: Revisions) -> dict[str, tuple[str, str]]:
    """Each view's newest revision and its statement there; a revision names those it makes."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415  as above

    directory = ScriptDirectory.from_config(_config(connection, revisions))
    expected: dict[str, tuple[str, str]] = {}
    for each in directory.walk_revisions(head=revisions.head):  # the newest first
        made = (
            each.module.views(connection.dialect.name) if hasattr(each.module, "views") else {}
        )
        expected = {name: (each.revision, sql) for name, sql in made.items()} | expected
    return expected


def _differs_sqlite(connection: Connection, name: str, statement: str) -> bool:
    query = sa.text("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = :name")
    return bool(connection.scalar(query, {"name": name}) != statement)


def _differs_postgresql(connection: Connection, name: str, statement: str) -> bool:
    """The server rewrites what it stores, so it is asked to write the expected one too."""
    stored = sa.text(
        "SELECT pg_get_viewdef(to_regclass(quote_ident(current_schema()) || :name))"
    )
    wanted = sa.text("SELECT pg_get_viewdef(to_regclass('pg_temp' || :name))")
    found = connection.scalar(stored, {"name": f".{name}"})
    try:
        with connection.begin_nested() as savepoint:
            connection.exec_driver_sql(statement.replace("VIEW", "TEMP VIEW", 1))
            expected = connection.scalar(wanted, {"name": f".{name}"})
            savepoint.rollback()
    except sa.exc.ProgrammingError as error:
        if sqlstate(error) == NO_RIGHT:  # nobody can tell
            raise
        return True  # it needs a table or column that is not there
    return bool(found != expected)
