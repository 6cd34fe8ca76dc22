"""Why a device of a rollout is not done, in one sentence, with what comes next and when. Pure."""

import datetime as dt
from typing import Any

from fleet.rollouts.phases import Standing, State

# What the device itself is doing, for phases that need more than their name.
_DOING = {
    "ordered": "has its order and has not answered yet",
    "accepted": "has accepted the order and looks whether the module fits",
    "fitted": "makes room for the module",
    "fetching": "is fetching the module",
    "verified": "has everything and lays it out",
    "staged": "has everything and waits to start it",
    "starting": "is starting the module and trying its samples",
    "probation": "serves with it on probation",
}


def why(member: Any, rollout: Any, *, said: str = "", waits_for: str | None = None) -> str:
    """One sentence; empty for a device that is done.

    ``member`` has the columns of the table with the device's ``online`` and ``last_seen``; ``said`` is the reason that
    the device itself has given for where it is; ``waits_for`` stands for the rollout's own words, if it is given.
    """
    if not member.current and member.standing in {Standing.PLANNED, Standing.WORKING, Standing.UNREACHED}:
        newer = f"rollout {member.superseded_by} decides about it now" if member.superseded_by else "it was emptied"
        return f"the slot does not belong to this rollout: {newer}"
    match member.standing:
        case Standing.SUCCEEDED:
            return ""
        case Standing.PLANNED:
            waits = rollout.waits_for if waits_for is None else waits_for
            return planned(member.wave, rollout, waits, place=member.place, note=member.note)
        case Standing.WORKING:
            return _working(member, said)
        case Standing.UNREACHED:
            seen = _seen(member.last_seen)
            return f"it was offline at its deadline ({seen}): its order waits for it, the rollout does not"
        case Standing.RECALLED:
            return f"{member.note}: its order is being taken back"
        case Standing.RETURNING if not member.online:
            return (
                f"{member.note}: the device is offline ({_seen(member.last_seen)}), the order back waits at the broker"
            )
        case Standing.RETURNING:
            return f"{member.note}: it goes back to what it ran before, and has until {_at(member.due)}"
        case Standing.FAILED if not member.note:
            return ""  # its own reason says it
    return str(member.note)


def planned(wave: int, rollout: Any, waits_for: str, *, place: str | None = None, note: str = "") -> str:
    """Why a member has got nothing yet; ``place`` is where only so many are at work, ``note`` what it waits for."""
    match rollout.state:
        case State.SCHEDULED:
            return f"the rollout begins at {_at(rollout.starts)}"
        case State.PAUSED:
            return "the rollout is paused: edgefleet rollouts resume"
        case State.RUNNING if wave > rollout.wave:
            waits = waits_for or "the waves before are not complete"
            return f"its wave {wave} is not open yet: {waits}"
        case State.RUNNING:
            few = f"; of the devices of {place} only so many are at work at once" if place else ""
            if note:
                return f"its wave is open, and {note}"
            return f"its wave is open, and it gets its order when its turn comes{few}"
        case State.FAILED:
            return "the rollout has failed: it gets no order, unless you say edgefleet rollouts retry"
    return f"the rollout is {rollout.state}: it will get no order"


def _working(member: Any, said: str) -> str:
    after = "counts as failed" if member.online else "is left behind, and nobody waits for it"
    until = f"; it has until {_at(member.due)}, then it {after}" if member.due is not None else ""
    if member.note:
        return f"it is committed; {member.note}{until}"
    if not member.online:
        return f"the device is offline ({_seen(member.last_seen)}); its order waits at the broker{until}"
    if said:
        return f"{said}{until}"
    if member.phase == "committed":
        return f"its module is {member.health}{until}"
    return f"it {_DOING.get(member.phase, f'is {member.phase}')}{until}"


def _at(moment: float | None) -> str:
    return "no set time" if moment is None else f"{dt.datetime.fromtimestamp(moment, dt.UTC):%Y-%m-%d %H:%M} UTC"


def _seen(at: float | None) -> str:
    return "never seen" if at is None else f"last seen {_at(at)}"
