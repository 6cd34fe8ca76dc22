"""Pages that are not for everybody: who has no right to one is told so, and is led to what they may see."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import PLACES, frame
from fleet.console.visit import Visit

Build = Callable[..., Awaitable[None]]


def needs(permission: str) -> Callable[[Build], Build]:
    """A page that shows nothing without this permission; below the decorator that makes it a page."""

    def made(build: Build) -> Build:
        @wraps(build)
        async def built(visit: Visit, **given: Any) -> None:
            if permission in visit.permissions:
                await build(visit, **given)
            else:
                _closed(visit, permission)

        return built

    return made


def _closed(visit: Visit, permission: str) -> None:
    with frame(visit, "Not for your roles", at=""):
        parts.nothing(
            f"This page is for roles that have {permission}; yours do not. An admin of this fleet gives roles."
        )
        places = [one for one in PLACES if one.permission in visit.permissions]
        if places:
            ui.label("What your roles show:")
        else:
            ui.label("Your roles are for the command line and for programs: no page of the console is theirs.")
        for place in places:
            ui.link(place.title, place.path)
