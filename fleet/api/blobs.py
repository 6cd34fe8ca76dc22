"""Blobs over HTTP: the publisher's upload, and the fast lane for whoever reaches the server directly."""

import http
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from fleet.api.document import CREATED, answers, takes
from fleet.api.paths import DigestPath
from fleet.auth import need
from fleet.blobs import Incoming
from fleet.refusals import Missing
from fleet.services import Use
from modules.digests import MAX_LENGTH, Blob

router = APIRouter(prefix="/api/v1/blobs")
CHUNK: Final = 1 << 20
_BYTES: Final = "application/octet-stream"


@router.head("/{name}", dependencies=[Depends(need("blob:read"))], **answers(_BYTES))
def has_blob(name: DigestPath, use: Use) -> Response:
    length = use.blobs.length(name)
    if length is None:
        raise Missing("there is no such blob", element=name)
    return Response(headers={"Content-Length": str(length)}, media_type=_BYTES)


@router.get("/{name}", dependencies=[Depends(need("blob:read"))], **answers(_BYTES))
def get_blob(name: DigestPath, use: Use) -> FileResponse:
    if use.blobs.length(name) is None:
        raise Missing("there is no such blob", element=name)
    return FileResponse(use.blobs.path(name), media_type=_BYTES)


# The settings bound the size; the framework's own bound would cut every upload at that of a document.
@router.put(
    "/{name}",
    dependencies=[Depends(need("blob:write"))],
    max_body_size=MAX_LENGTH,
    responses=CREATED,
    **takes(_BYTES),
)
async def put_blob(name: DigestPath, request: Request, response: Response, use: Use) -> dict[str, Any]:
    found = await run_in_threadpool(use.blobs.describe, name)
    if found is None:
        response.status_code = http.HTTPStatus.CREATED
        found = await _receive(request, use, name)
    return {"sha256": found.sha256, "length": found.length, "blocks": found.blocks}


async def _receive(request: Request, use: Use, name: DigestPath) -> Blob:
    incoming = await run_in_threadpool(use.blobs.incoming, name, limit=use.settings.max_blob_bytes)
    with incoming:
        pending = bytearray()
        async for chunk in request.stream():
            pending += chunk
            if len(pending) >= CHUNK:
                await run_in_threadpool(incoming.write, bytes(pending))
                pending.clear()
        return await run_in_threadpool(_finish, incoming, bytes(pending))


def _finish(incoming: Incoming, rest: bytes) -> Blob:
    incoming.write(rest)
    return incoming.finish()
