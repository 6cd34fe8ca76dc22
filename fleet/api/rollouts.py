"""Rollouts: start, look, pause, resume, cancel."""

import http
from typing import Any, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from fleet.api.bodies import Body
from fleet.api.paths import RolloutPath
from fleet.auth import By, need
from fleet.rollouts import control
from fleet.rollouts.start import Wish, start
from fleet.services import Use
from modules.names import ModuleRef, device_id, slot_name

router = APIRouter(prefix="/api/v1/rollouts")


class Start(Body):
    """What to roll out where."""

    module: str
    slot: str
    selector: str = "*"
    devices: list[str] | None = None
    engine: Literal["docker", "process"] = "docker"
    settings: dict[str, bool | float | str] = Field(default_factory=dict)
    fallback: str | None = None
    waive: bool = False

    def wish(self) -> Wish:
        return Wish(
            module=ModuleRef.parse(self.module),
            slot=slot_name(self.slot),
            selector=self.selector,
            devices=None if self.devices is None else tuple(device_id(one) for one in dict.fromkeys(self.devices)),
            engine=self.engine,
            settings=self.settings,
            fallback=self.fallback,
            waive=self.waive,
        )


@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("rollout:write"))])
def start_rollout(body: Start, use: Use, by: By) -> dict[str, Any]:
    with use.database.write() as connection:
        rollout = start(connection, use.clock(), use.registry, body.wish(), by=by)
        shown = control.view(connection, rollout)
    use.wake()
    return shown


@router.get("", dependencies=[Depends(need("rollout:read"))])
def list_rollouts(use: Use) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return control.view_all(connection)


@router.get("/{rollout}", dependencies=[Depends(need("rollout:read"))])
def show_rollout(rollout: RolloutPath, use: Use) -> dict[str, Any]:
    with use.database.read() as connection:
        return control.view(connection, rollout)


@router.post("/{rollout}/{action}", dependencies=[Depends(need("rollout:write"))])
def act(rollout: RolloutPath, action: Literal["pause", "resume", "cancel"], use: Use, by: By) -> dict[str, Any]:
    with use.database.write() as connection:
        control.act(connection, use.clock(), rollout, action, by=by)
        shown = control.view(connection, rollout)
    use.wake()
    return shown
