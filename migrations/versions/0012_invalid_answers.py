"""Answers that broke their schema are few, and found by an index: a report asks for them.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    condition = sa.text("valid = 0")
    op.create_index(
        "ix_answers_invalid",
        "answers",
        ["attempt_id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
