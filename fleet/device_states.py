"""In which state a device is, in one word: the worst that holds. Pure, and the same as a column of a query."""

from typing import Any, Final, Literal

from sqlalchemy import Row, case

from fleet.tables import devices
from modules.protocol.phases import Phase
from modules.protocol.report import Report

State = Literal["online", "updating", "degraded", "offline", "revoked"]
_AT_WORK: Final = frozenset(
    {
        *(Phase.ACCEPTED, Phase.FITTED, Phase.FETCHING, Phase.VERIFIED, Phase.STAGED, Phase.STARTING, Phase.PROBATION),
        *(Phase.REVERTING, Phase.REMOVING),
    }
)
# What a device said before it was revoked, or went away, does not count.
STATE: Final = case(
    (devices.c.revoked.is_not(None), "revoked"),
    (devices.c.online.is_(False), "offline"),
    (devices.c.health != "", devices.c.health),
    else_="online",
)


def health(said: Report) -> str:
    """What a report makes of its device: a module that does not stay up, one on its way, or nothing to say."""
    if any(Phase.DEGRADED in {one.phase, one.current.state if one.current else ""} for one in said.slots):
        return "degraded"
    return "updating" if any(one.phase in _AT_WORK for one in said.slots) else ""


def state(row: Row[Any]) -> str:
    """As ``STATE``, of a row that was read."""
    if row.revoked is not None:
        return "revoked"
    return (row.health or "online") if row.online else "offline"
