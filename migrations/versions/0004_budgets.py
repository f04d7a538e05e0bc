"""Caps on money: one row per scope, and what each invocation has been granted of it.

No view reads these tables, so the views of the revision before stay as they are.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("cap", Big, nullable=False),
        sa.Column("granted", Big, nullable=False),
        sa.Column("settled", Big, nullable=False),
        sa.PrimaryKeyConstraint("scope", name="pk_budgets"),
    )
    op.create_table(
        "budget_slices",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("invocation_id", Big, autoincrement=False, nullable=False),
        sa.Column("granted", Big, nullable=False),
        sa.Column("settled", Big, nullable=False),
        sa.PrimaryKeyConstraint("scope", "invocation_id", name="pk_budget_slices"),
        sa.ForeignKeyConstraint(["scope"], ["budgets.scope"], name="fk_budget_slices_scope"),
        sa.ForeignKeyConstraint(
            ["invocation_id"],
            ["invocations.invocation_id"],
            name="fk_budget_slices_invocation_id",
        ),
    )


def downgrade() -> None:
    op.drop_table("budget_slices")
    op.drop_table("budgets")
