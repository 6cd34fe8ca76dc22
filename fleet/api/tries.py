"""A module is tried out where it serves: on a device by a command, at an endpoint by its address."""

import http
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from fleet.api.document import takes
from fleet.api.paths import DevicePath, EndpointPath, SlotPath
from fleet.auth import By, In, need
from fleet.commands import tries
from fleet.services import Use
from fleet.targets.asking import BODY, place
from modules.errors import Invalid
from modules.protocol.commands import TRIAL_BODY, Trial

router = APIRouter(prefix="/api/v1")
#: seconds that an endpoint may take
_LONGEST_S: Final = 50
_BYTES: Final = "application/octet-stream"
_What = Annotated[Literal["score", "swagger.json"], Query()]
_Accept = Annotated[str, Query(max_length=100, pattern=r"^[ -~]*$")]
_Version = Annotated[str, Query(max_length=63, pattern=r"^[a-z0-9-]*$")]


@router.post(
    "/devices/{device}/slots/{slot}/try",
    dependencies=[Depends(need("device:try"))],
    status_code=http.HTTPStatus.OK,
    max_body_size=TRIAL_BODY,
    **takes(_BYTES),
)
async def try_on_device(
    device: DevicePath,
    slot: SlotPath,
    request: Request,
    use: Use,
    by: By,
    scope: In,
    path: _What = "score",
    accept: _Accept = "",
    within_s: Annotated[int, Query(ge=1, le=tries.LONGEST_S)] = tries.WITHIN_S,
) -> dict[str, Any]:
    """Ask what serves in a slot, with this body and its media type; the answer, and who gave it."""
    body = await request.body()

    def give() -> str:
        wish = tries.wish(device, slot, _trial(request, path, accept, body), within_s)
        with use.database.read() as connection:
            tries.check(connection, scope, device, slot)
        return use.commands.give(wish, scope, by=by).commands[device]

    ident = await run_in_threadpool(give)
    use.commands_given()
    return await tries.answered(use.database, use.followers, ident, within_s)


@router.post(
    "/endpoints/{endpoint}/try",
    dependencies=[Depends(need("endpoint:try"))],
    status_code=http.HTTPStatus.OK,
    max_body_size=BODY,
    **takes(_BYTES),
)
async def try_at_endpoint(
    endpoint: EndpointPath,
    request: Request,
    use: Use,
    path: _What = "score",
    accept: _Accept = "",
    version: _Version = "",
    within_s: Annotated[int, Query(ge=1, le=_LONGEST_S)] = tries.WITHIN_S,
) -> dict[str, Any]:
    """Ask an endpoint, or one version of it, with this body and its media type; the answer, and who gave it."""
    body = await request.body()
    trial = _trial(request, path, accept, b"")

    def find() -> Any:
        with use.database.read() as connection:
            return place(connection, use.endpoints, use.clock(), endpoint)

    where = await run_in_threadpool(find)
    answer = await use.asking.ask(where, trial, body=body, version=version, within_s=within_s)
    return {"command": None, "state": "done", "reason": None, "answer": msgspec.to_builtins(answer)}


def _trial(request: Request, path: str, accept: str, body: bytes) -> Trial:
    kind = request.headers.get("content-type", "")
    try:
        return msgspec.convert({"path": path, "content_type": kind, "accept": accept, "body": body}, Trial)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), element="Content-Type", remedy="send a media type, as image/jpeg") from error
