"""v_texts: who asked, what came back, what it cost.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_views(views(op.get_bind().dialect.name))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision; `dialect` is sqlite or postgresql.

    It reads tables, not v_answers: a view that others are made from cannot be made anew alone.
    SQLite takes a CROSS JOIN in the order written; there the sum is a floating-point number.
    """
    join, usd = {
        "sqlite": ("CROSS JOIN {0} ON", "{0} / 1e12"),
        "postgresql": (
            "JOIN {0} ON",
            "CAST(CAST({0} AS numeric) / 1000000000000 AS numeric(38, 12))",
        ),
    }[dialect]
    statement = _TEXTS.format(answers=join.format("answers a"), cost_usd=usd.format(_COST))
    return {"v_texts": f"CREATE VIEW v_texts AS\n{statement}"}


# A current charge in pico-USD: NULL where it is unpriced or in another currency.
_USD = (
    "CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0)"
    " WHEN c.currency = 'USD' THEN c.total_amount END"
)
# One charge without an amount, and the sum is not known; no charge at all, likewise.
_SUM_IF_KNOWN = f"CASE WHEN COUNT(*) = COUNT({_USD}) THEN CAST(SUM({_USD}) AS bigint) END"
# The answers that one request is made of.
_OF_LEGS = """FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered'"""
_COST = f"""CASE WHEN h.is_shared = 1 THEN 0
    WHEN a.legs > 1 THEN (SELECT {_SUM_IF_KNOWN}
    {_OF_LEGS})
    ELSE (SELECT {_SUM_IF_KNOWN}
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END"""  # noqa: S608 - names of ours

_TEXTS = """SELECT
  h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, h.source, h.row_number, h.custom_id,
  COALESCE(a.joined_text, a.text) AS text, a.model, a.stop_reason,
  {cost_usd} AS cost_usd
FROM (SELECT
    a.run_id, a.invocation_id, s.name AS source, a.row_number, a.custom_id, a.attempt_id,
    0 AS is_shared
  FROM sources s CROSS JOIN answers a
  WHERE a.source_id = s.source_id AND a.final = 1 AND s.superseded_by IS NULL
  UNION ALL
  SELECT
    h.run_id, h.invocation_id, s.name, h.row_number, h.custom_id, h.attempt_id, 1
  FROM sources s CROSS JOIN shared_answers h
  WHERE h.source_id = s.source_id AND s.superseded_by IS NULL) h
{answers} a.attempt_id = h.attempt_id
LEFT JOIN runs r ON r.run_id = h.run_id
LEFT JOIN invocations i ON i.invocation_id = h.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id"""
