"""revisions of slots, epochs of devices, and who did it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slot_revisions",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("slot", sa.String(length=63), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=True),
        sa.Column("rollout", sa.Integer(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("by", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_slot_revisions_device")),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name=op.f("fk_slot_revisions_rollout")),
        sa.PrimaryKeyConstraint("device", "slot", "revision", name=op.f("pk_slot_revisions")),
    )
    with op.batch_alter_table("devices") as table:
        table.add_column(sa.Column("epoch", sa.String(length=16), nullable=False, server_default=""))
        table.add_column(sa.Column("status_epoch", sa.String(length=16), nullable=False, server_default=""))
        table.add_column(sa.Column("retired_epochs", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("slots") as table:
        table.add_column(sa.Column("revision", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("waiver", sa.Integer(), nullable=True))
    with op.batch_alter_table("members") as table:
        table.add_column(sa.Column("superseded_by", sa.Integer(), nullable=True))
        table.add_column(sa.Column("revision", sa.Integer(), nullable=True))
    for name in ("history", "events"):
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("by", sa.String(length=100), nullable=False, server_default=""))
    # What each slot has been told to run is its first revision.
    op.execute(
        "INSERT INTO slot_revisions (device, slot, revision, document, rollout, at, by)"
        " SELECT slots.device, slots.slot, 1, slots.document, slots.rollout, rollouts.created, ''"
        " FROM slots JOIN rollouts ON rollouts.id = slots.rollout"
    )
    op.execute("UPDATE slots SET revision = 1")
    op.execute(
        "UPDATE members SET revision = 1 WHERE current AND counter IS NOT NULL AND EXISTS (SELECT 1 FROM slots"
        " WHERE slots.device = members.device AND slots.slot = members.slot AND slots.rollout = members.rollout)"
    )
