"""Answers that several rows share, and rounds of a run.

A row whose request another row has had answered gets a record of its own in `shared_answers`,
which refers to the attempt that paid; `v_answers` shows it with that attempt and without cost.
`runs.round` is the invocation that began the run's present round, 0 for the first.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("runs", sa.Column("round", Big, server_default="0", nullable=False))
    op.require_unused_names(["shared_answers"])
    op.create_table(
        "shared_answers",
        sa.Column("shared_id", Big, autoincrement=True, nullable=False),
        sa.Column("run_id", Big, nullable=False),
        sa.Column("invocation_id", Big, nullable=False),
        sa.Column("source_id", Big, nullable=False),
        sa.Column("row_number", Big, nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("params_hash", sa.LargeBinary(), nullable=False),
        sa.Column("identity", Big, nullable=False),
        sa.Column("attempt_id", Big, nullable=False),
        sa.Column("shared_at", Big, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.run_id"], name=op.f("fk_shared_answers_run_id")
        ),
        sa.ForeignKeyConstraint(
            ["invocation_id"],
            ["invocations.invocation_id"],
            name=op.f("fk_shared_answers_invocation_id"),
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.source_id"], name=op.f("fk_shared_answers_source_id")
        ),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["answers.attempt_id"], name=op.f("fk_shared_answers_attempt_id")
        ),
        sa.PrimaryKeyConstraint("shared_id", name=op.f("pk_shared_answers")),
        sa.UniqueConstraint(
            "source_id", "row_number", name=op.f("uq_shared_answers_source_id_row_number")
        ),
    )
    op.create_index(op.f("ix_shared_answers_identity"), "shared_answers", ["identity"])
    op.create_index(op.f("ix_shared_answers_attempt_id"), "shared_answers", ["attempt_id"])
    op.replace_views(views(op.get_bind().dialect.name))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements that change; `dialect` is sqlite or postgresql."""
    time = {"sqlite": _SQLITE_TIME, "postgresql": _PG_TIME}[dialect]
    whole = {
        "text": "COALESCE(a.joined_text, a.text)",
        "content": "COALESCE(a.joined_content, a.content)",
        "tokens": _columns(_TOKENS_OF_LEGS),
        "answered_at": time.format("a.answered_at"),
    }
    own = _ANSWERS.format(
        row=_OWN_ROW,
        cost=f"CASE WHEN a.legs > 1 THEN {_COST_OF_LEGS} ELSE {_COST} END",
        status=f"CASE WHEN a.legs > 1 THEN {_STATUS_OF_LEGS} ELSE {_STATUS} END",
        reported="a.provider_reported_cost",
        paid_by=_NOTHING,
        # SQLite takes a CROSS JOIN in the order written: sources are few, and the answers
        # of one are found by the index over final ones.
        tables="sources s\nCROSS JOIN answers a",
        holder="a",
        where="WHERE a.source_id = s.source_id AND a.final = 1 AND s.superseded_by IS NULL",
        **whole,
    )
    shared = _ANSWERS.format(
        row=_SHARING_ROW,
        cost="0",
        status="'unbilled'",
        reported=_NOTHING,
        paid_by="t.attempt_uid",
        tables="sources s\nCROSS JOIN shared_answers h\nCROSS JOIN answers a",
        holder="h",
        where="WHERE h.source_id = s.source_id AND a.attempt_id = h.attempt_id"
        " AND s.superseded_by IS NULL",
        **whole,
    )
    bodies = {
        "v_answers": f"{own}\nUNION ALL\n{shared}",
        "v_answers_all": _ANSWERS.format(
            row=_OWN_ROW,
            text="a.text",
            content="a.content",
            tokens=_columns("a.{0}"),
            answered_at=time.format("a.answered_at"),
            cost=_COST,
            status=_STATUS,
            reported="a.provider_reported_cost",
            paid_by=_NOTHING,
            tables="answers a\nJOIN sources s ON s.source_id = a.source_id",
            holder="a",
            where="WHERE t.state <> 'partial'",  # what came of a broken stream is no answer
        ),
    }
    return {name: f"CREATE VIEW {name} AS\n{body}" for name, body in bodies.items()}


def _columns(pattern: str) -> str:
    return ",\n  ".join(map(pattern.format, _TOKENS))


_TOKENS = (
    "input_tokens",
    "cache_write_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
    "thinking_tokens",
    "web_search_requests",
)

_SQLITE_TIME = (
    "strftime('%Y-%m-%dT%H:%M:%S', {0} / 1000000, 'unixepoch')"
    " || printf('.%06dZ', {0} % 1000000)"
)
# An interval times a number is exact up to 2^53 microseconds, the year 2255.
_PG_TIME = "TIMESTAMPTZ 'epoch' + {0} * INTERVAL '1 microsecond'"

# A current charge in pico-USD: NULL where it is unpriced or in another currency.
_USD = (
    "CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0)"
    " WHEN c.currency = 'USD' THEN c.total_amount END"
)
_CURRENT = "FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1"

# The answers that one request is made of; late ones, and those that were replaced by better
# ones, were paid for, but are no part of it.
_LEGS = """FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id{0}
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered'"""
_LEG_CHARGES = _LEGS.format(
    "\n    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1"
)
_TOKENS_OF_LEGS = (
    "CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.{0}) AS bigint)\n    "
    + _LEGS.format("")
    + ") ELSE a.{0} END AS {0}"
)

# One charge without an amount, and the sum is not known; no charge at all, likewise.
_SUM_IF_KNOWN = f"CASE WHEN COUNT(*) = COUNT({_USD}) THEN CAST(SUM({_USD}) AS bigint) END"
_COST = f"(SELECT {_SUM_IF_KNOWN}\n    {_CURRENT})"
_COST_OF_LEGS = f"(SELECT {_SUM_IF_KNOWN}\n    {_LEG_CHARGES})"

# The least certain of the charges names the whole.
_RANK = (
    "MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3"
    " ELSE 4 END)"
)
_NAME = " WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END"
_STATUS = f"CASE (SELECT {_RANK}\n    {_CURRENT}){_NAME}"
_STATUS_OF_LEGS = f"CASE (SELECT {_RANK}\n    {_LEG_CHARGES}){_NAME}"

_OWN_ROW = """a.run_id, a.invocation_id, r.job, i.endpoint, t.lane, s.name AS source,
  a.row_number, a.custom_id, t.attempt_uid, a.request_id, a.final, t.state, t.leg"""
# It has no attempt of its own: whoever joins charges or attempts finds nothing twice.
_SHARING_ROW = """h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, s.name AS source,
  h.row_number, h.custom_id, CAST(NULL AS text) AS attempt_uid,
  CAST(NULL AS bigint) AS request_id, a.final, t.state, t.leg"""
_NOTHING = "CAST(NULL AS text)"

_ANSWERS = """SELECT
  {row},
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  {text} AS text, a.text_repaired, {content} AS content, a.valid, a.invalid_reason,
  {tokens},
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  {answered_at} AS answered_at,
  {cost} AS cost_pico_usd,
  {status} AS cost_status,
  {reported} AS provider_reported_cost, {paid_by} AS paid_by_attempt_uid
FROM {tables}
LEFT JOIN runs r ON r.run_id = {holder}.run_id
LEFT JOIN invocations i ON i.invocation_id = {holder}.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
{where}"""
