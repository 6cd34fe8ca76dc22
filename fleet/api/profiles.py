"""What publishers measured of module versions (fleet/profiles.py)."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from pydantic import Field

from fleet import profiles
from fleet.api.bodies import Body
from fleet.api.modules import module_ref
from fleet.auth import By, need
from fleet.services import Use
from modules.names import ModuleRef

router = APIRouter(prefix="/api/v1/modules/{team}/{name}/{version}/profiles")
Figure = Annotated[float, Field(ge=0, le=1e9)]


class Run(Body):
    cpu: Figure
    memory_mb: Annotated[int, Field(ge=0, le=1 << 40)] | None = None
    mean_ms: Figure | None = None
    p95_ms: Figure | None = None
    per_second: Figure | None = None
    peak_mb: Figure | None = None
    problem: Annotated[str, Field(max_length=500)] = ""


class Profile(Body):
    #: what it was measured on
    hardware: Annotated[str, Field(min_length=1, max_length=100)]
    cpu: Figure
    memory_gb: Figure
    runs: Annotated[list[Run], Field(max_length=100, default_factory=list)]


@router.get("", dependencies=[Depends(need("module:read"))])
def list_profiles(ref: Annotated[ModuleRef, Depends(module_ref)], use: Use) -> list[dict[str, Any]]:
    """The newest of each kind of hardware."""
    with use.database.read() as connection:
        return profiles.of(connection, ref)


@router.put("", dependencies=[Depends(need("module:write"))])
def keep_profile(
    body: Profile, ref: Annotated[ModuleRef, Depends(module_ref)], use: Use, by: By
) -> list[dict[str, Any]]:
    """Keep one instead of the one before of the same hardware."""
    measured = msgspec.convert(body.model_dump(exclude={"hardware"}), profiles.Measured)
    with use.database.write() as connection:
        profiles.keep(connection, use.clock(), ref, body.hardware, measured, by=by)
        return profiles.of(connection, ref)
