"""Each answer has a checksum, and on SQLite v_answers is read once for all rows it shows.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("answers", sa.Column("checksum", big))
    op.replace_views(views(op.get_bind().dialect.name))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision; `dialect` is sqlite or postgresql.

    SQLite computes all columns of a union that is more than handed on: of every row, for a
    count too. So the union is of what tells where an answer is shown, and the columns of the
    answers are beside it. PostgreSQL computes what it was asked for.
    """
    if dialect == "postgresql":
        return {}
    return {"v_answers": f"CREATE VIEW v_answers AS\n{_ANSWERS}"}


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
_TIME = (
    "strftime('%Y-%m-%dT%H:%M:%S', a.answered_at / 1000000, 'unixepoch')"
    " || printf('.%06dZ', a.answered_at % 1000000)"
)

# A current charge in pico-USD: NULL where it is unpriced or in another currency.
_USD = (
    "CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0)"
    " WHEN c.currency = 'USD' THEN c.total_amount END"
)
_CURRENT = "FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1"

# Its upper end: one amount, but where it is assumed.
_HIGH = (
    "CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0)"
    " WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END"
)

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
_TOKEN_COLUMNS = ",\n  ".join(map(_TOKENS_OF_LEGS.format, _TOKENS))

# One charge without an amount, and the sum is not known; no charge at all, likewise.
_SUM_IF_KNOWN = f"CASE WHEN COUNT(*) = COUNT({_USD}) THEN CAST(SUM({_USD}) AS bigint) END"
_SUM = f"COALESCE(CAST(SUM({_USD}) AS bigint), 0)"
_HIGH_IF_KNOWN = f"CASE WHEN COUNT(*) = COUNT({_USD}) THEN CAST(SUM({_HIGH}) AS bigint) END"

# The least certain of the charges names the whole.
_RANK = (
    "MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3"
    " ELSE 4 END)"
)
_NAME = " WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END"

_OF_LEGS = (
    "CASE WHEN a.legs > 1 THEN (SELECT {0}\n    "
    + _LEG_CHARGES
    + f") ELSE (SELECT {{0}}\n    {_CURRENT}) END"
)
_PAID_HERE = "CASE WHEN h.is_shared = 0 THEN {0} END"
_OR_NOTHING = "CASE WHEN h.is_shared = 1 THEN 0 ELSE {0} END"
_COST = _OR_NOTHING.format(_OF_LEGS.format(_SUM_IF_KNOWN))
_LOW = _OR_NOTHING.format(_OF_LEGS.format(_SUM))
_HIGHEST = _OR_NOTHING.format(_OF_LEGS.format(_HIGH_IF_KNOWN))
_STATUS = (
    "CASE WHEN h.is_shared = 1 THEN 'unbilled' ELSE CASE "
    + _OF_LEGS.format(_RANK)
    + _NAME
    + " END"
)

# Where answers are shown. SQLite takes a CROSS JOIN in the order written: sources are few, and
# the answers of one are found by the index over final ones. A row that shares an answer has no
# attempt of its own: whoever joins charges or attempts finds nothing twice.
_HOLDERS = """SELECT
    a.run_id, a.invocation_id, s.name AS source, a.row_number, a.custom_id, a.attempt_id,
    0 AS is_shared
  FROM sources s CROSS JOIN answers a
  WHERE a.source_id = s.source_id AND a.final = 1 AND s.superseded_by IS NULL
  UNION ALL
  SELECT
    h.run_id, h.invocation_id, s.name, h.row_number, h.custom_id, h.attempt_id, 1
  FROM sources s CROSS JOIN shared_answers h
  WHERE h.source_id = s.source_id AND s.superseded_by IS NULL"""

_ANSWERS = f"""SELECT
  h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, h.source,
  h.row_number, h.custom_id, {_PAID_HERE.format("t.attempt_uid")} AS attempt_uid,
  {_PAID_HERE.format("a.request_id")} AS request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  COALESCE(a.joined_text, a.text) AS text, a.text_repaired,
  COALESCE(a.joined_content, a.content) AS content, a.valid, a.invalid_reason,
  {_TOKEN_COLUMNS},
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  {_TIME} AS answered_at,
  {_COST} AS cost_pico_usd,
  {_STATUS} AS cost_status,
  {_PAID_HERE.format("a.provider_reported_cost")} AS provider_reported_cost,
  CASE WHEN h.is_shared = 1 THEN t.attempt_uid END AS paid_by_attempt_uid,
  {_STATUS} AS trust, {_COST} / 1e12 AS cost_usd,
  {_LOW} AS cost_low_pico_usd, {_HIGHEST} AS cost_high_pico_usd
FROM ({_HOLDERS}) h
CROSS JOIN answers a ON a.attempt_id = h.attempt_id
LEFT JOIN runs r ON r.run_id = h.run_id
LEFT JOIN invocations i ON i.invocation_id = h.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id"""  # noqa: S608 - names of ours
