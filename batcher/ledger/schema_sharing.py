"""The tables by which several processes share: quotas, and the rows of one run."""

from sqlalchemy import Column, ForeignKey, Integer, Table, Text

from batcher.ledger.schema_base import Big, metadata

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
