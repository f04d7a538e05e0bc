"""The tables that reports read, as SQLAlchemy Core metadata; comments say what they mean.

Conventions: `*_at` is BIGINT microseconds UTC; money is BIGINT pico-units of the currency named
(pico-USD unless `currency` says otherwise); flags are 0 or 1; JSON is text as received; an
index with a `where` holds those rows alone.
The other tables are in `schema_internal`, the stable views in the migrations.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

# BIGINT everywhere: INTEGER overflows on PostgreSQL, BIGINT does not autoincrement on SQLite.
Big = BigInteger().with_variant(Integer, "sqlite")


# The tables of the hot path. Their references are not checked while rows are written, and on
# PostgreSQL not even declared, where a check costs more than the row; `verify` does it.
UNCHECKED: Final = ("attempts", "answers", "charges")

METERS: Final = (
    "input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "web_search",
)  # fmt: skip

ROLLUP_SUMS: Final = (
    "charges", "answers", "final_answers", "input_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "cache_read_tokens", "output_tokens", "thinking_tokens",
    "web_search_requests", "unpriced_answers", "unpriced_tokens", "amount_whole", "amount_rest",
    "assumed_high_whole", "assumed_high_rest",
)  # fmt: skip
ROLLUP_HIGHS: Final = ("assumed_high_whole", "assumed_high_rest")
# Every time zone in use is a whole number of quarter hours away from UTC.
QUARTER_HOUR_US: Final = 900_000_000
# A sum of amounts outgrows 64 bits, so it is kept as two: of these, and of what is left.
PICO_PER_WHOLE: Final = 10**9
# Characters of a server's text that a key takes: PostgreSQL refuses a key of 2,704 bytes. What
# is longer is whole in `answers`, and counted in `rollups` by its beginning.
KEY_CHARACTERS: Final = 160
# The rating of an answer that has no charges.
NEVER_RATED: Final = 0
# The content of an answer whose words are not kept: JSON, but no content of any answer.
NOT_KEPT: Final = "null"

# One job over its inputs. `key` is the job's name, or the inputs as resolved paths. `round` is
# the invocation that began its present round, 0 for the first: what is older is left alone.
runs = Table(
    "runs",
    metadata,
    Column("run_id", Big, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, unique=True),
    Column("job", Text),
    Column("created_at", Big, nullable=False),
    Column("round", Big, nullable=False, server_default="0"),
)

# One process of a run; for each endpoint that it may fall back to there is another line, whose
# `fallback_of` is the process's own, and which ends with it. `ended_at` is NULL while it lives
# and after a crash; `settled_below` and the done ranges of its sources are one checkpoint:
# every attempt of this invocation with a smaller id is settled and counted in the ranges.
# `clean` is 1 when the last one covers all.
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
    Column("options", Text, nullable=False),  # JSON object, with its token, never a key
    Column("tags", Text, nullable=False),  # JSON object of text
    Column("fallback_of", Big),
    Column("key_fingerprint", Text),  # of address and key as they were known at its start
)
# The process that an invocation belongs to.
process_id = func.coalesce(invocations.c.fallback_of, invocations.c.invocation_id)

# One snapshot of one input. A changed file is a new source; when it has been matched to the
# end, the older snapshot of the same name is superseded: its unclaimed answers leave v_answers.
# `done_ranges` is JSON [[first,last],…] of row numbers that need nothing more. `matched` is 0
# while rows may still claim answers of older snapshots. `rows` is NULL until read to the end.
# `superseded_by` 0: by a new round of the run.
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
# the cost is in `charges`. `batch_number` NULL: it leaves alone; 0: it waits to be packed.
# `cache_prefix` names what its prompt begins with, where the prompt cache is used on purpose;
# `cache_note` is the lifetime of the breakpoints that its body got, or why it got none.
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
    Column("batch_number", Big),
    Column("cache_prefix", Big),
    Column("cache_note", Text),
    Index("ix_attempts_pending", "invocation_id", info={"where": "pending = 1"}),
    # Everything in doubt or refused is rare: reports sum it without reading the answered ones.
    Index(
        "ix_attempts_not_answered",
        "invocation_id",
        "state",
        info={"where": "state <> 'answered'"},
    ),
    Index("ix_attempts_batch_number", "batch_number", info={"where": "batch_number > 0"}),
)

# Every answer ever received. `final` is 1 on a row's current final answer, 0 on earlier legs
# and late ones. The locator (source_id, row_number) moves when a row with the same identity
# claims the answer. `identity` is 8 bytes of (custom_id, params_hash), for the look-up: see
# `answer_keys`. Joined
# columns are set when there were several legs: all legs' content and text in order. `valid` is
# whether it follows its JSON schema, NULL: it has none, or (with a reason) nobody could tell.
# `evidence` is what request and content say of its bill where usage leaves it open, JSON.
# `checksum` is of the words and the usage as they were recorded; NULL: of a program that made
# none, or the words were dropped.
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
    Column("evidence", Text),
    Column("checksum", Big),
    Index("ix_answers_locator", "source_id", "row_number", info={"where": "final = 1"}),
    Index("ix_answers_not_final", "request_id", info={"where": "final = 0"}),
    Index("ix_answers_invalid", "attempt_id", info={"where": "valid = 0"}),
)

# Rows that have the answer of another row, at no cost here: `attempt_id` is the one that paid.
# The locator moves like that of an answer; `identity` is as there.
shared_answers = Table(
    "shared_answers",
    metadata,
    Column("shared_id", Big, primary_key=True, autoincrement=True),
    Column("run_id", Big, ForeignKey("runs.run_id"), nullable=False),
    Column("invocation_id", Big, ForeignKey("invocations.invocation_id"), nullable=False),
    Column("source_id", Big, ForeignKey("sources.source_id"), nullable=False),
    Column("row_number", Big, nullable=False),
    Column("custom_id", Text),
    Column("params_hash", LargeBinary, nullable=False),
    Column("identity", Big, nullable=False, index=True),
    Column("attempt_id", Big, ForeignKey("answers.attempt_id"), nullable=False, index=True),
    Column("shared_at", Big, nullable=False),
    UniqueConstraint("source_id", "row_number"),
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

# An immutable set of rates, with the text it came from, so that charges can be recomputed.
price_books = Table(
    "price_books",
    metadata,
    Column("price_book_id", Big, primary_key=True, autoincrement=True),
    Column("version", Text, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),
    Column("source", Text, nullable=False),
    Column("content", Text, nullable=False),
)

# One pass that turned usage into charges; reason is initial, reprice or correction. An initial
# rating grows while runs are on. A reprice is made while none is and none is open, so what
# belongs to invocations up to its `position` (the newest there was) never changes again. A
# reprice of one run names it. `as_of` is the ISO day whose prices were taken, NULL: each day's.
# `rules` is the edition of the rules of trust, NULL: of a program that knew no intervals.
ratings = Table(
    "ratings",
    metadata,
    Column("rating_id", Big, primary_key=True, autoincrement=True),
    Column("price_book_id", Big, ForeignKey("price_books.price_book_id"), nullable=False),
    Column("created_at", Big, nullable=False),
    Column("reason", Text, nullable=False),
    Column("position", Big),
    Column("run_id", Big),
    Column("as_of", Text),
    Column("rules", Integer),
)

# The rates that one charge was made with: pico-units per token (per request for web_search).
# NULL rate: the book has none for that meter. `terms` names the variant, such as
# "standard", "batch", "fast", "standard/us" or "standard/>100000".
rate_sets = Table(
    "rate_sets",
    metadata,
    Column("rate_set_id", Big, primary_key=True, autoincrement=True),
    Column("price_book_id", Big, ForeignKey("price_books.price_book_id"), nullable=False),
    Column("price_list", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("valid_from", Text, nullable=False),
    Column("currency", Text, nullable=False),
    *(Column(f"{meter}_rate", Big) for meter in METERS),
    UniqueConstraint("price_book_id", "price_list", "model", "terms", "valid_from"),
)

# The amounts of one usage line under one rating. status: priced, assumed, unbilled, unpriced;
# unpriced has quantities, a reason and NULL amounts. `current` is 1 on the rating in force.
# An assumed charge is from total_amount, made of its quantities, to high_amount; elsewhere that
# is NULL: there is one amount.
charges = Table(
    "charges",
    metadata,
    Column("attempt_id", Big, ForeignKey("attempts.attempt_id"), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("rating_id", Big, ForeignKey("ratings.rating_id"), primary_key=True),
    Column("current", Integer, nullable=False),
    Column("model", Text),
    Column("rate_set_id", Big, ForeignKey("rate_sets.rate_set_id")),
    Column("currency", Text),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    *(Column(f"{meter}_quantity", Big) for meter in METERS),
    *(Column(f"{meter}_amount", Big) for meter in METERS),
    Column("total_amount", Big),
    Column("high_amount", Big),
)

# Sums of complete answers and their charges, so that reports need not read them; written with
# them, and equal to them. `quarter` counts quarter hours of sending since 1970 UTC. `model` is
# the served one, else the requested one; '' stands for no stop_reason, currency or status, and
# rating 0 for answers that were never rated. What belongs to an answer is counted with its
# charge of line 0. An amount is amount_whole * 10^9 + amount_rest; assumed_high_* are the upper
# ends of assumed charges, whose lower ends are the amount. Each row has one writer, the
# invocation's. `superseded_by` is the rating that repriced the row's charges, NULL: current.
rollups = Table(
    "rollups",
    metadata,
    Column(
        "invocation_id",
        Big,
        ForeignKey("invocations.invocation_id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("quarter", Big, primary_key=True, autoincrement=False),
    Column("lane", Text, primary_key=True),
    Column("requested_model", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("stop_reason", Text, primary_key=True),
    Column("rating_id", Big, primary_key=True, autoincrement=False),
    Column("status", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    *(Column(name, Big, nullable=False) for name in ROLLUP_SUMS if name not in ROLLUP_HIGHS),
    Column("superseded_by", Big),
    *(Column(name, Big, nullable=False, server_default="0") for name in ROLLUP_HIGHS),
)

# A cap on money, in pico-USD: one row per scope ("run:7", "month:2026-11"). `settled` is spent,
# with what is in doubt at its upper bound; `granted` is lent to running invocations and not yet
# spent. settled + granted never exceeds the cap by a grant of ours.
budgets = Table(
    "budgets",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("cap", Big, nullable=False),
    Column("granted", Big, nullable=False),
    Column("settled", Big, nullable=False),
)
