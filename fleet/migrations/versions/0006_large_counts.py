"""counts and times that need 64 bits on PostgreSQL, and which orders are to be renewed or published."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LARGE = {
    "devices": ("boot", "facts_number", "report_number", "order_counter", "order_expires", "order_published"),
    "slots": ("waiver",),
    "members": ("counter",),
    "modules": ("length",),
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":  # SQLite's integers are that large already
        for table, columns in LARGE.items():
            for column in columns:
                op.alter_column(table, column, type_=sa.BigInteger())
    op.create_index(op.f("ix_devices_order_expires"), "devices", ["order_expires"])
    waiting = sa.text("order_counter > order_published")
    op.create_index("ix_devices_unpublished", "devices", ["id"], sqlite_where=waiting, postgresql_where=waiting)
