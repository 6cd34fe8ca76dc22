"""who did what: the audit log, and the signed heads of it."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0014"
branch_labels = None
depends_on = None

_LARGE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _LARGE, autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        *(sa.Column(name, sa.String(length=300), nullable=False) for name in ("by", "origin", "action", "target")),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_by"), "audit", ["by"])
    op.create_table(
        "audit_heads",
        sa.Column("row", _LARGE, autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_audit_heads")),
    )
