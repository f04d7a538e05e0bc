"""The tables of what a reconciliation found: kept beside the charges, and never in them."""

from sqlalchemy import Column, ForeignKey, Integer, Table, Text

from batcher.ledger.schema_base import Big, metadata

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
