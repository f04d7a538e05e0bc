"""Amounts in USD beside every one in pico-USD, containers, and what a model thought.

The views are in `0007_sqlite.sql` and `0007_postgresql.sql`, beside this file: those of before,
with further columns at their end. Thinking is read out of the content, by functions that raise
for some texts: what they could not read is left out, since one bad row must not break a view.

Revision ID: 0007
Revises: 0006
"""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.replace_views(views(op.get_bind().dialect.name))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision; `dialect` is sqlite or postgresql."""
    script = Path(__file__).with_name(f"0007_{dialect}.sql").read_text("utf-8")
    statements = script.removesuffix(";\n").split(";\n\n")
    return {statement.split()[2]: statement for statement in statements}
