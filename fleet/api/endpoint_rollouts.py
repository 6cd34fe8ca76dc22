"""Rollouts of an endpoint's requests: plan and start. They are looked at and steered as those of devices are."""

import http
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from fleet.api.bodies import Body
from fleet.api.paths import EndpointPath
from fleet.auth import Asker, In, need
from fleet.rollouts import policy, shares_start, view
from fleet.rollouts.shares_start import ShiftWish
from fleet.rollouts.start import Starter
from fleet.services import Use
from fleet.targets.settings import MAX_REPLICAS
from modules.names import ModuleRef, slug

router = APIRouter(prefix="/api/v1/endpoints/{endpoint}/rollouts")


class StartShift(Body):
    """Which module is to answer, as which version (v and its number), with how many replicas (as the default has)."""

    module: str = Field(max_length=300)
    version: str | None = Field(None, max_length=63)
    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)] = 0
    supersede: bool = False
    policy: dict[str, Any] = Field(default_factory=dict)

    def wish(self, endpoint: str) -> ShiftWish:
        return ShiftWish(
            module=ModuleRef.parse(self.module),
            endpoint=endpoint,
            version=None if self.version is None else slug(self.version, what="version"),
            replicas=self.replicas,
            supersede=self.supersede,
            policy=policy.read(self.policy, preset="traffic"),
        )


# Whoever may change an endpoint may start rollouts, too: the roles that have the one have the other (people/roles.py).
@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("endpoint:write"))])
def start_endpoint_rollout(endpoint: EndpointPath, body: StartShift, use: Use, who: Asker, scope: In) -> dict[str, Any]:
    """From now on the endpoint's versions are the rollout's to decide about."""
    wish, starter = body.wish(endpoint), Starter(who.name, who.operator)
    needs_another = use.settings.four_eyes
    with use.database.write() as connection:
        now = use.clock()
        rollout = shares_start.start(connection, now, use.registry, wish, starter, scope, needs_another=needs_another)
        shown = view.one(connection, rollout, scope)
    use.wake()
    return shown


@router.post("/plan", dependencies=[Depends(need("endpoint:write"))])
def plan_endpoint_rollout(endpoint: EndpointPath, body: StartShift, use: Use, scope: In) -> dict[str, Any]:
    """What a rollout would do; nothing is written."""
    wish, needs_another = body.wish(endpoint), use.settings.four_eyes
    with use.database.read() as connection:
        planned = shares_start.prepare(connection, use.clock(), use.registry, wish, scope, needs_another=needs_another)
    return view.shift_plan(wish.module, planned)
