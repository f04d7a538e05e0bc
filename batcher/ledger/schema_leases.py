"""The table of leases: who owns a run, or a part of one, on PostgreSQL."""

from sqlalchemy import Column, Table, Text

from batcher.ledger.schema_base import Big, metadata

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
