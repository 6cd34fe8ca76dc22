"""Rules by which newly signed versions get an endpoint's requests; listed and removed as those for devices are."""

import http
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from fleet.api.auto_rollouts import added, any_version
from fleet.api.bodies import Body
from fleet.api.paths import EndpointPath
from fleet.auth import Asker, In, need
from fleet.refusals import Missing
from fleet.rollouts import auto, policy
from fleet.rollouts.shares_start import ShiftWish
from fleet.services import Use
from fleet.targets.settings import MAX_REPLICAS
from modules.names import slug

router = APIRouter(prefix="/api/v1/endpoints/{endpoint}/auto-rollouts")


class NewEndpointRule(Body):
    """The same for an endpoint's requests; ``replicas``: as many as its default version has."""

    name: str
    model: str
    tags: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)
    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)] = 0
    policy: dict[str, Any] = Field(default_factory=dict)

    def rule(self, endpoint: str) -> auto.Rule:
        shift = ShiftWish(
            module=any_version(self.model),
            endpoint=endpoint,
            replicas=self.replicas,
            supersede=True,
            policy=policy.read(self.policy, preset="traffic"),
        )
        return auto.Rule(name=slug(self.name, what="rule name"), shift=shift, tags=self.tags)


@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("endpoint:write"))])
def add_endpoint_rule(endpoint: EndpointPath, body: NewEndpointRule, use: Use, who: Asker, scope: In) -> dict[str, Any]:
    """Each version that is signed from now on and has the tags gets the endpoint's requests, share by share."""
    rule = body.rule(endpoint)
    with use.database.write() as connection:
        if not scope.has_team(rule.asked.module.team):
            raise Missing("there is no such endpoint", element=endpoint[:63])
        return added(connection, use, rule, who)
