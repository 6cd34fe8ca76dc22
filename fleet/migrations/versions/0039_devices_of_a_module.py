"""which devices a rollout's module is ordered to is counted in one index."""

from alembic import op

revision = "0039"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_slots_rollout_device", "slots", ["rollout", "device"])
