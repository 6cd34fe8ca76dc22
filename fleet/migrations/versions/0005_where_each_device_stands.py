"""where each device of a rollout stands, what is asked of each wave, and when a rollout is to be looked at."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("rollouts") as table:
        table.add_column(sa.Column("plan", sa.LargeBinary(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("selector", sa.Text(), nullable=False, server_default="*"))
        table.add_column(sa.Column("late_joiners", sa.Boolean(), nullable=False, server_default="0"))
        table.add_column(sa.Column("starts", sa.Float(), nullable=True))
        table.add_column(sa.Column("deadline_s", sa.Float(), nullable=False, server_default="86400"))
        table.add_column(sa.Column("complete_since", sa.Float(), nullable=True))
        table.add_column(sa.Column("approved", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("look_at", sa.Float(), nullable=True))
        table.add_column(sa.Column("waits_for", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("members") as table:
        table.add_column(sa.Column("hardware", sa.String(length=100), nullable=False, server_default=""))
        table.add_column(sa.Column("place", sa.String(length=140), nullable=True))
        table.add_column(sa.Column("standing", sa.String(length=16), nullable=False, server_default="planned"))
        table.add_column(sa.Column("due", sa.Float(), nullable=True))
        table.add_column(sa.Column("note", sa.Text(), nullable=False, server_default=""))
    _fill()
    op.create_index(op.f("ix_rollouts_look_at"), "rollouts", ["look_at"])
    op.create_index("ix_members_counts", "members", ["rollout", "wave", "hardware", "standing", "current"])
    op.create_index("ix_members_standing_place", "members", ["standing", "place"])
    op.create_index("ix_members_due", "members", ["due"])
    op.create_table(
        "stopped_kinds",
        sa.Column("rollout", sa.Integer(), nullable=False),
        sa.Column("hardware", sa.String(length=100), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name=op.f("fk_stopped_kinds_rollout")),
        sa.PrimaryKeyConstraint("rollout", "hardware", name=op.f("pk_stopped_kinds")),
    )
    op.create_table(
        "newcomers",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_newcomers_device")),
        sa.PrimaryKeyConstraint("device", name=op.f("pk_newcomers")),
    )


def _fill() -> None:
    bind = op.get_bind()
    for number, waves, text in bind.execute(sa.text("SELECT id, waves, policy FROM rollouts")).all():
        old = json.loads(text)
        rules = []
        for rule in old.get("waves", [{"by": "percent", "percent": 100.0}]):
            kind = rule.pop("by")
            rules.append({kind: rule["selector" if kind == "label" else kind]})
        success, failure = old.get("success_percent", 100.0), old.get("failure_percent", 0.0)
        asked = {
            "success_percent": success,
            "failure_percent": failure,
            "minimum": 1,
            "soak_s": 0,
            "approval": False,
        }
        policy = old | {"waves": rules}
        plan = [{"rule": "", "threshold": asked} for _ in range(waves)]
        bind.execute(
            sa.text("UPDATE rollouts SET policy = :policy, plan = :plan WHERE id = :id"),
            {"policy": json.dumps(policy).encode(), "plan": json.dumps(plan).encode(), "id": number},
        )
    bind.execute(sa.text("UPDATE rollouts SET look_at = 0 WHERE state IN ('running', 'cancelled')"))
    bind.execute(
        sa.text(
            "UPDATE members SET standing = CASE"
            " WHEN phase = 'planned' THEN 'planned'"
            " WHEN phase = 'withdrawn' THEN 'returned'"
            " WHEN phase IN ('reverting', 'reverted', 'rejected', 'degraded') THEN 'failed'"
            " WHEN phase = 'committed' AND health = 'degraded' THEN 'failed'"
            " WHEN phase = 'committed' AND health IN ('', 'up') THEN 'succeeded'"
            " ELSE 'working' END"
        )
    )
