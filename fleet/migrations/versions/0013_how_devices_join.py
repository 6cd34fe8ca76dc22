"""join bundles with groups and an end, claims, keys that wait for approval, and who removed a device."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("devices") as table:
        table.add_column(sa.Column("removed_by", sa.String(length=100), nullable=False, server_default=""))
    op.create_table(
        "joins",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("by", sa.String(length=100), nullable=False, server_default=""),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("uses", sa.Integer(), nullable=True),
        sa.Column("uses_left", sa.Integer(), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"),
        sa.Column("approve", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("name", sa.String(length=63), nullable=True),
        sa.Column("readmit", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("revoked", sa.Float(), nullable=True),
        sa.Column("claim", sa.String(length=16), nullable=True),
        sa.Column("claim_key", sa.Text(), nullable=False, server_default=""),
        sa.Column("claim_serial", sa.String(length=40), nullable=False, server_default=""),
        sa.Column("claim_state", sa.String(length=16), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_joins")),
        sa.UniqueConstraint("claim", name=op.f("uq_joins_claim")),
        sa.UniqueConstraint("hash", name=op.f("uq_joins_hash")),
    )
    op.create_index("ix_joins_claim_state", "joins", ["claim_state"])
    op.create_table(
        "pending",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("join", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(length=100), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("by", sa.String(length=100), nullable=False, server_default=""),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.ForeignKeyConstraint(["join"], ["joins.id"], name=op.f("fk_pending_join")),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_pending")),
    )
    op.create_index(op.f("ix_pending_name"), "pending", ["name"])
    op.create_index(op.f("ix_pending_join"), "pending", ["join"])
    op.create_index(op.f("ix_pending_expires"), "pending", ["expires"])
    # Bundles that are on their way to devices go on letting them in.
    op.execute(
        "INSERT INTO joins (hash, created, expires, uses, uses_left) "
        "SELECT hash, created, expires, uses_left, uses_left FROM tokens WHERE kind = 'join'"
    )
    op.execute("DELETE FROM tokens WHERE kind = 'join'")
