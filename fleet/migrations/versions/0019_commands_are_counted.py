"""how many commands of which name stand where, without a look at each."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_commands_counts", "commands", ["name", "state", "device"])
