"""Which devices come into an endpoint by their certificates: those that have its model, or are ordered it."""

from typing import Any

from sqlalchemy import Connection, func, select, union

from fleet.fallbacks.policies import serves
from fleet.tables import devices, members, rollouts, slots


def of(connection: Connection, row: Any) -> list[str]:
    """The devices that have a version of the model that an endpoint (its row) serves, or that a rollout has it for.

    Not those alone whose order names the endpoint: a changed policy would else shut out, until the endpoint knew of
    it, whom it answers now.
    """
    mine = rollouts.c.module.startswith(f"{serves(row)}:", autoescape=True)
    having = select(slots.c.device).join(rollouts, rollouts.c.id == slots.c.rollout).where(mine)
    planned = select(members.c.device).join(rollouts, rollouts.c.id == members.c.rollout).where(mine, members.c.current)
    every = union(having, planned).subquery()
    live = select(devices.c.id).where(devices.c.id.in_(select(every.c.device)), devices.c.removed.is_(None))
    return list(connection.scalars(live.order_by(devices.c.id)))


def newest(connection: Connection) -> int:
    """The newest rollout: with each one, another device may have the model."""
    return int(connection.scalar(select(func.max(rollouts.c.id))) or 0)
