"""Who pays for an answer: its workspace, and the fingerprint of the key that it began with.

Both views are those of revision 0007 with further columns at their end.

Revision ID: 0011
Revises: 0010
"""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.replace_views(views(op.get_bind().dialect.name))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision; `dialect` is sqlite or postgresql."""
    script = Path(__file__).with_name(f"0007_{dialect}.sql").read_text("utf-8")
    before = {each.split()[2]: each for each in script.removesuffix(";\n").split(";\n\n")}
    return {name: _with_more(before[name]) for name in ("v_answers", "v_answers_all")}


def _with_more(statement: str) -> str:
    for (end, following), columns in _MORE.items():
        statement = statement.replace(
            f"{end}\n{following}", f"{end},\n  {columns}\n{following}"
        )
    return statement


_OWN = "t.workspace_id, i.key_fingerprint"
_SHARED = "CROSS JOIN shared_answers h"
# Where the columns of an inner and of the outer SELECT end, and what comes behind them. A row
# that has another row's answer was paid for by nobody here.
_MORE = {
    (" AS cost_high_usd", "FROM ("): "x.workspace_id, x.key_fingerprint",
    (" a.container_id", "FROM answers a"): _OWN,
    (" a.container_id", "FROM sources s\nCROSS JOIN answers a"): _OWN,
    (" a.container_id", f"FROM sources s\n{_SHARED}"): "CAST(NULL AS text) AS workspace_id,"
    " CAST(NULL AS text) AS key_fingerprint",
    (" a.container_id", "FROM (SELECT"): "CASE WHEN h.is_shared = 0 THEN t.workspace_id END"
    " AS workspace_id,\n  CASE WHEN h.is_shared = 0 THEN i.key_fingerprint END"
    " AS key_fingerprint",
}
