"""What revisions need for views, as operations of Alembic: `op.create_views` and two more.

Revisions that are released rely on them, so they keep their meaning: what a later revision
needs otherwise gets a name of its own. Nothing of the program is imported.

A server keeps with a view who may read it, and other views read it in turn. So a view that only
gets more columns is replaced where it is. Any other is dropped and made anew, with the rights
on it and its owner put back; what somebody else has made from it would have to go too, and that
is refused, by name.
"""

from typing import Any

import sqlalchemy as sa
from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

_Statements = dict[str, str]
_Rights = list[tuple[str | None, str]]


@Operations.register_operation("require_unused_names")
@Operations.register_operation("create_views")
@Operations.register_operation("replace_views")
class ViewOperations(MigrateOperation):
    """`statements` is a CREATE VIEW by each view's name; a view comes after those it reads."""

    @classmethod
    def require_unused_names(cls, operations: Operations, names: list[str]) -> None:
        """Refuse to go on where a table or view of somebody else has one of these names."""
        connection = operations.get_bind()
        inspector, schema = sa.inspect(connection), None
        if connection.dialect.name == "postgresql":
            schema = connection.scalar(sa.text("SELECT current_schema()"))
        for name in names:
            if inspector.has_table(name, schema=schema):
                raise CommandError(
                    f"something that is not ours is called {name}, as this version's own is:"
                    " rename it, then type batcher db upgrade again"
                )

    @classmethod
    def create_views(cls, operations: Operations, statements: dict[str, str]) -> None:
        """Make views that no revision before has made."""
        cls.require_unused_names(operations, list(statements))
        for statement in statements.values():
            _execute(operations.get_bind(), statement)

    @classmethod
    def replace_views(cls, operations: Operations, statements: dict[str, str]) -> None:
        """Make views of earlier revisions anew, when the tables that they read have changed."""
        connection = operations.get_bind()
        if connection.dialect.name == "postgresql":
            _replace_on_server(connection, statements)
            return
        for name in reversed(statements):
            _execute(connection, f"DROP VIEW IF EXISTS {name}")
        for statement in statements.values():
            _execute(connection, statement)


def _execute(connection: Connection, statement: str) -> None:
    connection.execute(sa.text(statement.replace(":", r"\:")))


# --- On a server


def _replace_on_server(connection: Connection, statements: _Statements) -> None:
    dropped: dict[str, _Rights] = {}
    for name, statement in statements.items():
        if not _is_replaced_in_place(connection, statement):
            _drop(connection, name, statements, dropped)
            _execute(connection, statement)
        if name in dropped:
            _put_back(connection, name, dropped[name])


def _is_replaced_in_place(connection: Connection, statement: str) -> bool:
    try:
        with connection.begin_nested():
            _execute(connection, statement.replace("CREATE", "CREATE OR REPLACE", 1))
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _OTHER_COLUMNS:
            raise
        return False
    return True


def _drop(
    connection: Connection, name: str, ours: _Statements, dropped: dict[str, _Rights]
) -> None:
    """Drop a view and those of ours that read it; `dropped` gets the rights on them."""
    readers: list[str] = [reader for (reader,) in _ask(connection, _READERS, name)]
    if foreign := [reader for reader in readers if reader not in ours]:
        raise CommandError(
            f"the view {name} has to be made anew, and what is made from it is in the way:"
            f" {', '.join(foreign)}; drop it, type batcher db upgrade again, then make it anew"
        )
    for reader in readers:
        if reader not in dropped:  # two views may share a reader
            _drop(connection, reader, ours, dropped)
    dropped[name] = [(column, right) for _, column, right in _ask(connection, _RIGHTS, name)]
    _execute(connection, f"DROP VIEW {name}")


def _put_back(connection: Connection, name: str, rights: _Rights) -> None:
    """Exactly `rights`: what the server grants by default on a new view is taken away."""
    columns = {column for (column,) in _ask(connection, _COLUMNS, name)}
    for (statement,) in _ask(connection, _DEFAULTS, name):
        _execute(connection, statement)
    for column, statement in rights:
        if column is None or column in columns:
            _execute(connection, statement)


def _ask(connection: Connection, query: str, view: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(sa.text(query), {"view": view})]


_OTHER_COLUMNS = "42P16"  # one is missing, or has another name, type or place

# What was made from a view, by name: other views read it by a rule of theirs, functions and
# columns may be of its type.
_READERS = """SELECT DISTINCT COALESCE(CAST(CAST(r.ev_class AS regclass) AS text),
  pg_describe_object(d.classid, d.objid, d.objsubid))
FROM pg_class v
JOIN pg_depend d ON (d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = v.oid)
  OR (d.refclassid = CAST('pg_type' AS regclass) AND d.refobjid = v.reltype)
LEFT JOIN pg_rewrite r ON d.classid = CAST('pg_rewrite' AS regclass) AND r.oid = d.objid
WHERE v.oid = to_regclass(:view) AND d.deptype = 'n' AND r.ev_class IS DISTINCT FROM v.oid
ORDER BY 1"""

# The statements that give back its owner and everybody's rights: the owner first, and with the
# column where the right is on one.
_RIGHTS = """WITH v AS (SELECT * FROM pg_class WHERE oid = to_regclass(:view)),
acls AS (
  SELECT CAST(NULL AS name) AS attname, relacl AS acl FROM v
  UNION ALL
  SELECT a.attname, a.attacl FROM pg_attribute a JOIN v ON a.attrelid = v.oid
  WHERE NOT a.attisdropped
)
SELECT 1, NULL, format('ALTER VIEW %I OWNER TO %I', v.relname, pg_get_userbyid(v.relowner))
FROM v WHERE pg_get_userbyid(v.relowner) <> current_user
UNION ALL
SELECT DISTINCT 2, acls.attname, format('GRANT %s%s ON %I TO %s%s', g.privilege_type,
  '(' || quote_ident(acls.attname) || ')', v.relname,
  CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
  CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END)
FROM v, acls, aclexplode(acls.acl) g WHERE g.grantee <> v.relowner
ORDER BY 1"""

_DEFAULTS = """SELECT DISTINCT format('REVOKE ALL ON %I FROM %s', v.relname,
  CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)
FROM pg_class v, aclexplode(v.relacl) g
WHERE v.oid = to_regclass(:view) AND g.grantee <> v.relowner"""

_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:view)"
