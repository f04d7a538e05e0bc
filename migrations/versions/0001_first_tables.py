"""The first tables.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite numbers rows only in INTEGER columns; PostgreSQL needs the width.
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLES = (
    "ledger_info",
    "price_books",
    "runs",
    "invocations",
    "rate_sets",
    "ratings",
    "sources",
    "attempts",
    "failures",
    "answers",
    "charges",
    "unusable_bodies",
)


def upgrade() -> None:
    _create_tables()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def views(dialect: str) -> dict[str, str]:  # noqa: ARG001  every revision answers this
    """No views yet."""
    return {}


def _reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}")


def _index(name: str, table: str, columns: list[str], where: str | None = None) -> None:
    partial = sa.text(where) if where else None
    op.create_index(name, table, columns, sqlite_where=partial, postgresql_where=partial)


def _create_tables() -> None:
    op.create_table(
        "ledger_info",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_ledger_info"),
    )
    op.create_table(
        "price_books",
        sa.Column("price_book_id", BIG, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("price_book_id", name="pk_price_books"),
        sa.UniqueConstraint("sha256", name="uq_price_books_sha256"),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("job", sa.Text),
        sa.Column("created_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
        sa.UniqueConstraint("key", name="uq_runs_key"),
    )
    op.create_table(
        "invocations",
        sa.Column("invocation_id", BIG, nullable=False),
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("started_at", BIG, nullable=False),
        sa.Column("ended_at", BIG),
        sa.Column("exit_code", sa.Integer),
        sa.Column("clean", sa.Integer, nullable=False, server_default="0"),
        sa.Column("settled_below", BIG, nullable=False, server_default="0"),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", BIG, nullable=False),
        sa.Column("os_user", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("base_url", sa.Text, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("simulated", sa.Integer, nullable=False, server_default="0"),
        sa.Column("settings_digest", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        _reference("invocations", "run_id", "runs.run_id"),
        sa.PrimaryKeyConstraint("invocation_id", name="pk_invocations"),
    )
    _index("ix_invocations_run_id", "invocations", ["run_id"])
    op.create_table(
        "rate_sets",
        sa.Column("rate_set_id", BIG, nullable=False),
        sa.Column("price_book_id", BIG, nullable=False),
        sa.Column("price_list", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("valid_from", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("input_rate", BIG),
        sa.Column("cache_write_5m_rate", BIG),
        sa.Column("cache_write_1h_rate", BIG),
        sa.Column("cache_read_rate", BIG),
        sa.Column("output_rate", BIG),
        sa.Column("web_search_rate", BIG),
        _reference("rate_sets", "price_book_id", "price_books.price_book_id"),
        sa.PrimaryKeyConstraint("rate_set_id", name="pk_rate_sets"),
        sa.UniqueConstraint(
            "price_book_id",
            "price_list",
            "model",
            "terms",
            "valid_from",
            name="uq_rate_sets_price_book_id_price_list_model_terms_valid_from",
        ),
    )
    op.create_table(
        "ratings",
        sa.Column("rating_id", BIG, nullable=False),
        sa.Column("price_book_id", BIG, nullable=False),
        sa.Column("created_at", BIG, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        _reference("ratings", "price_book_id", "price_books.price_book_id"),
        sa.PrimaryKeyConstraint("rating_id", name="pk_ratings"),
    )
    op.create_table(
        "sources",
        sa.Column("source_id", BIG, nullable=False),
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("settings_digest", sa.Text, nullable=False),
        sa.Column("matched", sa.Integer, nullable=False),
        sa.Column("rows", BIG),
        sa.Column("done_ranges", sa.Text, nullable=False, server_default="[]"),
        sa.Column("superseded_by", BIG),
        _reference("sources", "run_id", "runs.run_id"),
        sa.PrimaryKeyConstraint("source_id", name="pk_sources"),
    )
    _index("ix_sources_run_id", "sources", ["run_id"])
    op.create_table(
        "attempts",
        sa.Column("attempt_id", BIG, autoincrement=False, nullable=False),
        sa.Column("attempt_uid", sa.Text, nullable=False),
        sa.Column("invocation_id", BIG, nullable=False),
        sa.Column("request_id", BIG, nullable=False),
        sa.Column("source_id", BIG, nullable=False),
        sa.Column("row_number", BIG, nullable=False),
        sa.Column("byte_offset", BIG),
        sa.Column("custom_id", sa.Text),
        sa.Column("params_hash", sa.LargeBinary, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("leg", sa.Integer, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("requested_model", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("pending", sa.Integer, nullable=False),
        sa.Column("opened_at", BIG, nullable=False),
        sa.Column("sent_at", BIG),
        sa.Column("settled_at", BIG),
        sa.Column("http_status", sa.Integer),
        sa.Column("error_type", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("provider_request_id", sa.Text),
        sa.Column("cost_low", BIG, nullable=False),
        sa.Column("cost_high", BIG),
        _reference("attempts", "invocation_id", "invocations.invocation_id"),
        _reference("attempts", "source_id", "sources.source_id"),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_attempts"),
    )
    _index(
        "ix_attempts_not_answered",
        "attempts",
        ["invocation_id", "state"],
        where="state <> 'answered'",
    )
    _index("ix_attempts_pending", "attempts", ["invocation_id"], where="pending = 1")
    op.create_table(
        "failures",
        sa.Column("failure_id", BIG, nullable=False),
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("invocation_id", BIG, nullable=False),
        sa.Column("source_id", BIG, nullable=False),
        sa.Column("row_number", BIG, nullable=False),
        sa.Column("byte_offset", BIG),
        sa.Column("custom_id", sa.Text),
        sa.Column("params_hash", sa.LargeBinary),
        sa.Column("identity", BIG),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("transient", sa.Integer, nullable=False),
        sa.Column("attempt_id", BIG),
        sa.Column("failed_at", BIG, nullable=False),
        _reference("failures", "run_id", "runs.run_id"),
        _reference("failures", "invocation_id", "invocations.invocation_id"),
        _reference("failures", "source_id", "sources.source_id"),
        sa.PrimaryKeyConstraint("failure_id", name="pk_failures"),
        sa.UniqueConstraint("source_id", "row_number", name="uq_failures_source_id_row_number"),
    )
    _index("ix_failures_identity", "failures", ["identity"])
    op.create_table(
        "answers",
        sa.Column("attempt_id", BIG, autoincrement=False, nullable=False),
        sa.Column("request_id", BIG, nullable=False),
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("invocation_id", BIG, nullable=False),
        sa.Column("source_id", BIG, nullable=False),
        sa.Column("row_number", BIG, nullable=False),
        sa.Column("custom_id", sa.Text),
        sa.Column("params_hash", sa.LargeBinary, nullable=False),
        sa.Column("identity", BIG, nullable=False),
        sa.Column("final", sa.Integer, nullable=False),
        sa.Column("requested_model", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("message_id", sa.Text),
        sa.Column("stop_reason", sa.Text),
        sa.Column("stop_sequence", sa.Text),
        sa.Column("stop_details", sa.Text),
        sa.Column("container_id", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("text_repaired", sa.Integer, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("joined_text", sa.Text),
        sa.Column("joined_content", sa.Text),
        sa.Column("input_tokens", BIG),
        sa.Column("cache_write_tokens", BIG),
        sa.Column("cache_write_5m_tokens", BIG),
        sa.Column("cache_write_1h_tokens", BIG),
        sa.Column("cache_read_tokens", BIG),
        sa.Column("output_tokens", BIG),
        sa.Column("thinking_tokens", BIG),
        sa.Column("web_search_requests", BIG),
        sa.Column("service_tier", sa.Text),
        sa.Column("inference_geo", sa.Text),
        sa.Column("speed", sa.Text),
        sa.Column("usage", sa.Text),
        sa.Column("provider_reported_cost", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("legs", sa.Integer, nullable=False),
        sa.Column("latency_us", BIG, nullable=False),
        sa.Column("first_token_us", BIG),
        sa.Column("answered_at", BIG, nullable=False),
        _reference("answers", "attempt_id", "attempts.attempt_id"),
        _reference("answers", "run_id", "runs.run_id"),
        _reference("answers", "invocation_id", "invocations.invocation_id"),
        _reference("answers", "source_id", "sources.source_id"),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_answers"),
    )
    _index("ix_answers_identity", "answers", ["identity"])
    _index("ix_answers_locator", "answers", ["source_id", "row_number"], where="final = 1")
    _index("ix_answers_not_final", "answers", ["request_id"], where="final = 0")
    op.create_table(
        "charges",
        sa.Column("attempt_id", BIG, autoincrement=False, nullable=False),
        sa.Column("line", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("rating_id", BIG, autoincrement=False, nullable=False),
        sa.Column("current", sa.Integer, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("rate_set_id", BIG),
        sa.Column("currency", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("input_quantity", BIG),
        sa.Column("cache_write_5m_quantity", BIG),
        sa.Column("cache_write_1h_quantity", BIG),
        sa.Column("cache_read_quantity", BIG),
        sa.Column("output_quantity", BIG),
        sa.Column("web_search_quantity", BIG),
        sa.Column("input_amount", BIG),
        sa.Column("cache_write_5m_amount", BIG),
        sa.Column("cache_write_1h_amount", BIG),
        sa.Column("cache_read_amount", BIG),
        sa.Column("output_amount", BIG),
        sa.Column("web_search_amount", BIG),
        sa.Column("total_amount", BIG),
        _reference("charges", "attempt_id", "attempts.attempt_id"),
        _reference("charges", "rating_id", "ratings.rating_id"),
        _reference("charges", "rate_set_id", "rate_sets.rate_set_id"),
        sa.PrimaryKeyConstraint("attempt_id", "line", "rating_id", name="pk_charges"),
    )
    op.create_table(
        "unusable_bodies",
        sa.Column("attempt_id", BIG, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        _reference("unusable_bodies", "attempt_id", "attempts.attempt_id"),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_unusable_bodies"),
    )
