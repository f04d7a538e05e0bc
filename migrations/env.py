"""What Alembic runs: in the caller's connection, or one made by `alembic -x database=URL`.

Nothing of the program is imported but the tables and which of their references a server has:
a migration must mean the same for ever.
"""

from pathlib import Path

from alembic import context
from alembic.util import load_python_file
from sqlalchemy import Connection, create_engine, event

from batcher.ledger.migrate import VERSION_TABLE, is_expected
from batcher.ledger.schema import metadata

# Where this folder lies depends on the installation, so it is no package: what Alembic loads
# revisions with loads what they use.
load_python_file(Path(__file__).parent, "view_operations.py")


def migrate_on(connection: Connection) -> None:
    """Run the wanted revisions in the transaction that `connection` is in."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        render_as_batch=True,  # SQLite alters a table by copying it
        compare_server_default=True,
        include_object=is_expected if connection.dialect.name == "postgresql" else None,
    )
    if connection.dialect.name == "sqlite":
        # A copied table takes the name of the one it replaces, which views read: ours, and some
        # that we do not know. SQLite would look into all of them first, and miss the table.
        connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")
    with context.begin_transaction():
        context.run_migrations()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA legacy_alter_table=OFF")


def migrate_alone() -> None:
    """For a developer's `alembic revision --autogenerate`: a database of one's own."""
    database = context.get_x_argument(as_dictionary=True).get(
        "database", "sqlite:///batcher.db"
    )
    engine = create_engine(database)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        migrate_on(connection)


if (given := context.config.attributes.get("connection")) is not None:
    migrate_on(given)
else:
    migrate_alone()
