"""An answer with one charge, as nearly all have, is looked up once in a view of SQLite.

SQLite asks a sub-query again for each column that needs it: six times for an answer. The views
are those of before; where an answer has one charge they take it from a join. They are in
`0013_sqlite.sql`, beside this file.

Revision ID: 0013
Revises: 0012
"""

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if (dialect := op.get_bind().dialect.name) == "sqlite":
        op.replace_views(views(dialect))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision; `dialect` is sqlite, on others none."""
    if dialect != "sqlite":
        return {}
    script = Path(__file__).with_name(f"0013_{dialect}.sql").read_text("utf-8")
    statements = script.removesuffix(";\n").split(";\n\n")
    return {statement.split()[2]: statement for statement in statements}
