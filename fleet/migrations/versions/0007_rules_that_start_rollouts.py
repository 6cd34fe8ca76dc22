"""rules that start rollouts by themselves, and the versions that they have still to look at."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "auto_rollouts",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("team", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("rule", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("by", sa.String(length=100), nullable=False, server_default=""),
        sa.Column("last", sa.String(length=40), nullable=True),
        sa.Column("rollout", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name=op.f("fk_auto_rollouts_rollout")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_auto_rollouts")),
    )
    op.create_table(
        "releases",
        sa.Column("module", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("module", name=op.f("pk_releases")),
    )
