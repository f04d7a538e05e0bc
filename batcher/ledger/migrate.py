"""The schema's revisions: created at head, looked at on every start, changed only when asked.

Alembic is imported only where a schema is changed or checked: it takes time and 12 MB, which a
run would keep. A start on a ledger that is at head costs two plain queries, and an empty
database gets the script that the revisions add up to; tests compare them.
"""

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from batcher.clock import SystemClock
from batcher.errors import ConfigurationError, SchemaVersionError, StorageError
from batcher.ledger import (  # noqa: F401 - add their tables
    estimate_table,
    schema_leases,
    schema_reconciled,
    schema_sharing,
)
from batcher.ledger.address import DatabaseUrl
from batcher.ledger.connect import place, reading, storage_errors, writing
from batcher.ledger.schema import UNCHECKED, ledger_info, metadata

if TYPE_CHECKING:
    from alembic.config import Config

# The newest revision in migrations/versions; a test compares.
HEAD = "0012"
HEAD_SCRIPT_END = ";\n\n"  # of each statement; see `head_script`

_VERSION_TABLE = "alembic_version"
# The number of a PostgreSQL advisory lock: one process at a time changes a schema.
_CHANGING = int.from_bytes(hashlib.sha256(b"batcher: schema").digest()[:8], signed=True)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` did: `created` is true when it found the database empty."""

    created: bool


def prepare(engine: Engine) -> Prepared:
    """Make an empty database ready at head; leave one that is at head as it is.

    Two processes may do so at once: one of them creates, the other waits.

    Raises:
        SchemaVersionError: the database is older or newer than this program.
        ConfigurationError: the database holds tables of something else.
    """
    with reading(engine) as connection:
        empty = _look(connection, place(engine)) is None
    return Prepared(created=empty and _create(engine))


def require_head(engine: Engine) -> None:
    """Raise what `prepare` raises, and `StorageError` for an empty database; change nothing."""
    where = place(engine)
    with reading(engine) as connection:
        revision = _look(connection, where)
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


def upgrade(engine: Engine, revision: str = HEAD) -> str | None:
    """Bring the database to `revision` in one transaction; returns the revision it had.

    Killed at any statement, it leaves the database as it was.

    Raises:
        SchemaVersionError: the database is newer than this program.
        Busy: another process is changing the schema.
    """
    where = place(engine)
    with writing(engine) as connection:
        _wait_for_turn(connection)
        before = _revision(connection, where)
        if before is not None and _is_unknown(before):
            raise _newer(before, where)
        if before is None:
            _check_encoding(connection, where)
        _upgrade_on(connection, revision)
    return before


def downgrade(engine: Engine, revision: str) -> None:
    """Go back to `revision`, `base` for nothing at all: what later ones added is lost."""
    import alembic.command  # noqa: PLC0415  slow, and seldom wanted

    with writing(engine) as connection:
        _wait_for_turn(connection)
        alembic.command.downgrade(_config(connection), revision)


def check(engine: Engine) -> list[str]:
    """How tables and views differ from what this program expects, a line each.

    Raises:
        SchemaVersionError: the database is not at head.
    """
    require_head(engine)
    with storage_errors(engine.url), engine.connect() as connection:  # ends in a rollback
        return [*_table_differences(connection), *_view_differences(connection)]


def migrations_folder() -> Path:
    """The migration scripts: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def head_script(dialect: str) -> Path:
    """What the revisions up to HEAD make of an empty database, beside them."""
    return migrations_folder() / f"head_{dialect}.sql"


def head_statements(dialect: str) -> list[str]:
    """The statements that make an empty database a ledger at head, but for its identity."""
    script = head_script(dialect).read_text()
    return script.removesuffix(HEAD_SCRIPT_END).split(HEAD_SCRIPT_END)


# --- What is there


def _look(connection: Connection, where: DatabaseUrl) -> str | None:
    """Head, or `None` for an empty database; raises for every other state."""
    revision = _revision(connection, where)
    if revision is None or revision == HEAD:
        return revision
    if _is_unknown(revision):
        raise _newer(revision, where)
    raise SchemaVersionError(
        f"the database {where.shown} has schema {revision} and this batcher needs {HEAD}: type"
        f" batcher db upgrade {where.option}"
    )


def _revision(connection: Connection, where: DatabaseUrl) -> str | None:
    tables = set(sa.inspect(connection).get_table_names())
    found = None
    if _VERSION_TABLE in tables:
        found = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608  a constant
    if found is None and tables <= {_VERSION_TABLE}:
        return None
    if found is None or ledger_info.name not in tables:
        raise ConfigurationError(
            f"the database {where.shown} holds tables of something else: name an empty one"
        )
    return str(found)


def _is_unknown(revision: str) -> bool:
    return not revision.isdecimal() or int(revision) > int(HEAD)


def _newer(revision: str, where: DatabaseUrl) -> SchemaVersionError:
    return SchemaVersionError(
        f"the database {where.shown} has schema {revision} and this batcher knows schemas up to"
        f" {HEAD}: install a newer messages-batcher, one that knows {revision}"
    )


# --- Changing it


def _create(engine: Engine) -> bool:
    where = place(engine)
    with writing(engine) as connection:
        _wait_for_turn(connection)
        if _look(connection, where) is not None:
            return False  # another process was faster
        _check_encoding(connection, where)
        if sa.inspect(connection).get_table_names():
            _upgrade_on(connection, HEAD)  # an emptied one
        else:
            _create_at_head(connection)
    return True


def _create_at_head(connection: Connection) -> None:
    bare = connection.execution_options(no_parameters=True)  # a percent sign is one
    for statement in head_statements(connection.dialect.name):
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


def _upgrade_on(connection: Connection, revision: str) -> None:
    import alembic.command  # noqa: PLC0415  slow, and seldom wanted

    alembic.command.upgrade(_config(connection), revision)
    if connection.scalar(sa.select(ledger_info.c.value).limit(1)) is None:
        connection.execute(ledger_info.insert(), _birth())


def _birth() -> list[dict[str, str]]:
    return [
        {"name": "database_uid", "value": secrets.token_hex(6)},
        {"name": "created_at", "value": str(SystemClock().now_us())},
    ]


def _config(connection: Connection) -> "Config":
    from alembic.config import Config  # noqa: PLC0415  slow, and seldom wanted

    config = Config()
    # The option is a ConfigParser value, in which a percent sign starts an interpolation.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
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


def _view_differences(connection: Connection) -> list[str]:
    differs = _differs_sqlite if connection.dialect.name == "sqlite" else _differs_postgresql
    return [
        f"views: {name} is not as revision {revision} made it"
        for name, (revision, statement) in _expected_views(connection).items()
        if differs(connection, name, statement)
    ]


def _expected_views(connection: Connection) -> dict[str, tuple[str, str]]:
    """Each view's newest revision and its statement there; a revision names those it makes."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415  as above

    revisions = ScriptDirectory.from_config(_config(connection)).walk_revisions(head=HEAD)
    expected: dict[str, tuple[str, str]] = {}
    for each in revisions:  # the newest first
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
    stored = sa.text("SELECT pg_get_viewdef(to_regclass(current_schema() || :name))")
    wanted = sa.text("SELECT pg_get_viewdef(to_regclass('pg_temp' || :name))")
    found = connection.scalar(stored, {"name": f".{name}"})
    try:
        with connection.begin_nested() as savepoint:
            connection.exec_driver_sql(statement.replace("VIEW", "TEMP VIEW", 1))
            expected = connection.scalar(wanted, {"name": f".{name}"})
            savepoint.rollback()
    except sa.exc.ProgrammingError:  # it needs a table or column that is not there
        return True
    return bool(found != expected)
