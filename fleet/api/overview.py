"""The fleet at a glance."""

from typing import Any

from fastapi import APIRouter, Depends

from fleet.attention import Server, Sight
from fleet.auth import Asker, need
from fleet.broker import CONNECTED
from fleet.db import disk_trouble
from fleet.services import Services, Use

router = APIRouter(prefix="/api/v1/overview")


@router.get("", dependencies=[Depends(need("device:read"))])
def show_overview(use: Use, who: Asker) -> dict[str, Any]:
    """Devices by state, open rollouts, modules, events, and what needs somebody, as far as whoever asks may see each.

    ``attention`` has a sentence, a page of the console and a command each. Answers are up to two seconds old.
    """
    sight = Sight(
        devices=who.scope("device:read"),
        rollouts=who.scope("rollout:read"),
        events=who.scope("event:read"),
        joins=who.scope("device:approve"),
        targets=who.scope("target:read"),
    )
    # As /healthz has it: warnings name teams.
    whole = sight.events.unlimited
    return use.overviews.of(sight, lambda: _server(use, whole=whole), whole=whole)


def _server(use: Services, *, whole: bool) -> Server:
    broker = "" if not use.leads() or use.link.state == CONNECTED else use.link.state
    trouble = use.mishaps.trouble or disk_trouble(use.settings.data)
    return Server(broker, trouble, use.mishaps.warnings if whole else use.mishaps.kinds)
