"""What reconciliations found: which days were held against whose files, and what was left.

No view reads these tables, so the views of the revision before stay as they are.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "reconciliations",
        sa.Column("reconciliation_id", Big, autoincrement=True, nullable=False),
        sa.Column("recorded_at", Big, nullable=False),
        sa.Column("recorded_by", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("simulated", sa.Integer, nullable=False),
        sa.Column("days", sa.Text, nullable=False),
        sa.Column("files", sa.Text, nullable=False),
        sa.Column("after_rating", Big, nullable=False),
        sa.PrimaryKeyConstraint("reconciliation_id", name="pk_reconciliations"),
    )
    op.create_table(
        "adjustments",
        sa.Column("adjustment_id", Big, autoincrement=True, nullable=False),
        sa.Column("reconciliation_id", Big, nullable=False),
        sa.Column("recorded_at", Big, nullable=False),
        sa.Column("recorded_by", sa.Text, nullable=False),
        sa.Column("day", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("tier", sa.Text),
        sa.Column("geography", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount", Big, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("after_rating", Big, nullable=False),
        sa.Column("undoes", Big),
        sa.PrimaryKeyConstraint("adjustment_id", name="pk_adjustments"),
        sa.UniqueConstraint("undoes", name="uq_adjustments_undoes"),
        sa.ForeignKeyConstraint(
            ["reconciliation_id"],
            ["reconciliations.reconciliation_id"],
            name="fk_adjustments_reconciliation_id",
        ),
        sa.ForeignKeyConstraint(
            ["undoes"], ["adjustments.adjustment_id"], name="fk_adjustments_undoes"
        ),
    )


def downgrade() -> None:
    op.drop_table("adjustments")
    op.drop_table("reconciliations")
