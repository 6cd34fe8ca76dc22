"""what endpoints serve: counted at their gateways, for how many replicas run and for prices by requests."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("targets", sa.Column("price_per_1000", sa.Float, nullable=False, server_default="0"))
    op.add_column("endpoints", sa.Column("tally", sa.Text, nullable=False, server_default=""))
    op.add_column("endpoint_costs", sa.Column("requests", sa.BigInteger, nullable=False, server_default="0"))
