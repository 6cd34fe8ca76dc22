"""who asked first, under four eyes, that a slot be emptied."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "emptyings",
        sa.Column("device", sa.String(63), sa.ForeignKey("devices.id", name="fk_emptyings_device")),
        sa.Column("slot", sa.String(63), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("operator", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("device", "slot", name="pk_emptyings"),
    )
