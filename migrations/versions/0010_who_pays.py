"""Who pays: the fingerprint of the key that an invocation began with, and the workspace.

Both views are those of revision 0007 with further columns at their end.

Revision ID: 0010
Revises: 0009
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("invocations", sa.Column("key_fingerprint", sa.Text))
    op.replace_views(views(op.get_bind().dialect.name))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision; `dialect` is sqlite or postgresql."""
    script = Path(__file__).with_name(f"0007_{dialect}.sql").read_text("utf-8")
    before = {each.split()[2]: each for each in script.removesuffix(";\n").split(";\n\n")}
    return {name: _with_more(before[name], more) for name, more in _MORE.items()}


def _with_more(statement: str, more: tuple[tuple[str, str], ...]) -> str:
    for end, columns in more:
        statement = statement.replace(f"{end}\nFROM ", f"{end},\n  {columns}\nFROM ")
    return statement


# Where the columns of an inner and of the outer SELECT end, and what comes behind them.
_MORE = {
    "v_attempts": (
        ("ELSE t.cost_high END AS cost_high_pico_usd", "i.key_fingerprint"),
        (" AS cost_high_usd", "x.key_fingerprint"),
    ),
    "v_charges": (
        ("c.rating_id AS rating", "t.workspace_id, i.key_fingerprint"),
        (" AS amount_usd", "x.workspace_id, x.key_fingerprint"),
    ),
}
