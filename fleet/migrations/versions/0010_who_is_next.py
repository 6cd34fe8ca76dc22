"""who of a rollout is next, found without a look at the others."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_members_next", "members", ["rollout", "standing", "wave", "device"])
