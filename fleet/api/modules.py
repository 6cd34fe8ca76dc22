"""Module versions: reserve, register as a draft, look."""

import http
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from fleet import metadata_files, module_places, removal
from fleet.api.document import CREATED, takes
from fleet.api.paths import ModelPath, TeamPath
from fleet.auth import By, In, need
from fleet.services import Services, Use
from modules.manifest import LIMIT
from modules.names import ModuleRef, Version, slug

router = APIRouter(prefix="/api/v1")


async def module_ref(team: str, name: str, version: str) -> ModuleRef:
    return ModuleRef(slug(team, what="team"), slug(name, what="module name"), Version.parse(version))


@router.post("/models/{team}/{name}/versions", dependencies=[Depends(need("module:write"))])
def reserve_version(team: TeamPath, name: ModelPath, use: Use) -> dict[str, str]:
    with use.database.write() as connection:
        return {"version": str(use.registry.reserve(connection, use.clock(), team, name))}


@router.put(
    "/modules/{team}/{name}/{version}",
    dependencies=[Depends(need("module:write"))],
    max_body_size=LIMIT,
    responses=CREATED,
    **takes("application/json"),
)
async def put_module(
    ref: Annotated[ModuleRef, Depends(module_ref)], request: Request, response: Response, use: Use
) -> dict[str, Any]:
    data = await request.body()
    new, shown = await run_in_threadpool(_draft, use, ref, data)
    response.status_code = http.HTTPStatus.CREATED if new else http.HTTPStatus.OK
    return shown


@router.get("/modules", dependencies=[Depends(need("module:read"))])
def list_modules(use: Use, scope: In) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return use.registry.view_all(connection, scope)


@router.get("/modules/{team}/{name}/{version}", dependencies=[Depends(need("module:read"))])
def show_module(ref: Annotated[ModuleRef, Depends(module_ref)], use: Use) -> dict[str, Any]:
    """With its manifest, and the ids of the team's keys that have signed it."""
    with use.database.read() as connection:
        signers = metadata_files.signers(connection, ref.team, ref.target)
        return use.registry.view(connection, ref) | {"signers": signers}


@router.get("/module-devices", dependencies=[Depends(need("device:read"))])
def count_devices(use: Use, scope: In) -> dict[str, Any]:
    """How many devices each module is ordered to, and how many there are."""
    with use.database.read() as connection:
        return module_places.counted(connection, scope)


@router.get("/modules/{team}/{name}/{version}/devices", dependencies=[Depends(need("device:read"))])
def list_module_devices(
    ref: Annotated[ModuleRef, Depends(module_ref)],
    use: Use,
    scope: In,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[dict[str, Any]]:
    """The devices and slots that it is ordered to, page by page: ``after`` is the last device of the page before."""
    with use.database.read() as connection:
        return module_places.some(connection, use.registry, ref, scope, after=after, limit=limit)


@router.get("/modules/{team}/{name}/{version}/manifest", dependencies=[Depends(need("module:read"))])
def manifest(ref: Annotated[ModuleRef, Depends(module_ref)], use: Use) -> Response:
    with use.database.read() as connection:
        return Response(use.registry.manifest_bytes(connection, ref), media_type="application/json")


@router.delete("/modules/{team}/{name}/{version}", dependencies=[Depends(need("module:write"))])
def remove_module(ref: Annotated[ModuleRef, Depends(module_ref)], use: Use, by: By, scope: In) -> dict[str, str]:
    with use.database.write() as connection:
        digest = use.registry.digest(connection, ref)
        removal.remove_module(connection, use.clock(), use.registry, ref, scope, by=by)
    with use.database.write() as connection:
        use.registry.discard(connection, digest)
    return {"ref": str(ref), "state": "removed"}


def _draft(use: Services, ref: ModuleRef, data: bytes) -> tuple[bool, dict[str, Any]]:
    with use.database.write() as connection:
        new = use.registry.draft(connection, use.clock(), ref, data)
        return new, use.registry.view(connection, ref)
