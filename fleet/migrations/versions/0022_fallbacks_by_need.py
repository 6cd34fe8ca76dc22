"""policies of fallbacks, endpoints that run on demand, what endpoints cost; when an order is due beside its expiry."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fallback_policies",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("team", sa.String(63), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("selector", sa.String(2000), nullable=False),
        sa.Column("fallback", sa.String(2000), nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("on_demand", sa.Boolean, nullable=False),
        sa.Column("linger_s", sa.Integer, nullable=False),
        sa.Column("money_a_day", sa.Float, nullable=False),
        sa.Column("spent_on", sa.Integer, nullable=False, server_default="-1"),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("changed", sa.Float, nullable=False),
        sa.Column("by", sa.String(100), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_fallback_policies"),
        sa.UniqueConstraint("team", "model", "selector", name="uq_fallback_policies_team_model_selector"),
    )
    op.create_table(
        "endpoint_costs",
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("replica_s", sa.Float, nullable=False),
        sa.Column("cost", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "day", name="pk_endpoint_costs"),
    )
    op.create_table(
        "endpoint_demands",
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("idle_since", sa.Float),
        sa.Column("scaled", sa.Float, nullable=False),
        sa.Column("devices", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("endpoint", name="pk_endpoint_demands"),
    )
    with op.batch_alter_table("devices") as batch:
        batch.add_column(sa.Column("order_due", sa.Float))
    op.drop_index("ix_devices_order_expires", "devices")
    op.create_index("ix_devices_order_due", "devices", ["order_due"])
    op.create_index("ix_members_hardware", "members", ["rollout", "hardware", "standing"])
    # Nobody knows any more when the next token of an order was due: each is made anew, as fast as they go out.
    op.execute("UPDATE devices SET order_due = 0 WHERE order_envelope IS NOT NULL AND removed IS NULL")
    with op.batch_alter_table("targets") as batch:
        batch.add_column(sa.Column("price_per_hour", sa.Float, nullable=False, server_default="0"))
    with op.batch_alter_table("endpoints") as batch:
        batch.add_column(sa.Column("scale", sa.Integer))
        batch.add_column(sa.Column("scale_why", sa.Text, nullable=False, server_default=""))
        batch.add_column(sa.Column("admitted", sa.Integer, nullable=False, server_default="0"))
        batch.add_column(sa.Column("counted", sa.Float))
