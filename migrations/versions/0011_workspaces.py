"""Which workspace of the provider a request was billed to, where the provider says it.

`v_attempts` is that of revision 0007 and shows `workspace_id`; no other view has changed.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


_BEFORE = "t.provider_request_id,"
_NOW = "t.provider_request_id, t.workspace_id,"


def upgrade() -> None:
    op.execute("DROP VIEW IF EXISTS v_attempts")
    op.add_column("attempts", sa.Column("workspace_id", sa.Text))
    _create_view(_NOW)


def downgrade() -> None:
    op.execute("DROP VIEW IF EXISTS v_attempts")
    op.drop_column("attempts", "workspace_id")
    _create_view(_BEFORE)


def _create_view(named_by_provider: str) -> None:
    statement = views(op.get_bind().dialect.name, named_by_provider)["v_attempts"]
    op.execute(sa.text(statement.replace(":", r"\:")))


def views(dialect: str, named_by_provider: str = _NOW) -> dict[str, str]:
    """The CREATE VIEW statement of this revision; `dialect` is sqlite or postgresql."""
    time = {"sqlite": _SQLITE_TIME, "postgresql": _PG_TIME}[dialect]
    body = _ATTEMPTS.format(
        named_by_provider=named_by_provider,
        usd=_USD,
        opened_at=time.format("t.opened_at"),
        sent_at=time.format("t.sent_at"),
        settled_at=time.format("t.settled_at"),
    )
    return {"v_attempts": f"CREATE VIEW v_attempts AS\n{body}"}


_SQLITE_TIME = (
    "strftime('%Y-%m-%dT%H:%M:%S', {0} / 1000000, 'unixepoch')"
    " || printf('.%06dZ', {0} % 1000000)"
)
_PG_TIME = "TIMESTAMPTZ 'epoch' + {0} * INTERVAL '1 microsecond'"

# A current charge in pico-USD: NULL where it is unpriced or in another currency.
_USD = (
    "CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0)"
    " WHEN c.currency = 'USD' THEN c.total_amount END"
)
_ATTEMPTS = """SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, t.number AS attempt, t.leg, t.purpose, t.state,
  t.requested_model, {opened_at} AS opened_at, {sent_at} AS sent_at,
  {settled_at} AS settled_at, t.http_status, t.error_type, t.error_code, t.error_message,
  {named_by_provider}
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT COALESCE(CAST(SUM({usd}) AS bigint), 0)
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_low END AS cost_low_pico_usd,
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT CASE WHEN COUNT(*) = COUNT({usd}) THEN CAST(SUM({usd}) AS bigint) END
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_high END AS cost_high_pico_usd
FROM attempts t
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id"""
