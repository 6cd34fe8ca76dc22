"""rollouts that move an endpoint's requests from one version to the next."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rollouts", sa.Column("endpoint", sa.String(63)))
    op.create_index("ix_rollouts_endpoint", "rollouts", ["endpoint"])
    op.add_column("endpoints", sa.Column("rollout", sa.Integer))
    op.create_table(
        "shares",
        sa.Column("rollout", sa.Integer, sa.ForeignKey("rollouts.id", name="fk_shares_rollout"), nullable=False),
        sa.Column("wave", sa.Integer, nullable=False),
        sa.Column("percent", sa.Integer, nullable=False),
        sa.Column("standing", sa.String(16), nullable=False),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("due", sa.Float),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.Column("detail", sa.LargeBinary),
        sa.Column("watch", sa.LargeBinary),
        sa.PrimaryKeyConstraint("rollout", "wave", name="pk_shares"),
    )
