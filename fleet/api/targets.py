"""Where endpoints in the cloud can live: attach, bound, look, let go."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from pydantic import Field

from fleet.api.bodies import Body
from fleet.api.paths import TargetPath
from fleet.auth import Asker, By, need
from fleet.fallbacks import costs
from fleet.refusals import TargetTrouble
from fleet.services import Use
from fleet.targets import attached, quotas
from fleet.targets.kinds import read

router = APIRouter(prefix="/api/v1/targets")


class NewTarget(Body):
    """How a target is reached; which names ``attached`` has depends on ``kind``."""

    kind: str = Field("container", max_length=40)
    attached: dict[str, Any] = Field(max_length=32)


@router.put("/{target}", dependencies=[Depends(need("target:write"))])
def attach_target(target: TargetPath, body: NewTarget, use: Use, by: By) -> dict[str, Any]:
    """Try it, and take it into use only if it answers and has what endpoints need."""
    found = read(body.kind, body.attached)
    trial = use.targets.made(body.kind, found)
    try:
        said = trial.check()
    except TargetTrouble as error:
        raise error.whole from error
    finally:
        trial.close()
    found = msgspec.structs.replace(found, engine=said["id"])
    with use.database.write() as connection:
        attached.attach(connection, use.clock(), target, body.kind, found, by=by)
    return {"name": target, "kind": body.kind, "attached": msgspec.to_builtins(found), "is": said}


class ChangedTarget(Body):
    """What a replica costs there an hour, and what a thousand requests, in whatever money the operator counts.

    0: nobody says it; what is left out stays.
    """

    price_per_hour: Annotated[float, Field(ge=0, le=attached.MAX_PRICE)] | None = None
    price_per_1000: Annotated[float, Field(ge=0, le=attached.MAX_PRICE)] | None = None


@router.patch("/{target}", dependencies=[Depends(need("target:write"))])
def change_target(target: TargetPath, body: ChangedTarget, use: Use, by: By) -> dict[str, Any]:
    with use.database.write() as connection:
        now = use.clock()
        costs.count(connection, now, due_s=0.0)  # what has run so far, at the price of before
        prices = {"per_hour": body.price_per_hour, "per_1000": body.price_per_1000}
        attached.set_prices(connection, now, target, **prices, by=by)
        return attached.one(connection, target)


@router.get("", dependencies=[Depends(need("target:read"))])
def list_targets(use: Use, who: Asker) -> list[dict[str, Any]]:
    """How they are reached, and what is wrong in detail, is shown to whoever may attach them."""
    whole = "target:write" in who.permissions
    with use.database.read() as connection:
        return attached.every(connection, whole=whole)


class NewQuota(Body):
    """What each team may have there; 0: as much as it likes."""

    cpu: float = Field(0.0, ge=0, le=1 << 20)
    memory_mb: int = Field(0, ge=0, le=1 << 40)
    replicas: int = Field(0, ge=0, le=1 << 20)


@router.put("/{target}/quota", dependencies=[Depends(need("target:write"))])
def bound_target(target: TargetPath, body: NewQuota, use: Use, by: By) -> dict[str, Any]:
    """Bound what each team may have on a target; what is there already stays."""
    with use.database.write() as connection:
        quotas.put(connection, use.clock(), target, quotas.read(body.model_dump()), by=by)
    return {"name": target, "quota": body.model_dump()}


@router.post("/{target}/check", dependencies=[Depends(need("target:write"))])
def check_target(target: TargetPath, use: Use) -> dict[str, str]:
    """Whether it answers now, and what it is."""
    with use.database.read() as connection:
        line = use.targets.of(connection, target)
    try:
        return line.ask(lambda it: it.check())
    except TargetTrouble as error:
        raise error.whole from error


@router.delete("/{target}", dependencies=[Depends(need("target:write"))])
def detach_target(target: TargetPath, use: Use, by: By, *, abandon: bool = False) -> dict[str, str]:
    """With ``abandon`` its endpoints go with it, though nobody can look after what is left of them there."""
    with use.database.write() as connection:
        attached.detach(connection, use.clock(), target, abandon=abandon, by=by)
    return {"name": target, "state": "detached"}
