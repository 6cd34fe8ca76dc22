"""Rollouts: plan, start, look, and steer."""

import http
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from sqlalchemy import Connection

from fleet.api.bodies import Body
from fleet.api.paths import MAX_ROW, DevicePath, RolloutPath
from fleet.auth import Asker, By, In, need
from fleet.people.reach import narrowed
from fleet.people.scope import Scope
from fleet.rollouts import control, policy, readings, view
from fleet.rollouts.phases import Standing
from fleet.rollouts.start import Starter, Wish, prepare, start
from fleet.services import Services, Use
from fleet.targets import standing_in
from modules.names import ModuleRef, device_id, slot_name

router = APIRouter(prefix="/api/v1/rollouts")

Action = Literal["pause", "resume", "cancel", "revert", "retry"]
ACTIONS: Final[dict[str, Callable[..., None]]] = {
    "pause": control.pause,
    "resume": control.resume,
    "cancel": control.cancel,
    "revert": control.revert,
    "retry": control.retry,
}


class Start(Body):
    """What to roll out where."""

    module: str
    slot: str
    selector: str = "*"
    devices: list[str] | None = None
    engine: Literal["docker", "process"] = "docker"
    settings: dict[str, bool | float | str] = Field(default_factory=dict)
    #: an https address, or endpoint:NAME; on the terms that fallback_terms says (docs/rollouts.md). Without one, with
    #: the term when, empty: nobody, whatever policies say
    fallback: str | None = Field(None, max_length=2000)
    fallback_terms: dict[str, Any] = Field(default_factory=dict, max_length=16)
    waive: bool = False
    supersede: bool = False
    policy: dict[str, Any] = Field(default_factory=dict)

    def wish(self, connection: Connection, use: Services, scope: Scope) -> Wish:
        module = ModuleRef.parse(self.module)
        alone = self.fallback is None and self.fallback_terms == standing_in.NEVER
        terms = {} if alone else self.fallback_terms
        cloud = standing_in.terms(connection, use.endpoints, module, self.fallback, terms, scope)
        return Wish(
            module=module,
            slot=slot_name(self.slot),
            selector=self.selector,
            devices=None if self.devices is None else tuple(device_id(one) for one in dict.fromkeys(self.devices)),
            engine=self.engine,
            settings=self.settings,
            fallback=None if cloud else self.fallback,
            cloud=cloud,
            alone=alone,
            waive=self.waive,
            supersede=self.supersede,
            policy=policy.read(self.policy),
        )


class Skip(Body):
    """Why a device is left out."""

    why: Annotated[str, Field(min_length=1, max_length=500)]


@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("rollout:write"))])
def start_rollout(body: Start, use: Use, who: Asker, scope: In) -> dict[str, Any]:
    with use.database.write() as connection:
        wish = narrowed(connection, scope, body.wish(connection, use, scope))
        starter = Starter(who.name, who.operator)
        needs_another = use.settings.four_eyes
        rollout = start(connection, use.clock(), use.registry, wish, starter, scope, needs_another=needs_another)
        shown = view.one(connection, rollout, scope)
    use.wake()
    return shown


@router.post("/plan", dependencies=[Depends(need("rollout:write"))])
def plan_rollout(body: Start, use: Use, scope: In) -> dict[str, Any]:
    """What a rollout would do; nothing is written."""
    with use.database.read() as connection:
        wish = narrowed(connection, scope, body.wish(connection, use, scope))
        needs_another = use.settings.four_eyes
        return view.plan(prepare(connection, use.clock(), use.registry, wish, scope, needs_another=needs_another))


@router.get("", dependencies=[Depends(need("rollout:read"))])
def list_rollouts(
    use: Use,
    scope: In,
    before: Annotated[int | None, Query(ge=1, le=MAX_ROW)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[dict[str, Any]]:
    """The newest first, page by page: ``before`` is the ``id`` of the last of the page before."""
    with use.database.read() as connection:
        return view.some(connection, scope, before=before, limit=limit)


@router.get("/{rollout}", dependencies=[Depends(need("rollout:read"))])
def show_rollout(rollout: RolloutPath, use: Use, scope: In, *, devices: bool = True) -> dict[str, Any]:
    """With the first of its devices, unless ``devices`` is false: who looks often asks for the page that they show."""
    with use.database.read() as connection:
        return view.one(connection, rollout, scope, with_devices=devices)


@router.get("/{rollout}/devices", dependencies=[Depends(need("rollout:read"))])
def list_devices(
    rollout: RolloutPath,
    use: Use,
    scope: In,
    after: str = "",
    standing: Standing | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> list[dict[str, Any]]:
    """The devices of a rollout by id, page by page: ``after`` is the last of the page before."""
    with use.database.read() as connection:
        return view.some_devices(connection, rollout, scope, after=after, standing=standing, limit=limit)


@router.get("/{rollout}/gates", dependencies=[Depends(need("rollout:read"))])
def show_gates(rollout: RolloutPath, use: Use, scope: In) -> list[dict[str, Any]]:
    """What each gate sees in each open wave: how many devices meet it, and the device that is furthest from it."""
    with use.database.read() as connection:
        return readings.view(connection, rollout, scope)


@router.post("/{rollout}/devices/{device}/skip", dependencies=[Depends(need("rollout:write"))])
def skip_device(rollout: RolloutPath, device: DevicePath, body: Skip, use: Use, by: By, scope: In) -> dict[str, Any]:
    with use.database.write() as connection:
        control.skip(connection, use.clock(), rollout, device, body.why, by=by)
        shown = view.one(connection, rollout, scope)
    use.wake()
    return shown


# Before the other actions: those who start rollouts are not those who approve them.
@router.post("/{rollout}/approve", dependencies=[Depends(need("rollout:approve"))])
def approve(rollout: RolloutPath, use: Use, who: Asker, scope: In) -> dict[str, Any]:
    """With four_eyes on, of another operator than the one who started it."""
    needs_another = use.settings.four_eyes
    with use.database.write() as connection:
        now = use.clock()
        control.approve(connection, now, rollout, by=who.name, approver=who.operator, needs_another=needs_another)
        shown = view.one(connection, rollout, scope)
    use.wake()
    return shown


@router.post("/{rollout}/{action}", dependencies=[Depends(need("rollout:write"))])
def act(rollout: RolloutPath, action: Action, use: Use, who: Asker, scope: In) -> dict[str, Any]:
    """With four_eyes on, one that was paused or has failed goes on by another operator's word than its starter's."""
    more: dict[str, Any] = {"by": who.name}
    if action in {"resume", "retry"}:
        more |= {"operator": who.operator, "needs_another": use.settings.four_eyes}
    with use.database.write() as connection:
        ACTIONS[action](connection, use.clock(), rollout, **more)
        shown = view.one(connection, rollout, scope)
    use.wake()
    return shown
