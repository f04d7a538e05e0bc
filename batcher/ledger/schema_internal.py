"""The tables that only the ledger itself reads; conventions as in `schema`."""

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, Table, Text

from batcher.ledger.schema import Big, metadata

# What the database is: `database_uid` prefixes every attempt uid.
ledger_info = Table(
    "ledger_info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
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

# The bytes of a 200 that was no Message: paid for, so kept.
unusable_bodies = Table(
    "unusable_bodies",
    metadata,
    Column("attempt_id", Big, ForeignKey("attempts.attempt_id"), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

# One Message Batch of the provider, or the intent to make it: `batch_id` NULL until its answer
# is known. `state` is one of `BatchState`. Times are the provider's, but for `intended_at` and
# `closed_at`, when all of its attempts had ended here, or it was given up.
batches = Table(
    "batches",
    metadata,
    Column("batch_number", Big, primary_key=True, autoincrement=True),
    Column("run_id", Big, ForeignKey("runs.run_id"), nullable=False),
    Column("invocation_id", Big, ForeignKey("invocations.invocation_id"), nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("batch_id", Text),
    Column("requests", Big, nullable=False),
    Column("intended_at", Big, nullable=False),
    *(Column(name, Big) for name in ("created_at", "expires_at", "ended_at", "closed_at")),
    *(
        Column(name, Big, nullable=False, server_default="0")
        for name in ("succeeded", "errored", "expired", "canceled")
    ),
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

# A right that one process has at a time. `token` grows with every new owner, so that a write of
# an earlier one can be refused. `owner` is for people; `process` tells on the same machine
# whether it still lives. Times are the database's own clock; `expires_at` 0 means given back.
# `written` is the number of the owner's last committed write transaction: what became of one
# whose COMMIT got no reply is read there.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token", Big, nullable=False),
    Column("owner", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("invocation_id", Big),
    Column("acquired_at", Big, nullable=False),
    Column("expires_at", Big, nullable=False),
    Column("written", Big, nullable=False),
)

# Rows `first_row` to `last_row` of a source, which one process of the run does; those of one
# source never overlap. `done` is 1 when each of them has ended for this time. They say nothing
# any more when the last process of the run has ended.
shards = Table(
    "shards",
    metadata,
    Column(
        "source_id",
        Big,
        ForeignKey("sources.source_id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("first_row", Big, primary_key=True, autoincrement=False),
    Column("last_row", Big, nullable=False),
    Column("invocation_id", Big, ForeignKey("invocations.invocation_id"), nullable=False),
    Column("done", Integer, nullable=False),
)

# What one process uses of one quota. `fingerprint` stands for an address and a key, salted with
# the database's own name; `model_class` is the quota within it. `demand` and `share` are
# millionths of the whole. Times are the database's own clock: until `paused_until` the server
# asked everybody to wait; after `expires_at` the line counts no more.
quota_leases = Table(
    "quota_leases",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("model_class", Text, primary_key=True),
    Column("invocation_id", Big, primary_key=True, autoincrement=False),
    Column("demand", Integer, nullable=False),
    Column("share", Integer, nullable=False),
    Column("paused_until", Big, nullable=False),
    Column("expires_at", Big, nullable=False),
)

# What a run was expected to cost, and after it what it did; amounts are text of pico-USD, see
# `ledger.estimates`. Of invocations up to `after_invocation` nothing counts.
estimates = Table(
    "estimates",
    metadata,
    Column("estimate_id", Big, primary_key=True, autoincrement=True),
    *(Column(name, Text, nullable=False) for name in ("run_key", "basis", "method")),
    *(Column(name, Text, nullable=False) for name in ("input_method", "ceiling")),
    *(Column(name, Big, nullable=False) for name in ("made_at", "after_invocation")),
    *(Column(name, Big, nullable=False) for name in ("sampled", "requests", "unbounded")),
    *(Column(name, Text) for name in ("expected", "low", "high", "actual", "grade")),
    *(Column(name, Text) for name in ("in_doubt_low", "in_doubt_high")),
    *(Column(name, Big) for name in ("run_id", "graded_at")),
)

# One time that the ledger was held against the provider's files, and what was left recorded.
# `files` is JSON: name and sha256 of each. `days` is JSON too: the UTC days that the costs were
# compared for. `after_rating` is the newest rating there was, 0 for none.
reconciliations = Table(
    "reconciliations",
    metadata,
    Column("reconciliation_id", Big, primary_key=True, autoincrement=True),
    Column("recorded_at", Big, nullable=False),
    Column("recorded_by", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("simulated", Integer, nullable=False),
    Column("days", Text, nullable=False),
    Column("files", Text, nullable=False),
    Column("after_rating", Big, nullable=False),
)

# What the provider billed beyond our charges (negative: below them), in pico-USD, by UTC day
# and what their files tell apart; NULL: all. `kind` is a meter or another kind of cost. An
# entry is taken back by another of the opposite amount, which names it in `undoes`.
adjustments = Table(
    "adjustments",
    metadata,
    Column("adjustment_id", Big, primary_key=True, autoincrement=True),
    Column(
        "reconciliation_id",
        Big,
        ForeignKey("reconciliations.reconciliation_id"),
        nullable=False,
    ),
    Column("recorded_at", Big, nullable=False),
    Column("recorded_by", Text, nullable=False),
    Column("day", Text, nullable=False),
    *(Column(name, Text) for name in ("model", "tier", "geography")),
    Column("kind", Text, nullable=False),
    Column("amount", Big, nullable=False),
    Column("cause", Text, nullable=False),
    Column("after_rating", Big, nullable=False),
    Column("undoes", Big, ForeignKey("adjustments.adjustment_id"), unique=True),
)
