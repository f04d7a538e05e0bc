"""What a run was expected to cost, and how good that was.

No view reads the table, so the views of the revision before stay as they are.

Revision ID: 0006
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "estimates",
        sa.Column("estimate_id", Big, autoincrement=True, nullable=False),
        sa.Column("run_key", sa.Text, nullable=False),
        sa.Column("basis", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("input_method", sa.Text, nullable=False),
        sa.Column("ceiling", sa.Text, nullable=False),
        sa.Column("made_at", Big, nullable=False),
        sa.Column("after_invocation", Big, nullable=False),
        sa.Column("sampled", Big, nullable=False),
        sa.Column("requests", Big, nullable=False),
        sa.Column("unbounded", Big, nullable=False),
        sa.Column("expected", sa.Text),
        sa.Column("low", sa.Text),
        sa.Column("high", sa.Text),
        sa.Column("actual", sa.Text),
        sa.Column("grade", sa.Text),
        sa.Column("in_doubt_low", sa.Text),
        sa.Column("in_doubt_high", sa.Text),
        sa.Column("run_id", Big),
        sa.Column("graded_at", Big),
        sa.PrimaryKeyConstraint("estimate_id", name="pk_estimates"),
    )


def downgrade() -> None:
    op.drop_table("estimates")
