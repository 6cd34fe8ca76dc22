"""batch jobs on targets in the cloud."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batch_jobs",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("target", sa.String(63), sa.ForeignKey("targets.name", name="fk_batch_jobs_target"), nullable=False),
        sa.Column("team", sa.String(63), nullable=False),
        sa.Column("module", sa.String(300), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("mark", sa.String(16), nullable=False),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("standing", sa.Text, nullable=False),
        sa.Column("on_target", sa.Integer, nullable=False, server_default="1"),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("by", sa.String(100), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("name", name="pk_batch_jobs"),
    )
    op.create_index("ix_batch_jobs_target", "batch_jobs", ["target"])
    op.create_index("ix_batch_jobs_on_target", "batch_jobs", ["on_target"])
