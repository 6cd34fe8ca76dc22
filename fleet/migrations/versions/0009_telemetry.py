"""what devices measure of themselves: the newest of each stream, and a history."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_LARGE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("devices") as table:
        table.add_column(sa.Column("telemetry_number", _LARGE, nullable=False, server_default="0"))
    op.create_table(
        "telemetry",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("stream", sa.String(length=64), nullable=False),
        sa.Column("number", _LARGE, nullable=False),
        sa.Column("received", sa.Float(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("day_bytes", _LARGE, nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_telemetry_device")),
        sa.PrimaryKeyConstraint("device", "stream", name=op.f("pk_telemetry")),
    )
    op.create_table(
        "telemetry_history",
        sa.Column("id", _LARGE, nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("stream", sa.String(length=64), nullable=False),
        sa.Column("received", sa.Float(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_telemetry_history_device")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_telemetry_history")),
    )
    op.create_index("ix_telemetry_history_device_id", "telemetry_history", ["device", "id"])
    op.create_index(op.f("ix_telemetry_history_received"), "telemetry_history", ["received"])
