"""First contact of devices, and the bundles that let them join."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from fleet import events, tokens
from fleet.api.bodies import Body
from fleet.auth import need, public
from fleet.refusals import Unauthorised
from fleet.services import Services, Use, address
from modules import canonical
from modules.protocol.enrollment import EnrollAnswer, EnrollRequest

router = APIRouter()
REQUEST_LIMIT = 16 << 10


class JoinRequest(Body):
    """How many devices may join with the bundle, and for how long."""

    uses: Annotated[int, Field(ge=1, le=100_000)] = 1
    expires_s: Annotated[int, Field(ge=60, le=365 * 86400)] = 86400


# Public: the join token in the body is what lets a device in.
@router.post("/enroll", dependencies=[Depends(public)], max_body_size=REQUEST_LIMIT)
async def enroll(request: Request, use: Use) -> Response:
    body = canonical.decode(await request.body(), EnrollRequest, limit=REQUEST_LIMIT, what="enrolment")
    answer = await run_in_threadpool(_enrol, use, body, request)
    use.devices_changed()
    return Response(canonical.encode(answer), media_type="application/json")


@router.post("/api/v1/join-tokens", dependencies=[Depends(need("device:enrol"))])
def join_token(body: JoinRequest, use: Use) -> Response:
    root = use.metadata.newest_root()
    with use.database.write() as connection:
        bundle = use.enrolment.join_bundle(connection, use.clock(), root=root, uses=body.uses, life_s=body.expires_s)
    return Response(msgspec.json.encode(bundle), media_type="application/json")


def _enrol(use: Services, body: EnrollRequest, request: Request) -> EnrollAnswer:
    try:
        with use.database.read() as connection:
            tokens.role(connection, use.clock(), body.token, kind="join")  # who guesses does not lock the database
        with use.database.write() as connection:
            return use.enrolment.enrol(connection, use.clock(), body)
    except Unauthorised as error:
        use.attempts.failed(address(request), use.clock())
        request.state.told = True  # with the device's name
        with use.database.write() as connection:
            events.record(connection, use.clock(), "enrolment-refused", str(error), device=body.name)
        raise
