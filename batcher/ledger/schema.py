"""The tables, as SQLAlchemy Core metadata; what they mean is in the comments.

Conventions: `*_at` is BIGINT microseconds UTC; money is BIGINT pico-units of the currency named
(pico-USD unless `currency` says otherwise); flags are 0 or 1; JSON is text as received.
The stable views over them are in the migrations.
"""

from typing import Final

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from batcher.ledger.schema_base import Big, metadata
from batcher.ledger.schema_money import (
    METERS,
    ROLLUP_SUMS,
    budget_slices,
    budgets,
    charges,
    closed_months,
    price_books,
    rate_sets,
    ratings,
    rollups,
)

# The tables of the hot path. Their references are not checked while rows are written, and on
# PostgreSQL not even declared, where a check costs more than the row; `verify` does it.
UNCHECKED: Final = ("attempts", "answers", "charges")

# What the database is: `database_uid` prefixes every attempt uid.
ledger_info = Table(
    "ledger_info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# One job over its inputs. `key` is the job's name or the arguments as typed.
runs = Table(
    "runs",
    metadata,
    Column("run_id", Big, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, unique=True),
    Column("job", Text),
    Column("created_at", Big, nullable=False),
)

# One process of a run. `ended_at` is NULL while it lives and after a crash; `settled_below` and
# the done ranges of its sources are one checkpoint: every attempt of this invocation with a
# smaller id is settled and counted in the ranges. `clean` is 1 when the last one covers all.
invocations = Table(
    "invocations",
    metadata,
    Column("invocation_id", Big, primary_key=True, autoincrement=True),
    Column("run_id", Big, ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("started_at", Big, nullable=False),
    Column("ended_at", Big),
    Column("exit_code", Integer),
    Column("clean", Integer, nullable=False, server_default="0"),
    Column("settled_below", Big, nullable=False, server_default="0"),
    Column("host", Text, nullable=False),
    Column("pid", Big, nullable=False),
    Column("os_user", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("command", Text, nullable=False),  # as typed, to be typed again
    Column("endpoint", Text, nullable=False),
    Column("base_url", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("simulated", Integer, nullable=False, server_default="0"),
    Column("price_list", Text),  # its answers are rated with; NULL: none, all is unpriced
    Column("settings_digest", Text, nullable=False),
    Column("options", Text, nullable=False),  # JSON object, never a key
    Column("tags", Text, nullable=False),  # JSON object of text
)

# One snapshot of one input. A changed file is a new source; when it has been matched to the
# end, the older snapshot of the same name is superseded: its unclaimed answers leave v_answers.
# `done_ranges` is JSON [[first,last],…] of row numbers that need nothing more. `matched` is 0
# while rows may still claim answers of older snapshots. `rows` is NULL until read to the end.
sources = Table(
    "sources",
    metadata,
    Column("source_id", Big, primary_key=True, autoincrement=True),
    Column("run_id", Big, ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("settings_digest", Text, nullable=False),
    Column("matched", Integer, nullable=False),
    Column("rows", Big),
    Column("done_ranges", Text, nullable=False, server_default="[]"),
    Column("superseded_by", Big),
)

# One time a request was put on the wire. `pending` is 1 while this is the last attempt of a
# request that is not finished. `cost_high` NULL means unbounded. For answered and late attempts
# the cost is in `charges`.
attempts = Table(
    "attempts",
    metadata,
    Column("attempt_id", Big, primary_key=True, autoincrement=False),
    Column("attempt_uid", Text, nullable=False),
    Column("invocation_id", Big, ForeignKey("invocations.invocation_id"), nullable=False),
    Column("request_id", Big, nullable=False),
    Column("source_id", Big, ForeignKey("sources.source_id"), nullable=False),
    Column("row_number", Big, nullable=False),
    Column("byte_offset", Big),
    Column("custom_id", Text),
    Column("params_hash", LargeBinary, nullable=False),
    Column("number", Integer, nullable=False),
    Column("leg", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("opened_at", Big, nullable=False),
    Column("sent_at", Big),
    Column("settled_at", Big),
    Column("http_status", Integer),
    Column("error_type", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("provider_request_id", Text),
    Column("cost_low", Big, nullable=False),
    Column("cost_high", Big),
    Column("workspace_id", Text),
    Index(
        "ix_attempts_pending",
        "invocation_id",
        sqlite_where=text("pending = 1"),
        postgresql_where=text("pending = 1"),
    ),
    # Everything in doubt or refused is rare: reports sum it without reading the answered ones.
    Index(
        "ix_attempts_not_answered",
        "invocation_id",
        "state",
        sqlite_where=text("state <> 'answered'"),
        postgresql_where=text("state <> 'answered'"),
    ),
)

# The bytes of a 200 that was no Message: paid for, so kept.
unusable_bodies = Table(
    "unusable_bodies",
    metadata,
    Column("attempt_id", Big, ForeignKey("attempts.attempt_id"), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

# Every answer ever received. `final` is 1 on a row's current final answer, 0 on earlier legs
# and late ones. The locator (source_id, row_number) moves when a row with the same identity
# claims the answer. `identity` is 8 bytes of (custom_id, params_hash), for the look-up. Joined
# columns are set when there were several legs: all legs' content and text in order. `valid` is
# whether it follows its JSON schema, NULL: it has none, or (with a reason) nobody could tell.
answers = Table(
    "answers",
    metadata,
    Column("attempt_id", Big, ForeignKey("attempts.attempt_id"), primary_key=True),
    Column("request_id", Big, nullable=False),
    Column("run_id", Big, ForeignKey("runs.run_id"), nullable=False),
    Column("invocation_id", Big, ForeignKey("invocations.invocation_id"), nullable=False),
    Column("source_id", Big, ForeignKey("sources.source_id"), nullable=False),
    Column("row_number", Big, nullable=False),
    Column("custom_id", Text),
    Column("params_hash", LargeBinary, nullable=False),
    Column("identity", Big, nullable=False),
    Column("final", Integer, nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("model", Text),
    Column("message_id", Text),
    Column("stop_reason", Text),
    Column("stop_sequence", Text),
    Column("stop_details", Text),
    Column("container_id", Text),
    Column("text", Text, nullable=False),
    Column("text_repaired", Integer, nullable=False),
    Column("content", Text, nullable=False),
    Column("joined_text", Text),
    Column("joined_content", Text),
    Column("input_tokens", Big),
    Column("cache_write_tokens", Big),
    Column("cache_write_5m_tokens", Big),
    Column("cache_write_1h_tokens", Big),
    Column("cache_read_tokens", Big),
    Column("output_tokens", Big),
    Column("thinking_tokens", Big),
    Column("web_search_requests", Big),
    Column("service_tier", Text),
    Column("inference_geo", Text),
    Column("speed", Text),
    Column("usage", Text),
    Column("provider_reported_cost", Text),
    Column("attempts", Integer, nullable=False),
    Column("legs", Integer, nullable=False),
    Column("latency_us", Big, nullable=False),
    Column("first_token_us", Big),
    Column("answered_at", Big, nullable=False),
    Column("valid", Integer),
    Column("invalid_reason", Text),
    Index(
        "ix_answers_locator",
        "source_id",
        "row_number",
        sqlite_where=text("final = 1"),
        postgresql_where=text("final = 1"),
    ),
    Index("ix_answers_identity", "identity"),
    Index(
        "ix_answers_not_final",
        "request_id",
        sqlite_where=text("final = 0"),
        postgresql_where=text("final = 0"),
    ),
)

# What local tools answered to the calls of this attempt's answer: the JSON text of the content
# of the user message that follows it.
tool_results = Table(
    "tool_results",
    metadata,
    Column("attempt_id", Big, ForeignKey("attempts.attempt_id"), primary_key=True),
    Column("results", Text, nullable=False),
    Column("ran_at", Big, nullable=False),
)

# Rows that are quarantined (never sent), failed (given up) or held (wait for a person).
# `transient` failures are to do again at the next invocation. identity is NULL for quarantined.
failures = Table(
    "failures",
    metadata,
    Column("failure_id", Big, primary_key=True, autoincrement=True),
    Column("run_id", Big, ForeignKey("runs.run_id"), nullable=False),
    Column("invocation_id", Big, ForeignKey("invocations.invocation_id"), nullable=False),
    Column("source_id", Big, ForeignKey("sources.source_id"), nullable=False),
    Column("row_number", Big, nullable=False),
    Column("byte_offset", Big),
    Column("custom_id", Text),
    Column("params_hash", LargeBinary),
    Column("identity", Big, index=True),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("transient", Integer, nullable=False),
    Column("attempt_id", Big),
    Column("failed_at", Big, nullable=False),
    UniqueConstraint("source_id", "row_number"),
)

__all__ = [
    "METERS",
    "ROLLUP_SUMS",
    "Big",
    "answers",
    "attempts",
    "budget_slices",
    "budgets",
    "charges",
    "closed_months",
    "failures",
    "invocations",
    "ledger_info",
    "metadata",
    "price_books",
    "rate_sets",
    "ratings",
    "rollups",
    "runs",
    "sources",
    "tool_results",
    "unusable_bodies",
]
