"""The tables of money: price books, ratings, charges, their sums, and budgets; see `schema`."""

from sqlalchemy import Column, ForeignKey, Integer, Table, Text, UniqueConstraint

from batcher.ledger.schema_base import Big, metadata

METERS = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "web_search")

ROLLUP_SUMS = (
    "charges", "answers", "final_answers", "input_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "cache_read_tokens", "output_tokens", "thinking_tokens",
    "web_search_requests", "unpriced_answers", "unpriced_tokens", "amount_whole", "amount_rest",
)  # fmt: skip

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
)

# Months (UTC, "2026-10") whose charges no later reprice touches; `rating_id` is the newest
# there was. `reopened_by` is the rating that touched it even so.
closed_months = Table(
    "closed_months",
    metadata,
    Column("closing_id", Big, primary_key=True, autoincrement=True),
    Column("month", Text, nullable=False),
    Column("rating_id", Big, ForeignKey("ratings.rating_id"), nullable=False),
    Column("closed_at", Big, nullable=False),
    Column("reopened_by", Big),
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
)

# Sums of complete answers and their charges, so that reports need not read them; written with
# them, and equal to them. `quarter` counts quarter hours of sending since 1970 UTC. `model` is
# the served one, else the requested one; '' stands for no stop_reason, currency or status, and
# rating 0 for answers that were never rated. What belongs to an answer is counted with its
# charge of line 0. An amount is amount_whole * 10^9 + amount_rest. Each row has one writer, the
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
    *(Column(name, Big, nullable=False) for name in ROLLUP_SUMS),
    Column("superseded_by", Big),
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

# What one invocation holds of a scope: granted and not spent, and what it has spent so far.
budget_slices = Table(
    "budget_slices",
    metadata,
    Column("scope", Text, ForeignKey("budgets.scope"), primary_key=True),
    Column(
        "invocation_id",
        Big,
        ForeignKey("invocations.invocation_id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("granted", Big, nullable=False),
    Column("settled", Big, nullable=False),
)
