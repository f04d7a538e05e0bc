"""Sums for reports beside the charges, and what reprices and closed months need to remember.

No view reads what is added here, so those of the revision before stay as they are.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")

SUMS = (
    "charges", "answers", "final_answers", "input_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "cache_read_tokens", "output_tokens", "thinking_tokens",
    "web_search_requests", "unpriced_answers", "unpriced_tokens", "amount_whole", "amount_rest",
)  # fmt: skip


def upgrade() -> None:
    op.add_column("invocations", sa.Column("price_list", sa.Text))
    for column in (
        sa.Column("position", Big),
        sa.Column("run_id", Big),
        sa.Column("as_of", sa.Text),
    ):
        op.add_column("ratings", column)
    _create_closed_months()
    _create_rollups()
    op.execute(sa.text(_PRICE_LISTS))
    op.execute(sa.text(_FILL))


def downgrade() -> None:
    op.drop_table("rollups")
    op.drop_table("closed_months")
    for name in ("as_of", "run_id", "position"):
        op.drop_column("ratings", name)
    op.drop_column("invocations", "price_list")


def _create_closed_months() -> None:
    op.create_table(
        "closed_months",
        sa.Column("closing_id", Big, autoincrement=True, nullable=False),
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("rating_id", Big, nullable=False),
        sa.Column("closed_at", Big, nullable=False),
        sa.Column("reopened_by", Big),
        sa.PrimaryKeyConstraint("closing_id", name="pk_closed_months"),
        sa.ForeignKeyConstraint(
            ["rating_id"], ["ratings.rating_id"], name="fk_closed_months_rating_id"
        ),
    )


def _create_rollups() -> None:
    key = (
        sa.Column("invocation_id", Big, autoincrement=False, nullable=False),
        sa.Column("quarter", Big, autoincrement=False, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("requested_model", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("stop_reason", sa.Text, nullable=False),
        sa.Column("rating_id", Big, autoincrement=False, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
    )
    op.create_table(
        "rollups",
        *key,
        *(sa.Column(name, Big, nullable=False) for name in SUMS),
        sa.Column("superseded_by", Big),
        sa.PrimaryKeyConstraint(*(column.name for column in key), name="pk_rollups"),
        sa.ForeignKeyConstraint(
            ["invocation_id"], ["invocations.invocation_id"], name="fk_rollups_invocation_id"
        ),
    )


# What an invocation's answers were rated with, where any of them has a price.
_PRICE_LISTS = """UPDATE invocations SET price_list = (
  SELECT x.price_list FROM answers a
  JOIN charges c ON c.attempt_id = a.attempt_id
  JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
  WHERE a.invocation_id = invocations.invocation_id LIMIT 1)"""

_FIRST = "COALESCE(c.line, 0) = 0"
_UNPRICED = "COALESCE(c.status, 'unpriced') = 'unpriced'"
_TOKENS = (
    "a.input_tokens",
    "COALESCE(a.cache_write_5m_tokens, a.cache_write_tokens"
    " - COALESCE(a.cache_write_1h_tokens, 0))",
    "a.cache_write_1h_tokens",
    "a.cache_read_tokens",
    "a.output_tokens",
    "a.thinking_tokens",
    "a.web_search_requests",
)
_QUANTITIES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
_UNPRICED_TOKENS = (
    "CASE WHEN c.status IS NULL THEN "
    + " + ".join(f"COALESCE({tokens}, 0)" for tokens in _TOKENS[:5])
    + " ELSE "
    + " + ".join(f"COALESCE(c.{meter}_quantity, 0)" for meter in _QUANTITIES)
    + " END"
)
_SUMMED = ",\n  ".join(
    (
        "COUNT(c.line)",
        f"COUNT(CASE WHEN {_FIRST} THEN 1 END)",
        f"COUNT(CASE WHEN {_FIRST} AND a.final = 1 THEN 1 END)",
        *(f"COALESCE(SUM(CASE WHEN {_FIRST} THEN {tokens} END), 0)" for tokens in _TOKENS),
        f"COUNT(DISTINCT CASE WHEN {_UNPRICED} THEN a.attempt_id END)",
        f"COALESCE(SUM(CASE WHEN {_UNPRICED} THEN {_UNPRICED_TOKENS} END), 0)",
        "COALESCE(SUM(c.total_amount / 1000000000), 0)",
        "COALESCE(SUM(c.total_amount % 1000000000), 0)",
    )
)
# Broken streams are in doubt and in no sum.
_FILL = f"""INSERT INTO rollups
  (invocation_id, quarter, lane, requested_model, model, stop_reason, rating_id, status,
   currency, {", ".join(SUMS)})
SELECT a.invocation_id, (a.answered_at - a.latency_us) / 900000000, t.lane, a.requested_model,
  COALESCE(a.model, a.requested_model), COALESCE(a.stop_reason, ''), COALESCE(c.rating_id, 0),
  COALESCE(c.status, ''), COALESCE(c.currency, ''),
  {_SUMMED}
FROM answers a
JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges c ON c.attempt_id = a.attempt_id AND c.current = 1
WHERE t.state <> 'partial'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9"""  # noqa: S608  names of ours
