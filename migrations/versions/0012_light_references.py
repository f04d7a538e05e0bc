"""PostgreSQL does not check what attempts, answers and charges refer to while they are written.

A check per reference and row was more than half of the server's work. The rows referred to are
never deleted, and `batcher verify` looks for references to nothing. On SQLite the references
stay declared: it does not check them unless asked to.

No view reads a constraint, so the views of the revision before stay as they are.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_REFERENCES = (
    ("attempts", "invocation_id", "invocations"),
    ("attempts", "source_id", "sources"),
    ("answers", "attempt_id", "attempts"),
    ("answers", "run_id", "runs"),
    ("answers", "invocation_id", "invocations"),
    ("answers", "source_id", "sources"),
    ("charges", "attempt_id", "attempts"),
    ("charges", "rating_id", "ratings"),
    ("charges", "rate_set_id", "rate_sets"),
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, column, _ in _REFERENCES:
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS fk_{table}_{column}")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, column, target in _REFERENCES:
            name = f"fk_{table}_{column}"
            op.create_foreign_key(name, table, target, [column], [column])
