"""Maintenance windows: when a staged module may be started, by the local time of the device. Pure.

A window is in local time as the device has it. Where the clock is set forward over a window's begin, the window is open
from there on to its end; where it is set back, it is open twice.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final, get_args

import msgspec

from modules.protocol.order import Day, Window
from modules.protocol.report import Reason

CODE: Final = "outside-window"
_DAYS: Final[tuple[str, ...]] = get_args(Day)
_DAY_MIN: Final = 24 * 60
_WEEK_MIN: Final = 7 * _DAY_MIN


class Opening(msgspec.Struct, frozen=True):
    """When the next window opens: in so many seconds (0: one is open now), on which day and at which time of day."""

    in_s: float
    day: str = ""
    at: str = ""


def opening(windows: Sequence[Window], local: dt.datetime) -> Opening:
    """The next moment at which one of these windows, at least one, is open."""
    now = local.weekday() * _DAY_MIN + local.hour * 60 + local.minute
    found = []
    for window in windows:
        hours, _, minutes = window.begins.partition(":")
        for day in window.days or _DAYS:
            begins = _DAYS.index(day) * _DAY_MIN + int(hours) * 60 + int(minutes)
            # It may have begun on the day before, or, on a Monday, in the week before.
            if (now - begins) % _WEEK_MIN < window.minutes:
                return Opening(0.0)
            found.append(((begins - now) % _WEEK_MIN, day.capitalize(), window.begins))
    away, day_name, at = min(found)
    return Opening(away * 60.0 - local.second - local.microsecond / 1e6, day_name, at)


def why_closed(windows: Sequence[Window], local: dt.datetime | None) -> tuple[Reason, float] | None:
    """Why a module with these windows is not started now, and in how many seconds to ask again; None: it may be.

    ``local`` is None where the device's clock is not set.
    """
    if not windows:
        return None
    if local is None:
        return Reason(CODE, "it waits for its window, and this device's clock is not set"), _WEEK_MIN * 60.0
    found = opening(windows, local)
    if not found.in_s:
        return None
    return Reason(CODE, f"it waits for its window: opens {found.day} {found.at}"), found.in_s
