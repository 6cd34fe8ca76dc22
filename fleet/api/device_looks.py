"""What is asked about one device: whether a module fits it, and what it was given."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from fleet import device_past
from fleet.api.paths import DevicePath
from fleet.auth import Asker, need
from fleet.refusals import Missing
from fleet.rollouts import fitting
from fleet.services import Use
from modules.names import ModuleRef, slot_name

router = APIRouter(prefix="/api/v1/devices")

_Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/{device}/fits", dependencies=[Depends(need("device:read"))])
def check_fit(
    device: DevicePath,
    use: Use,
    who: Asker,
    module: Annotated[str, Query(max_length=200)],
    slot: Annotated[str | None, Query(max_length=63)] = None,
) -> dict[str, Any]:
    """Whether a module, signed or a draft, fits a device, with each engine; with every reason why not.

    It is decided as a rollout decides it; with ``slot``, whether the module's secrets are there counts, too.
    """
    ref = ModuleRef.parse(module)
    if not who.scope("module:read").has_team(ref.team):
        raise Missing("there is no such module", element=str(ref)[:100])
    with use.database.read() as connection:
        return fitting.fitting(connection, use.registry, device, ref, slot_name(slot) if slot else None)


@router.get("/{device}/certificates", dependencies=[Depends(need("device:read"))])
def list_device_certificates(device: DevicePath, use: Use, limit: _Limit = 20) -> list[dict[str, Any]]:
    """The certificates that it was given, the newest first, as far as they are remembered."""
    with use.database.read() as connection:
        return device_past.certificates_of(connection, device, limit)


@router.get("/{device}/decisions", dependencies=[Depends(need("device:read"))])
def list_device_decisions(device: DevicePath, use: Use, limit: _Limit = 50) -> list[dict[str, Any]]:
    """What was decided for its slots, the newest first: the module, the rollout, and who."""
    with use.database.read() as connection:
        return device_past.decisions(connection, device, limit)
