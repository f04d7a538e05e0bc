"""The table of estimates, one more of those of `schema`."""

from sqlalchemy import Column, Table, Text

from batcher.ledger.schema import Big, metadata

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
