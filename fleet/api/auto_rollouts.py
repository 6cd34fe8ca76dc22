"""Rules by which newly signed versions start rollouts."""

import http
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import Field
from sqlalchemy import Connection

from fleet.api.bodies import Body
from fleet.auth import Asker, In, need
from fleet.people import reach
from fleet.rollouts import auto, policy
from fleet.rollouts.start import Starter, Wish
from fleet.services import Use
from modules.names import ModuleRef, Version, slot_name, slug

router = APIRouter(prefix="/api/v1/auto-rollouts")
# Of any version: each that is signed takes its place.
_ANY = Version.parse("0")


class NewRule(Body):
    """Which versions start what; ``model`` is ``team/name``."""

    name: str
    model: str
    slot: str
    tags: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)
    selector: str = "*"
    engine: Literal["docker", "process"] = "docker"
    settings: dict[str, bool | float | str] = Field(default_factory=dict)
    policy: dict[str, Any] = Field(default_factory=dict)

    def wish(self) -> Wish:
        return Wish(
            module=any_version(self.model),
            slot=slot_name(self.slot),
            selector=self.selector,
            engine=self.engine,
            settings=self.settings,
            supersede=True,
            policy=policy.read(self.policy),
        )


@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("rollout:write"))])
def add_rule(body: NewRule, use: Use, who: Asker, scope: In) -> dict[str, Any]:
    name, wish = slug(body.name, what="rule name"), body.wish()
    with use.database.write() as connection:
        rule = auto.Rule(name=name, wish=reach.narrowed(connection, scope, wish), tags=body.tags)
        return added(connection, use, rule, who)


@router.get("", dependencies=[Depends(need("rollout:read"))])
def list_rules(use: Use, scope: In) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return auto.every(connection, scope)


@router.delete("/{rule}", dependencies=[Depends(need("rollout:write"))])
def remove_rule(rule: str, use: Use, scope: In) -> dict[str, str]:
    with use.database.write() as connection:
        auto.remove(connection, slug(rule, what="rule name"), scope)
    return {"name": rule, "state": "removed"}


def any_version(model: str) -> ModuleRef:
    """A model by ``team/name``; each version that is signed takes its place."""
    team, _, name = model.partition("/")
    return ModuleRef(slug(team, what="team"), slug(name, what="model name"), _ANY)


def added(connection: Connection, use: Use, rule: auto.Rule, who: Asker) -> dict[str, Any]:
    """A rule that was added, as it is shown."""
    maker = Starter(who.name, who.operator)
    auto.add(connection, use.clock(), rule, maker, needs_another=use.settings.four_eyes)
    return next(one for one in auto.every(connection) if one["name"] == rule.name)
