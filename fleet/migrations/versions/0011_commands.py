"""commands to devices, and what they answered."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_LARGE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text("look_at IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "commands",
        sa.Column("number", _LARGE, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("batch", sa.String(length=32), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("slot", sa.String(length=63), nullable=True),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("issued", _LARGE, nullable=False),
        sa.Column("expires", _LARGE, nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("by", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("look_at", sa.Float(), nullable=True),
        sa.Column("sent", sa.Float(), nullable=True),
        sa.Column("heard", sa.Float(), nullable=True),
        sa.Column("ended", sa.Float(), nullable=True),
        sa.Column("answers", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("content", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_commands_device")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_commands")),
        sa.UniqueConstraint("id", name=op.f("uq_commands_id")),
    )
    op.create_index(op.f("ix_commands_batch"), "commands", ["batch"])
    op.create_index("ix_commands_look_at", "commands", ["look_at"])
    op.create_index("ix_commands_open", "commands", ["device"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_index("ix_commands_device_number", "commands", ["device", "number"])
    op.create_index("ix_commands_state_number", "commands", ["state", "number"])
    op.create_index("ix_commands_ended", "commands", ["ended"])
    op.create_table(
        "command_parts",
        sa.Column("command", _LARGE, nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["command"], ["commands.number"], name=op.f("fk_command_parts_command")),
        sa.PrimaryKeyConstraint("command", "part", name=op.f("pk_command_parts")),
    )
    op.create_index(op.f("ix_command_parts_at"), "command_parts", ["at"])
