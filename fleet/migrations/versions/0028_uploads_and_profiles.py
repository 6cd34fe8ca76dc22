"""models that people bring to be signed elsewhere, and what publishers measured of modules."""

import sqlalchemy as sa
from alembic import op

from fleet.schema import Large

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("team", sa.String(63), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("length", Large, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("by", sa.String(100), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("team", "digest", name="pk_uploads"),
    )
    op.create_index("ix_uploads_expires", "uploads", ["expires"])
    op.create_table(
        "profiles",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("module", sa.Integer, sa.ForeignKey("modules.id", name="fk_profiles_module"), nullable=False),
        sa.Column("hardware", sa.String(100), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("by", sa.String(100), nullable=False, server_default=""),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_profiles"),
    )
    op.create_index("ix_profiles_module_hardware", "profiles", ["module", "hardware"])
