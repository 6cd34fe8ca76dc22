"""For which of the chosen devices something can be done, and why not for the others: said before anything is done."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from httpx import codes
from nicegui import ui

from fleet.console import parts
from fleet.console.visit import Said, Visit

# Of those for whom nothing is done, so many are named.
_NAMED: Final = 50
_GONE: Final = "it is not in the fleet any more"
Unable = Callable[[dict[str, Any]], str]


class Able(NamedTuple):
    """Those for which it can be done, as the API has them now; and the others, each with why not."""

    devices: list[dict[str, Any]]
    others: list[tuple[str, str]]

    @property
    def said(self) -> str:
        return of(len(self.devices), len(self.devices) + len(self.others))


def of(some: int, every: int) -> str:
    """How many of how many, in words."""
    if some == every:
        return f"{every} device{'s' if every != 1 else ''}"
    return f"{some or 'none'} of {every} devices"


async def able(
    visit: Visit, chosen: Sequence[str], known: Mapping[str, dict[str, Any]], permission: str, unable: Unable
) -> Able:
    """Look at each device that is not ``known`` yet.

    Raises:
        Said: the API refused.
    """
    found = await asyncio.gather(*(_document(visit, one, known) for one in chosen))
    mine = await visit.granted(permission, chosen)
    devices: list[dict[str, Any]] = []
    others: list[tuple[str, str]] = []
    for name, one in zip(chosen, found, strict=True):
        if one is None or one.get("removed"):
            others.append((name, _GONE))
        elif name not in mine:
            others.append((name, f"your roles do not have {permission} for it"))
        elif why := unable(one):
            others.append((name, why))
        else:
            devices.append(one)
    return Able(devices, others)


async def _document(visit: Visit, name: str, known: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    if name in known:
        return known[name]
    try:
        found: dict[str, Any] = await visit.get(f"devices/{name}")
    except Said as said:
        if said.status != codes.NOT_FOUND:
            raise
        return None
    return found


def tell(others: Sequence[tuple[str, str]]) -> None:
    """For whom nothing will be done, and why."""
    if not others:
        return
    ui.label(f"Not for {'these' if len(others) > 1 else 'this one'}:").classes("ef-strong")
    with ui.column().classes("ef-rows ef-preview"):
        for name, why in others[:_NAMED]:
            with ui.element("div").classes("ef-line"):
                ui.label(name).classes("ef-mono")
                ui.label(why[: parts.WORDS]).classes("ef-soft ef-words")
        if len(others) > _NAMED:
            ui.label(f"and {len(others) - _NAMED} more").classes("ef-soft")
