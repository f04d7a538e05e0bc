"""${message}.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

# Every view there may be: dropped first, whatever the revision before this one made.
VIEWS = (
    "v_answers",
    "v_answers_all",
    "v_attempts",
    "v_charges",
    "v_failures",
    "v_cost_by_model_day",
)


def upgrade() -> None:
    _drop_views()
    ${upgrades if upgrades else "pass"}
    _create_views(views(op.get_bind().dialect.name))


def downgrade() -> None:
    _drop_views()
    ${downgrades if downgrades else "pass"}
    _create_views(views_before(op.get_bind().dialect.name))


def _drop_views() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW IF EXISTS {name}")


def _create_views(statements: dict[str, str]) -> None:
    for statement in statements.values():
        op.execute(sa.text(statement.replace(":", r"\:")))


def views(dialect: str) -> dict[str, str]:
    """The CREATE VIEW statements of this revision, as text that never changes once released."""
    raise NotImplementedError


def views_before(dialect: str) -> dict[str, str]:
    """Those of the revision before it, copied from there."""
    raise NotImplementedError
