"""selectors that people keep, and how many devices were in which state over time."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saved_selectors",
        sa.Column("owner", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("selector", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("by", sa.String(100), nullable=False),
    )
    states = ("online", "updating", "degraded", "offline", "revoked")
    op.create_table(
        "health_counts",
        sa.Column("at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        *(sa.Column(state, sa.Integer, nullable=False) for state in states),
    )
