"""The prompt cache on purpose: what a prompt begins with, and what an attempt did about it.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("attempts", sa.Column("cache_prefix", big))
    op.add_column("attempts", sa.Column("cache_note", sa.Text))
