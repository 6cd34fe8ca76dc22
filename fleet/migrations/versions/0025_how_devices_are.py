"""in which state each device is, and the index that lists of devices are read from."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_AT_WORK = {"accepted", "fitted", "fetching", "verified", "staged", "starting", "probation", "reverting", "removing"}


def upgrade() -> None:
    op.add_column("devices", sa.Column("health", sa.String(16), nullable=False, server_default=""))
    _fill()
    if op.get_bind().dialect.name == "sqlite":
        listed = ["removed", "id", "online", "health", "revoked", "last_seen", "labels"]
        op.create_index("ix_devices_listed", "devices", listed)


def _fill() -> None:
    """From the newest report of each device: the next one comes when something changes there."""
    bind = op.get_bind()
    names = bind.execute(sa.text("SELECT id FROM devices WHERE report IS NOT NULL")).scalars().all()
    for name in names:
        report = bind.execute(sa.text("SELECT report FROM devices WHERE id = :id"), {"id": name}).scalar_one()
        if word := _health(json.loads(report).get("slots", [])):
            bind.execute(sa.text("UPDATE devices SET health = :health WHERE id = :id"), {"health": word, "id": name})


def _health(slots: list[dict[str, Any]]) -> str:
    said = {one["phase"] for one in slots}
    if "degraded" in said | {(one.get("current") or {}).get("state") for one in slots}:
        return "degraded"
    return "updating" if said & _AT_WORK else ""
