"""what a team may have on a target, and what was found there without a row."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("targets", sa.Column("quota", sa.Text, nullable=False, server_default="{}"))
    op.add_column("targets", sa.Column("strays", sa.Text, nullable=False, server_default="{}"))
