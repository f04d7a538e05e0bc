"""Leases: who owns a run on PostgreSQL, with a token that fences off earlier owners.

No view reads the table, so the views of the revision before stay as they are.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token", Big, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("process", sa.Text, nullable=False),
        sa.Column("invocation_id", Big),
        sa.Column("acquired_at", Big, nullable=False),
        sa.Column("expires_at", Big, nullable=False),
        sa.Column("written", Big, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def downgrade() -> None:
    op.drop_table("leases")
