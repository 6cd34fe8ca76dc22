"""batch jobs on devices."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("batch_jobs") as batch:
        batch.alter_column("target", existing_type=sa.String(63), nullable=True)
        batch.add_column(sa.Column("device", sa.String(63)))
        batch.add_column(sa.Column("begun_by", sa.String(32), nullable=False, server_default=""))
        batch.add_column(sa.Column("ended_by", sa.String(32), nullable=False, server_default=""))
    op.create_index("ix_batch_jobs_device", "batch_jobs", ["device"])
