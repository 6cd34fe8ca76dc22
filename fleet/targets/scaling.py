"""How many replicas of an endpoint run, where that is decided by need and not by whoever wished for it."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, update

from fleet.target_tables import endpoints
from fleet.targets.contract import Standing
from fleet.targets.settings import Wish
from modules.names import Slug

_UPDATING: Final = "updating"


def standing_of(row: Any) -> Standing:
    """How an endpoint stood at the last look."""
    return msgspec.json.decode(row.standing, type=Standing)


def replicas_of(row: Any, wish: Wish, name: Slug) -> int:
    """How many replicas of a version run: of the default one as many as devices need, where it runs by need."""
    return int(row.scale) if name == wish.default and row.scale else wish.versions[name].replicas


def scale(connection: Connection, now: float, row: Any, replicas: int | None, why: str) -> None:
    """So many replicas of the default version are to run (0: the endpoint stands still; None: as wished), and why.

    ``why`` alone may change, and then nothing else does.
    """
    values: dict[str, Any] = {"scale": replicas, "scale_why": why}
    if row.scale != replicas:
        # It is another wish: what is being looked at is not what is wanted any more.
        since = now if row.state != _UPDATING else row.since
        values |= {"generation": row.generation + 1, "state": _UPDATING, "since": since}
    elif row.scale_why == why:
        return
    connection.execute(update(endpoints).where(endpoints.c.name == row.name).values(**values))


def view(row: Any) -> dict[str, Any] | None:
    """How many run by need, and why; None where it does not run by need."""
    return None if row.scale is None else {"replicas": row.scale, "why": row.scale_why}
