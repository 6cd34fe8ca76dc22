"""whether it was told that half the life of a metadata file is over."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("tuf_metadata") as table:
        table.add_column(sa.Column("told", sa.Boolean(), nullable=False, server_default="0"))
