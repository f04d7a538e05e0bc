"""On PostgreSQL, too, an answer with one charge is looked up once in a view.

A view asked a sub-query for each column that needs the charges: seven times for an answer. The
views are those of before; where an answer has one charge they take it from a join, as those of
SQLite do since revision 0013. They are in `0015_postgresql.sql`, beside this file.

Revision ID: 0015
Revises: 0014
"""

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if (dialect := op.get_bind().dialect.name) == "postgresql":
        op.replace_views(views(dialect))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision; only `dialect` postgresql has any."""
    if dialect != "postgresql":
        return {}
    script = Path(__file__).with_name(f"0015_{dialect}.sql").read_text("utf-8")
    statements = script.removesuffix(";\n").split(";\n\n")
    return {statement.split()[2]: statement for statement in statements}
