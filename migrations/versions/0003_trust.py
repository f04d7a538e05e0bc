"""A charge carries how much it is to be trusted, and both ends of what it may have cost.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("answers", sa.Column("evidence", sa.Text))
    op.add_column("charges", sa.Column("high_amount", big))
    op.add_column("ratings", sa.Column("rules", sa.Integer))
    for name in ("assumed_high_whole", "assumed_high_rest"):
        column = sa.Column(name, big, nullable=False, server_default="0")
        op.add_column("rollups", column)
    # What was assumed before had one amount.
    op.execute(
        "UPDATE rollups SET assumed_high_whole = amount_whole, assumed_high_rest = amount_rest"
        " WHERE status = 'assumed'"
    )
    op.replace_views(views(op.get_bind().dialect.name))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision; `dialect` is sqlite or postgresql."""
    time, day, usd = {
        "sqlite": (_SQLITE_TIME, _SQLITE_DAY, _SQLITE_USD),
        "postgresql": (_PG_TIME, _PG_DAY, _PG_USD),
    }[dialect]
    whole = {
        "text": "COALESCE(a.joined_text, a.text)",
        "content": "COALESCE(a.joined_content, a.content)",
        "tokens": _columns(_TOKENS_OF_LEGS),
        "answered_at": time.format("a.answered_at"),
    }
    of_legs = "CASE WHEN a.legs > 1 THEN {0} ELSE {1} END"
    cost = of_legs.format(_COST_OF_LEGS, _COST)
    own = _ANSWERS.format(
        row=_OWN_ROW,
        cost=cost,
        status=of_legs.format(_STATUS_OF_LEGS, _STATUS),
        cost_usd=usd.format(cost),
        low=of_legs.format(_LOW_OF_LEGS, _LOW),
        high=of_legs.format(_HIGHEST_OF_LEGS, _HIGHEST),
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
        cost_usd=usd.format("0"),
        low="0",
        high="0",
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
            cost_usd=usd.format(_COST),
            low=_LOW,
            high=_HIGHEST,
            reported="a.provider_reported_cost",
            paid_by=_NOTHING,
            tables="answers a\nJOIN sources s ON s.source_id = a.source_id",
            holder="a",
            where="WHERE t.state <> 'partial'",  # what came of a broken stream is no answer
        ),
        "v_attempts": _ATTEMPTS.format(
            usd=_USD,
            high_if_known=_HIGH_IF_KNOWN,
            opened_at=time.format("t.opened_at"),
            sent_at=time.format("t.sent_at"),
            settled_at=time.format("t.settled_at"),
        ),
        "v_charges": "\nUNION ALL\n".join([*map(_CHARGES.format, _METERS), _UNKNOWN_USAGE]),
        "v_cost_by_model_day": _COST_BY_MODEL_DAY.format(
            usd=_USD,
            high=_HIGH,
            rank=_RANK,
            current=_CURRENT,
            day=day.format("COALESCE(t.sent_at, t.opened_at)"),
            tokens=_columns("CAST(SUM(a.{0}) AS bigint) AS {0}"),
        ),
    }
    return {name: f"CREATE VIEW {name} AS\n{body.rstrip()}" for name, body in bodies.items()}


def _columns(pattern: str) -> str:
    return ",\n  ".join(map(pattern.format, _TOKENS))


_METERS = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "web_search")
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

# For reading; what is added up is pico-USD.
_SQLITE_USD = "{0} / 1e12"
_PG_USD = "CAST({0} AS numeric) / 1000000000000"

_SQLITE_DAY = "strftime('%Y-%m-%d', {0} / 1000000, 'unixepoch')"
_SQLITE_TIME = (
    "strftime('%Y-%m-%dT%H:%M:%S', {0} / 1000000, 'unixepoch')"
    " || printf('.%06dZ', {0} % 1000000)"
)
# An interval times a number is exact up to 2^53 microseconds, the year 2255.
_PG_TIME = "TIMESTAMPTZ 'epoch' + {0} * INTERVAL '1 microsecond'"
_PG_DAY = f"CAST(({_PG_TIME}) AT TIME ZONE 'UTC' AS date)"

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

# One charge without an amount, and the sum is not known; no charge at all, likewise.
_SUM_IF_KNOWN = f"CASE WHEN COUNT(*) = COUNT({_USD}) THEN CAST(SUM({_USD}) AS bigint) END"
_COST = f"(SELECT {_SUM_IF_KNOWN}\n    {_CURRENT})"
_COST_OF_LEGS = f"(SELECT {_SUM_IF_KNOWN}\n    {_LEG_CHARGES})"
_LOW = f"(SELECT COALESCE(CAST(SUM({_USD}) AS bigint), 0)\n    {_CURRENT})"
_LOW_OF_LEGS = f"(SELECT COALESCE(CAST(SUM({_USD}) AS bigint), 0)\n    {_LEG_CHARGES})"
_HIGH_IF_KNOWN = f"CASE WHEN COUNT(*) = COUNT({_USD}) THEN CAST(SUM({_HIGH}) AS bigint) END"
_HIGHEST = f"(SELECT {_HIGH_IF_KNOWN}\n    {_CURRENT})"
_HIGHEST_OF_LEGS = f"(SELECT {_HIGH_IF_KNOWN}\n    {_LEG_CHARGES})"

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
  {reported} AS provider_reported_cost, {paid_by} AS paid_by_attempt_uid,
  {status} AS trust, {cost_usd} AS cost_usd,
  {low} AS cost_low_pico_usd, {high} AS cost_high_pico_usd
FROM {tables}
LEFT JOIN runs r ON r.run_id = {holder}.run_id
LEFT JOIN invocations i ON i.invocation_id = {holder}.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
{where}"""

_ATTEMPTS = """SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, t.number AS attempt, t.leg, t.purpose, t.state,
  t.requested_model, {opened_at} AS opened_at, {sent_at} AS sent_at,
  {settled_at} AS settled_at, t.http_status, t.error_type, t.error_code, t.error_message,
  t.provider_request_id, t.workspace_id,
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT COALESCE(CAST(SUM({usd}) AS bigint), 0)
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_low END AS cost_low_pico_usd,
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT {high_if_known}
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_high END AS cost_high_pico_usd
FROM attempts t
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id"""

_CHARGES_HEAD = """SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  """
_CHARGES_TAIL = """
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND """
_CHARGES = (
    _CHARGES_HEAD
    + """'{0}' AS meter, c.{0}_quantity AS quantity, x.{0}_rate AS rate, c.{0}_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.{0}_amount END AS amount_pico_usd,"""
    + _CHARGES_TAIL
    + "c.{0}_quantity > 0"
)
# What nobody reported has no quantity to show, and must be seen all the same.
_UNKNOWN_USAGE = (
    _CHARGES_HEAD
    + """'unknown' AS meter, NULL AS quantity, NULL AS rate, NULL AS amount,
  c.currency, NULL AS amount_pico_usd,"""
    + _CHARGES_TAIL
    + "c.status IN ('unpriced', 'assumed') AND "
    + " AND ".join(f"COALESCE(c.{meter}_quantity, 0) = 0" for meter in _METERS)
)

# Sums over attempts, so that late answers and earlier legs count: they are paid. A request
# counts once, where its final answer is. What came of a broken stream is in doubt.
_COST_BY_MODEL_DAY = """SELECT
  {day} AS day, i.endpoint, COALESCE(a.model, t.requested_model) AS model,
  COUNT(CASE WHEN a.final = 1 THEN 1 END) AS requests,
  COUNT(*) AS attempts,
  {tokens},
  CASE WHEN COUNT(a.attempt_id) = 0 THEN 0
    ELSE CAST(SUM((SELECT SUM({usd}) {current})) AS bigint) END AS cost_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_low END), 0) AS bigint)
    AS in_doubt_low_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_high END), 0) AS bigint)
    AS in_doubt_high_pico_usd,
  COUNT(CASE WHEN a.attempt_id IS NULL AND t.cost_high IS NULL THEN 1 END)
    AS in_doubt_unbounded,
  COUNT(DISTINCT CASE WHEN (SELECT {rank} {current}) IN (1, 2, 3) THEN NULL
    ELSE a.request_id END) AS unpriced_requests,
  COUNT(DISTINCT CASE WHEN EXISTS (SELECT 1 {current} AND c.status = 'assumed')
    THEN a.request_id END) AS assumed_requests,
  CAST(COALESCE(SUM((SELECT SUM({usd}) {current} AND c.status = 'assumed')), 0) AS bigint)
    AS assumed_low_pico_usd,
  CAST(COALESCE(SUM((SELECT SUM({high}) {current} AND c.status = 'assumed')), 0) AS bigint)
    AS assumed_high_pico_usd
FROM attempts t
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN answers a ON a.attempt_id = t.attempt_id AND t.state <> 'partial'
GROUP BY 1, 2, 3"""
