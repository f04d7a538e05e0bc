"""Message Batches: which attempts travel in which, and how those stand.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("attempts", sa.Column("batch_number", big))
    op.create_index(
        op.f("ix_attempts_batch_number"),
        "attempts",
        ["batch_number"],
        sqlite_where=sa.text("batch_number > 0"),
        postgresql_where=sa.text("batch_number > 0"),
    )
    op.require_unused_names(["batches"])
    op.create_table(
        "batches",
        sa.Column("batch_number", big, nullable=False, autoincrement=True),
        sa.Column("run_id", big, nullable=False),
        sa.Column("invocation_id", big, nullable=False),
        sa.Column("requested_model", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("batch_id", sa.Text),
        sa.Column("requests", big, nullable=False),
        sa.Column("intended_at", big, nullable=False),
        sa.Column("created_at", big),
        sa.Column("expires_at", big),
        sa.Column("ended_at", big),
        sa.Column("closed_at", big),
        *(
            sa.Column(name, big, nullable=False, server_default="0")
            for name in ("succeeded", "errored", "expired", "canceled")
        ),
        sa.PrimaryKeyConstraint("batch_number", name=op.f("pk_batches")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_batches_run_id")),
        sa.ForeignKeyConstraint(
            ["invocation_id"],
            ["invocations.invocation_id"],
            name=op.f("fk_batches_invocation_id"),
        ),
    )
    op.create_views(views(op.get_bind().dialect.name))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision; `dialect` is sqlite or postgresql."""
    time = {"sqlite": _SQLITE_TIME, "postgresql": _PG_TIME}[dialect]
    names = ("intended_at", "created_at", "expires_at", "ended_at")
    moments = {name: time.format(f"b.{name}") for name in names}
    return {"v_batches": f"CREATE VIEW v_batches AS\n{_BATCHES.format(**moments)}"}


_SQLITE_TIME = (
    "strftime('%Y-%m-%dT%H:%M:%S', {0} / 1000000, 'unixepoch')"
    " || printf('.%06dZ', {0} % 1000000)"
)
_PG_TIME = "TIMESTAMPTZ 'epoch' + {0} * INTERVAL '1 microsecond'"

_BATCHES = """SELECT
  b.run_id, b.invocation_id, r.job, i.endpoint, i.lane, b.batch_number, b.batch_id, b.state,
  b.requested_model, {intended_at} AS intended_at, {created_at} AS created_at,
  {expires_at} AS expires_at, {ended_at} AS ended_at,
  b.requests, b.succeeded, b.errored, b.expired, b.canceled
FROM batches b
LEFT JOIN runs r ON r.run_id = b.run_id
LEFT JOIN invocations i ON i.invocation_id = b.invocation_id"""
