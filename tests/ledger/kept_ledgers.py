"""Ledgers as the baseline made them, kept as SQL, and revisions that come after head."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from batcher.ledger.connect import open_engine, reading, writing
from batcher.ledger.migrate import SHIPPED, Revisions, revisions_in, upgrade
from tests.databases import PostgresServer

__all__ = [
    "kept", "kept_file", "kept_server", "kept_server_at_head", "kept_template",
    "kept_template_at_head", "kept_url",
]  # fmt: skip

KEPT = Path(__file__).parent / "kept"
OWNER = "kept_owner"


@pytest.fixture(params=["file", "server"])
def kept_url(request) -> str:
    """A ledger with rows in every table, once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(f"kept_{request.param}")
    return url


@pytest.fixture
def kept_file(tmp_path) -> str:
    path = tmp_path / "kept.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((KEPT / "0001_sqlite.sql").read_text("utf-8"))
    return str(path)


@pytest.fixture
def kept_server(postgres_server, kept_template) -> Iterator[str]:
    """It belongs to an ordinary user, and others have rights on it."""
    yield from _copy(postgres_server, kept_template)


@pytest.fixture
def kept_server_at_head(postgres_server, kept_template_at_head) -> Iterator[str]:
    """The same, upgraded by its owner."""
    yield from _copy(postgres_server, kept_template_at_head)


@pytest.fixture(scope="session")
def kept_template(postgres_server) -> str:
    """The name of a database to copy."""
    for role in (OWNER, "kept_reader", "kept_writer"):
        postgres_server.execute(
            f"DO $$BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN END$$"
        )
    made = _new(postgres_server, "template0")
    address = made.replace("+psycopg", "")
    with closing(psycopg.connect(address, autocommit=True)) as connection:
        connection.execute((KEPT / "0001_postgresql.sql").read_text("utf-8"))
    return make_url(made).database


@pytest.fixture(scope="session")
def kept_template_at_head(postgres_server, kept_template) -> str:
    engine = open_engine(_new(postgres_server, kept_template))
    upgrade(engine)
    engine.dispose()
    return engine.url.database


def _new(server: PostgresServer, template: str) -> str:
    """A copy of that database, which belongs to the ordinary user too."""
    made = server.new_database(template)
    server.execute(f"ALTER DATABASE {make_url(made).database} OWNER TO {OWNER}")
    return made.replace("postgres@", f"{OWNER}@")


def _copy(server: PostgresServer, template: str) -> Iterator[str]:
    url = _new(server, template)
    yield url
    server.drop(url)


@pytest.fixture
def kept(kept_url) -> Iterator[Engine]:
    engine = open_engine(kept_url)
    yield engine
    engine.dispose()


def ask(engine, query):
    with reading(engine) as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def execute(engine, *statements):
    with writing(engine) as connection:
        for statement in statements:
            connection.execute(text(statement))


# --- Revisions that come after those that are shipped

REVISION = '''"""A revision of a test."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = {number!r}, {before!r}


def upgrade() -> None:
    here = views(op.get_bind().dialect.name)
    {does}


def views(dialect: str) -> dict[str, str]:
    return {views!r}[dialect]
'''


def with_revision(
    folder: Path, does: str, views: dict[str, str] | None = None, after: Revisions = SHIPPED
) -> Revisions:
    """A copy of the revisions of `after` in `folder` and one more, which does `does`.

    `views` says what each of its views selects, where `{before}` is what it selected so far.
    """
    shutil.copytree(after.folder, folder)
    number = f"{int(after.head) + 1:04}"
    statements = {
        dialect: {
            name: f"CREATE VIEW {name} AS\n{sql.format(before=_before(after, dialect, name))}"
            for name, sql in (views or {}).items()
        }
        for dialect in ("sqlite", "postgresql")
    }
    revision = REVISION.format(number=number, before=after.head, does=does, views=statements)
    (folder / "versions" / f"{number}_further.py").write_text(revision)
    return revisions_in(folder)


def _before(revisions: Revisions, dialect: str, name: str) -> str:
    begins = f"CREATE VIEW {name} AS\n"
    made = [s for s in revisions.head_statements(dialect) if s.startswith(begins)]
    return f"({made[0].removeprefix(begins)})" if made else ""


# --- Who may do what, on a server


def rights(engine: Engine) -> list[tuple[str, ...]]:
    """Each relation, its owner, and who else has which right on it or on one of its columns."""
    return sorted(ask(engine, RIGHTS))


RIGHTS = """WITH acls AS (
  SELECT oid, '' AS attname, relacl AS acl FROM pg_class
  UNION ALL SELECT attrelid, attname, attacl FROM pg_attribute)
SELECT c.relname, pg_get_userbyid(c.relowner), acls.attname, g.privilege_type,
  CASE WHEN g.is_grantable THEN 'for others' ELSE '' END,
  CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g.grantee) END
FROM pg_class c JOIN acls ON acls.oid = c.oid, aclexplode(acls.acl) g
WHERE g.grantee <> c.relowner
  AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"""
