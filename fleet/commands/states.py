"""Where a command stands, and when it has to be looked at next. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """``waiting``: the broker has not taken it yet. After the last five nothing follows."""

    WAITING = "waiting"
    SENT = "sent"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


OPEN: Final = (State.WAITING, State.SENT, State.RUNNING)

# A command is sent again so long after it was sent last or its device was heard last.
AGAIN_S: Final = 60.0
# The same to a device that is offline: it gets the command when it says that it is back, and this is only in case that
# it was not heard.
OFFLINE_S: Final = 600.0
# A device may begin a command in its last second, and what it says of that is on its way.
LATE_S: Final = 10.0
# What it has begun may last longer than the command holds: so long, and the time that the command itself names.
LASTS_S: Final = 600.0
_TIMES: Final = ("follow_s", "seconds")


def over_at(expires: float, arguments: Mapping[str, float], *, running: bool) -> float:
    """From when on no answer is waited for."""
    named = max((arguments.get(name, 0.0) for name in _TIMES), default=0.0)
    return expires + (named + LASTS_S if running else LATE_S)


def next_look(now: float, expires: float, arguments: Mapping[str, float], *, running: bool, after: float) -> float:
    """When to look again at a command that was just sent or heard of: to send it again, or because it is over."""
    if now < expires:
        return min(now + after, expires)
    return over_at(expires, arguments, running=running)
