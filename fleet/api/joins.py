"""How devices join: bundles and claims, made, listed and taken back; keys that wait; names that come back."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Response
from pydantic import Field

from fleet import events, joins, pending, revocation
from fleet.api.bodies import Body
from fleet.api.paths import DevicePath, JoinPath, WaitingPath
from fleet.auth import By, In, need
from fleet.joins import Terms
from fleet.people import reach
from fleet.services import Services, Use
from modules import names
from modules.fingerprint import heard

router = APIRouter(prefix="/api/v1")

Expires = Annotated[int, Field(ge=60, le=365 * 86400)]
ClaimExpires = Annotated[int, Field(ge=60, le=30 * 86400)]


class JoinRequest(Body):
    """How many devices may join with the bundle, for how long, which labels they get, and whether they wait."""

    uses: Annotated[int, Field(ge=1, le=100_000)] = 1
    expires_s: Expires = 86400
    labels: dict[str, str] = Field(default_factory=dict)
    approve: bool | None = None


class ClaimRequest(Body):
    """For which device, how long the claim's certificate holds; ``readmit``: the name is another key's, or was."""

    device: str
    expires_s: ClaimExpires = 86400
    labels: dict[str, str] = Field(default_factory=dict)
    approve: bool | None = None
    readmit: bool = False


class Readmission(Body):
    """For how long another key may take the name; whether it waits for approval."""

    expires_s: Expires = 86400
    approve: bool | None = None


class Approval(Body):
    """The fingerprint that the device shows."""

    fingerprint: Annotated[str, Field(max_length=200)]


class Rejection(Body):
    """Why, for the device's own people to read."""

    reason: Annotated[str, Field(max_length=500)] = ""


@router.post("/join-tokens", dependencies=[Depends(need("device:enrol"))])
def join_token(body: JoinRequest, use: Use, by: By, scope: In) -> Response:
    root = use.metadata.newest_root()
    labels = body.labels
    terms = Terms(uses=body.uses, life_s=body.expires_s, labels=labels, approve=body.approve, by=by, scope=scope)
    with use.database.write() as connection:
        bundle = use.bundles.join(connection, use.clock(), terms, root=root)
    return _secret(bundle)


@router.get("/joins", dependencies=[Depends(need("device:enrol"))])
def list_joins(use: Use, scope: In) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return joins.view_all(connection, scope)


@router.delete("/joins/{join}", dependencies=[Depends(need("device:enrol"))])
def revoke_join(join: JoinPath, use: Use, by: By) -> dict[str, Any]:
    """Nobody joins by it any more; whoever has joined stays. ``broker`` says whether a claim is refused by now."""
    now = use.clock()
    with use.database.write() as connection:
        found = joins.revoke(connection, now, join)
        text = f"{joins.what(found)} was taken back"
        events.record(connection, now, "join-revoked", text, device=found.name, by=by)
    return {"id": join} | (_told(use, now) if found.claim else {})


@router.post("/claims", dependencies=[Depends(need("device:enrol"))])
def make_claim(body: ClaimRequest, use: Use, by: By, scope: In) -> Response:
    """A bundle with which one device joins over MQTT, where it reaches nothing else."""
    root, name = use.metadata.newest_root(), names.device_id(body.device)
    labels, approve = body.labels, body.approve
    terms = Terms(life_s=body.expires_s, labels=labels, approve=approve, readmit=body.readmit, by=by, scope=scope)
    with use.database.write() as connection:
        if body.readmit and not scope.unlimited:
            reach.check_devices(connection, scope, [name])
        bundle = use.bundles.claim(connection, use.clock(), terms, device=name, root=root)
    return _secret(bundle)


@router.post("/devices/{device}/readmit", dependencies=[Depends(need("device:approve"))])
def readmit_device(device: DevicePath, body: Readmission, use: Use, by: By, scope: In) -> Response:
    """A bundle with which other hardware takes this device's name: once."""
    root = use.metadata.newest_root()
    terms = Terms(name=device, readmit=True, life_s=body.expires_s, approve=body.approve, by=by, scope=scope)
    with use.database.write() as connection:
        bundle = use.bundles.join(connection, use.clock(), terms, root=root)
    return _secret(bundle)


@router.get("/pending", dependencies=[Depends(need("device:approve"))])
def list_pending(use: Use, scope: In) -> list[dict[str, Any]]:
    """The keys that wait for approval, the longest first."""
    with use.database.read() as connection:
        return pending.view_all(connection, use.clock(), scope)


@router.post("/pending/{waiting}/approve", dependencies=[Depends(need("device:approve"))])
def approve_device(waiting: WaitingPath, body: Approval, use: Use, by: By) -> dict[str, str]:
    """Let the key with this fingerprint in; its device fetches the certificate when it asks again."""
    now, mark = use.clock(), heard(body.fingerprint)
    with use.database.write() as connection:
        revoked = use.enrolment.approve(connection, now, waiting, mark, by=by)
    told = _told(use, now) if revoked else {}
    use.devices_changed()
    return {"device": waiting, "fingerprint": mark} | told


@router.post("/pending/{waiting}/reject", dependencies=[Depends(need("device:approve"))])
def reject_device(waiting: WaitingPath, body: Rejection, use: Use, by: By) -> dict[str, str]:
    """Never let the key in that waits under this name."""
    now = use.clock()
    with use.database.write() as connection:
        found = pending.waiting(connection, now, waiting)
        pending.reject(connection, found, by=by, reason=body.reason)
        text = f"the key was rejected: {found.fingerprint}" + (f" ({body.reason})" if body.reason else "")
        events.record(connection, now, "enrolment-rejected", text, device=waiting, by=by)
    return {"device": waiting, "fingerprint": found.fingerprint}


def _told(use: Services, now: float) -> dict[str, str]:
    with use.database.write() as connection:  # one list after the other
        told = use.revocations.publish(connection, now)
    use.devices_changed()
    return {"broker": revocation.TOLD if told else revocation.UNTOLD}


def _secret(bundle: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(bundle), media_type="application/json")
