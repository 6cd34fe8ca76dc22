"""operators, sessions, tokens with a name, an owner and roles of their own, and which operator started a rollout."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "operators",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("password", sa.String(length=200), nullable=True),
        sa.Column("subject", sa.String(length=255), nullable=True),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("disabled", sa.Float(), nullable=True),
        sa.Column("must_change", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("last_login", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operators")),
        sa.UniqueConstraint("name", name=op.f("uq_operators_name")),
        sa.UniqueConstraint("subject", name=op.f("uq_operators_subject")),
    )
    op.create_table(
        "sessions",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("operator", sa.Integer(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("seen", sa.Float(), nullable=False),
        sa.Column("ends", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["operator"], ["operators.id"], name=op.f("fk_sessions_operator")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_operator"), "sessions", ["operator"])
    op.create_index(op.f("ix_sessions_ends"), "sessions", ["ends"])
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("name", sa.String(length=63), nullable=False, server_default=""))
        table.add_column(sa.Column("operator", sa.Integer(), nullable=True))
        table.add_column(sa.Column("roles", sa.JSON(), nullable=True))
        table.add_column(sa.Column("made_by", sa.Integer(), nullable=True))
        table.add_column(sa.Column("last_used", sa.Float(), nullable=True))
        table.add_column(sa.Column("revoked", sa.Float(), nullable=True))
        table.create_foreign_key(op.f("fk_tokens_operator"), "operators", ["operator"], ["id"])
        table.create_index(op.f("ix_tokens_operator"), ["operator"])
    op.add_column("rollouts", sa.Column("started_by", sa.String(length=100), nullable=False, server_default=""))
    for name in ("rollouts", "auto_rollouts"):
        op.add_column(name, sa.Column("starter", sa.Integer(), nullable=True))
