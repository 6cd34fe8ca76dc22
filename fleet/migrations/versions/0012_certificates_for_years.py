"""certificates that are renewed: keys that change hands, and ends that somebody was told of."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, kind in (
        ("next_key", sa.Text()),
        ("next_certificate", sa.Text()),
        ("previous_key", sa.Text()),
        ("previous_until", sa.Float()),
        ("revoked", sa.Float()),
    ):
        op.add_column("devices", sa.Column(name, kind))
    op.add_column("certificates", sa.Column("issued", sa.Float(), nullable=False, server_default="0"))
    op.create_table(
        "endings",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("ends", sa.Float(), nullable=False),
        sa.Column("told", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_endings"),
    )
