"""Processes that share: quotas by leased shares, and the rows of one run by shards.

No view reads these tables, so the views of the revision before stay as they are.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "quota_leases",
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("model_class", sa.Text, nullable=False),
        sa.Column("invocation_id", Big, autoincrement=False, nullable=False),
        sa.Column("demand", sa.Integer, nullable=False),
        sa.Column("share", sa.Integer, nullable=False),
        sa.Column("paused_until", Big, nullable=False),
        sa.Column("expires_at", Big, nullable=False),
        sa.PrimaryKeyConstraint(
            "fingerprint", "model_class", "invocation_id", name="pk_quota_leases"
        ),
    )
    op.create_table(
        "shards",
        sa.Column("source_id", Big, autoincrement=False, nullable=False),
        sa.Column("first_row", Big, autoincrement=False, nullable=False),
        sa.Column("last_row", Big, nullable=False),
        sa.Column("invocation_id", Big, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("source_id", "first_row", name="pk_shards"),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.source_id"], name="fk_shards_source_id"
        ),
        sa.ForeignKeyConstraint(
            ["invocation_id"],
            ["invocations.invocation_id"],
            name="fk_shards_invocation_id",
        ),
    )


def downgrade() -> None:
    op.drop_table("shards")
    op.drop_table("quota_leases")
