"""secrets that are sealed to devices, and for whom they were set."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "secrets",
        sa.Column("device", sa.String(63), sa.ForeignKey("devices.id", name="fk_secrets_device")),
        sa.Column("slot", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("sealed_to", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("by", sa.String(100), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("device", "slot", "name", name="pk_secrets"),
    )
    op.create_table(
        "secret_wishes",
        sa.Column("slot", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("selector", sa.String(500), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("by", sa.String(100), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("slot", "name", "selector", name="pk_secret_wishes"),
    )
