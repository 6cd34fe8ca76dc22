"""batch jobs that are asked for on many devices together."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("batch_jobs") as batch:
        batch.add_column(sa.Column("batch", sa.String(63)))
    op.create_index("ix_batch_jobs_batch", "batch_jobs", ["batch"])
