"""Policies of fallbacks: who answers instead of which devices; set, look, remove."""

import http
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import Field
from sqlalchemy import Connection

from fleet.api.bodies import Body
from fleet.api.paths import ModelPath, TeamPath
from fleet.auth import By, In, need
from fleet.fallbacks import policies, preview, sent, shown
from fleet.people.reach import cut
from fleet.people.scope import Scope
from fleet.selectors import LIMIT
from fleet.services import Use
from modules.errors import Invalid
from modules.names import Slug

router = APIRouter(prefix="/api/v1/fallbacks")

Group = Annotated[str, Query(max_length=LIMIT)]


class NewPolicy(Body):
    """Who answers instead of the devices of a group (by labels), and on which terms; without ``fallback``: nobody."""

    group: str = Field(policies.EVERYWHERE, max_length=LIMIT)
    #: an https address, or endpoint:NAME
    fallback: str = Field("", max_length=2000)
    terms: dict[str, Any] = Field(default_factory=dict, max_length=16)
    on_demand: bool = False
    linger_s: int = 900
    money_a_day: float = 0.0

    def policy(self) -> policies.Policy:
        said = self.model_dump(exclude={"group", "remove"})
        try:
            return msgspec.convert(said, policies.Policy)
        except msgspec.ValidationError as error:
            raise Invalid(str(error), element="policy") from error


class PolicyToLookAt(NewPolicy):
    """A policy that is not set yet; ``remove``: what if the one for this group were removed."""

    remove: bool = False


@router.get("", dependencies=[Depends(need("fallback:read"))])
def list_fallbacks(use: Use, scope: In) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return [shown.in_short(connection, use.clock(), row) for row in policies.rows(connection, scope)]


@router.put("/{team}/{name}", dependencies=[Depends(need("fallback:write"))])
def set_fallback(team: TeamPath, name: ModelPath, body: NewPolicy, use: Use, by: By, scope: In) -> dict[str, Any]:
    """It holds for orders from now on, and those that it concerns are made anew; no module is proved again."""
    with use.database.write() as connection:
        now = use.clock()
        group = cut(scope.of_team(team), body.group, "a policy")
        policies.put(connection, now, team, name, group, body.policy(), by=by, scope=scope)
        found = _shown(connection, use, scope, team, name, group)
    use.wake()
    return found


@router.get("/{team}/{name}", dependencies=[Depends(need("fallback:read"))])
def show_fallback(
    team: TeamPath, name: ModelPath, use: Use, scope: In, group: Group = policies.EVERYWHERE
) -> dict[str, Any]:
    """One policy, with how its endpoint stands, what it has cost, and for which versions it says nothing, and why."""
    with use.database.read() as connection:
        return _shown(connection, use, scope, team, name, group)


@router.post("/{team}/{name}/preview", status_code=http.HTTPStatus.OK, dependencies=[Depends(need("fallback:write"))])
def preview_fallback(team: TeamPath, name: ModelPath, body: PolicyToLookAt, use: Use, scope: In) -> dict[str, Any]:
    """Whose orders would name somebody else, who answers for them now and who would then; nothing is changed."""
    with use.database.read() as connection:
        if body.remove:
            row = policies.one(connection, team, name, body.group)
            if row is None or not policies.lies_in(scope, team, body.group):
                raise policies.none_such(team, name, body.group)
            return preview.of(connection, use.registry, team, name, row.selector, None, scope)
        group = cut(scope.of_team(team), body.group, "a policy")
        group = policies.checked(connection, team, name, group, body.policy(), scope)
        return preview.of(connection, use.registry, team, name, group, body.policy(), scope)


@router.get("/{team}/{name}/requests", dependencies=[Depends(need("fallback:read"))])
def show_fallback_requests(
    team: TeamPath, name: ModelPath, use: Use, scope: In, group: Group = policies.EVERYWHERE
) -> dict[str, Any]:
    """How many requests the devices that a policy holds for have sent to the cloud today (UTC), and may send."""
    with use.database.read() as connection:
        row = policies.one(connection, team, name, group) if policies.lies_in(scope, team, group) else None
        if row is None:
            raise policies.none_such(team, name, group)
        return sent.today(connection, use.clock(), row)


@router.delete("/{team}/{name}", dependencies=[Depends(need("fallback:write"))])
def remove_fallback(
    team: TeamPath, name: ModelPath, use: Use, by: By, scope: In, group: Group = policies.EVERYWHERE
) -> dict[str, str]:
    """What is less specific holds again, for orders from now on."""
    with use.database.write() as connection:
        if not policies.lies_in(scope, team, group):
            raise policies.none_such(team, name, group)
        policies.remove(connection, use.clock(), team, name, group, by=by)
    use.wake()
    return {"module": f"{team}/{name}", "group": group, "state": "removed"}


def _shown(connection: Connection, use: Use, scope: Scope, team: Slug, name: Slug, group: str) -> dict[str, Any]:
    row = policies.one(connection, team, name, group) if policies.lies_in(scope, team, group) else None
    if row is None:
        raise policies.none_such(team, name, group)
    return shown.whole(connection, use.clock(), use.registry, row)
