"""Commands to devices: give, look, follow, fetch what they brought, cancel."""

import http
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from fleet.api.bodies import Body
from fleet.api.document import answers
from fleet.auth import By, In, need, scope_of
from fleet.commands import view
from fleet.commands.given import DECOMMISSION
from fleet.commands.states import State
from fleet.commands.whom import Wish
from fleet.people.scope import Scope
from fleet.services import Use
from modules.bounds import MAX_COUNT
from modules.names import device_id
from modules.protocol.commands import LONGEST_LIFE_S, MAX_ARGUMENTS, MAX_PARTS

router = APIRouter(prefix="/api/v1/commands")

LONGEST_WAIT_S: Final = 30
# Devices that a request names one by one.
_TOGETHER: Final = 1000
_Part = Annotated[int, Query(ge=1, le=MAX_PARTS + 1)]
_FirstPart = Annotated[int, Query(alias="from", ge=1, le=MAX_PARTS + 1)]
_Word = Annotated[str, Field(min_length=1, max_length=100)]
_also_writes_devices = need("device:write")


class Give(Body):
    """What to do, and which device or devices it is for."""

    name: _Word
    device: str | None = None
    devices: Annotated[list[str], Field(max_length=_TOGETHER)] = Field(default_factory=list)
    selector: str | None = None
    slot: str | None = None
    arguments: Annotated[dict[_Word, float], Field(max_length=MAX_ARGUMENTS)] = Field(default_factory=dict)
    expires_s: Annotated[int, Field(ge=1, le=LONGEST_LIFE_S)] = 3600

    def wish(self) -> Wish:
        return Wish(
            name=self.name,
            device=None if self.device is None else device_id(self.device),
            several=tuple(device_id(one) for one in self.devices),
            selector=self.selector,
            slot=self.slot,
            arguments=self.arguments,
            expires_s=self.expires_s,
        )


@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("command:write"))])
def give_command(body: Give, use: Use, by: By, scope: In, request: Request) -> dict[str, Any]:
    """One command for each device that takes it; wiping a device takes device:write for it besides."""
    given = use.commands.give(body.wish(), _where(body, use, scope, request), by=by)
    use.commands_given()
    return {
        "batch": given.batch,
        "commands": [{"id": ident, "device": device} for device, ident in given.commands.items()],
        "misfits": [{"device": one.device, "reasons": one.reasons} for one in given.misfits],
    }


@router.post("/preview", status_code=http.HTTPStatus.OK, dependencies=[Depends(need("command:write"))])
def preview_command(body: Give, use: Use, scope: In, request: Request) -> dict[str, Any]:
    """Who would get it now, who of them is offline and gets it when back in time, and who would not; gives nothing."""
    found = use.commands.look(body.wish(), _where(body, use, scope, request))
    return {"devices": found.devices, "offline": found.away, "misfits": [one._asdict() for one in found.misfits]}


def _where(body: Give, use: Use, scope: Scope, request: Request) -> Scope:
    """For which devices whoever asks may give it.

    Raises:
        Forbidden: it takes another right besides.
    """
    if body.name != DECOMMISSION:
        return scope
    _also_writes_devices(request, use, request.headers.get("Authorization"))
    return scope & scope_of(request)


@router.get("", dependencies=[Depends(need("command:read"))])
def list_commands(
    use: Use,
    scope: In,
    device: Annotated[str | None, Query(max_length=63)] = None,
    name: Annotated[str | None, Query(max_length=100)] = None,
    state: Annotated[list[State] | None, Query(max_length=len(State))] = None,
    batch: Annotated[str | None, Query(max_length=32)] = None,
    before: Annotated[int | None, Query(ge=1, le=MAX_COUNT)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[dict[str, Any]]:
    """The newest first, page by page: ``before`` is the ``number`` of the last of the page before."""
    with use.database.read() as connection:
        return view.some(
            connection,
            scope,
            device=None if device is None else device_id(device),
            name=name,
            states=state or (),
            batch=batch,
            before=before,
            limit=limit,
        )


@router.get("/{command}", dependencies=[Depends(need("command:read"))])
async def show_command(
    command: str,
    use: Use,
    first: _FirstPart = 1,
    wait_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = 0,
) -> dict[str, Any]:
    """One command with its parts; with ``wait_s`` once part ``from`` is there, or it is over, or the time is."""
    if wait_s:
        await use.followers.wait(use.database, command, first=first, wait_s=wait_s)

    def look() -> dict[str, Any]:
        with use.database.read() as connection:
            return view.one(connection, command, first=first)

    return await run_in_threadpool(look)


@router.get("/{command}/result", dependencies=[Depends(need("log:read"))], **answers(*view.CONTENT, view.OTHER[0]))
def get_result(command: str, use: Use, first: _FirstPart = 1, to: _Part | None = None) -> Response:
    """What the device sent, as far as it came; for a program or a file, and never a page that a browser shows."""
    with use.database.read() as connection:
        found = view.result(connection, command, first=first, last=to)
    headers = {
        "Content-Disposition": f'attachment; filename="{found.file}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return Response(found.data, media_type=found.content, headers=headers)


@router.delete("/{command}", dependencies=[Depends(need("command:write"))])
def cancel_command(command: str, use: Use, by: By) -> dict[str, Any]:
    """Send it no more, and take no more answers; what the device has begun it finishes."""
    with use.database.write() as connection:
        use.commands.cancel(connection, command, by=by)
        return view.one(connection, command)
