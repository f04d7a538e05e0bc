"""The schema of a PostgreSQL database that a ledger is in: there, made, or asked for."""

from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from batcher.errors import ConfigurationError
from batcher.ledger.connect import DatabaseUrl, user_name
from batcher.ledger.database_errors import NO_RIGHT, sqlstate
from batcher.ledger.server import quoted, schema_of


def make_schema(connection: Connection, where: DatabaseUrl) -> None:
    """Make the schema that the URL names, where it is not there.

    Raises:
        ConfigurationError: we may not, or the URL names none and there is none.
    """
    name = schema_of(where.url)
    if name is not None and not _has_schema(connection):
        try:
            connection.exec_driver_sql(f"CREATE SCHEMA {quoted(name)}")
        except ProgrammingError as error:
            if sqlstate(error) != NO_RIGHT:
                raise
            raise ConfigurationError(
                f"the database {where.shown} has no schema {name} and does not let this user"
                f" make one: let its administrator type CREATE SCHEMA {quoted(name)}"
                f" AUTHORIZATION {quoted(where.url.username or user_name())}"
            ) from error
    check_schema(connection, where)


def check_schema(connection: Connection, where: DatabaseUrl) -> None:
    """Raise `ConfigurationError` where there is no schema in which tables could be made."""
    if _has_schema(connection):
        return
    name = schema_of(where.url)
    if name is None:
        raise ConfigurationError(
            f"the database {where.shown} has no schema of the search_path that it was given:"
            " name one by the setting schema, then type batcher db upgrade"
        )
    raise ConfigurationError(
        f"the database {where.shown} has no schema {name} yet: type batcher db upgrade"
        f" {where.option}"
    )


def _has_schema(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return True
    return connection.scalar(text("SELECT current_schema()")) is not None
