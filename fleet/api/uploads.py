"""Uploads: a model's file for who has the team's key to fetch and sign (fleet/uploads/)."""

import http
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from fleet.api.blobs import CHUNK
from fleet.api.document import CREATED, answers, takes
from fleet.api.graphs import face
from fleet.api.paths import DigestPath, TeamPath
from fleet.auth import By, In, need
from fleet.services import Services, Use
from fleet.uploads.files import Incoming, Received
from fleet.uploads.uploads import NAME, file_name
from modules.digests import MAX_LENGTH
from modules.names import Digest, Slug

# Of a length that Python reads; an HTTP parser takes thousands of zeros.
_DIGITS: Final = 18
router = APIRouter(prefix="/api/v1/uploads")
_BYTES = "application/octet-stream"


@router.get("", dependencies=[Depends(need("module:read"))])
def list_uploads(use: Use, scope: In) -> dict[str, Any]:
    """The newest first, with how many bytes more are taken, and how long each is kept; ``signed``: in which modules."""
    settings = use.settings
    bounds = {"room": use.uploads.room(), "largest": settings.max_blob_bytes, "keep_s": settings.keep_uploads_s}
    return {"uploads": _signed(use, use.uploads.view_all(scope))} | bounds


# The settings bound the size, as with blobs.
@router.post(
    "/{team}",
    dependencies=[Depends(need("module:write"))],
    max_body_size=MAX_LENGTH,
    responses=CREATED,
    **takes(_BYTES),
)
async def put_upload(
    team: TeamPath,
    request: Request,
    response: Response,
    use: Use,
    by: By,
    name: Annotated[str, Query(max_length=4 * NAME)],
) -> dict[str, Any]:
    """The file as it is; what comes whole is kept, and answered with its digest."""
    called = file_name(name)
    said = request.headers.get("content-length", "")
    with await run_in_threadpool(
        use.uploads.incoming, int(said) if said.isdecimal() and len(said) <= _DIGITS else 0
    ) as incoming:
        received = await _receive(request, incoming)
    new, shown = await run_in_threadpool(use.uploads.keep, team, called, received, by=by)
    response.status_code = http.HTTPStatus.CREATED if new else http.HTTPStatus.OK
    return shown


@router.get("/{team}/{name}", dependencies=[Depends(need("module:read"))])
def show_upload(team: TeamPath, name: DigestPath, use: Use) -> dict[str, Any]:
    """With what the server read in the file, and the team's uploads that the graph's weights may be in."""
    [shown] = _signed(use, [use.uploads.view(team, name)])
    graph = use.graphs.of(name, use.uploads.path(name))
    others = use.uploads.named(team, graph.external)
    return shown | {"graph": face(graph), "external": {one: others.get(one, "") for one in graph.external}}


@router.get("/{team}/{name}/file", dependencies=[Depends(need("blob:read"))], **answers(_BYTES))
def get_upload(team: TeamPath, name: DigestPath, use: Use) -> FileResponse:
    use.uploads.view(team, name)
    return FileResponse(use.uploads.path(name), media_type=_BYTES)


@router.delete("/{team}/{name}", dependencies=[Depends(need("module:write"))])
def remove_upload(team: TeamPath, name: DigestPath, use: Use) -> dict[str, str]:
    use.uploads.remove(team, name)
    return {"digest": name, "state": "removed"}


def _signed(use: Services, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each with the signed modules of its team that have these very bytes."""
    theirs: dict[Slug, set[Digest]] = {}
    for one in shown:
        theirs.setdefault(one["team"], set()).add(one["digest"])
    with use.database.read() as connection:
        found = {team: use.registry.signed_with(connection, team, files) for team, files in theirs.items()}
    return [one | {"signed": found[one["team"]].get(one["digest"], [])} for one in shown]


async def _receive(request: Request, incoming: Incoming) -> Received:
    pending = bytearray()
    async for chunk in request.stream():
        pending += chunk
        if len(pending) >= CHUNK:
            await run_in_threadpool(incoming.write, bytes(pending))
            pending.clear()
    return await run_in_threadpool(_finish, incoming, bytes(pending))


def _finish(incoming: Incoming, rest: bytes) -> Received:
    incoming.write(rest)
    return incoming.finish()
