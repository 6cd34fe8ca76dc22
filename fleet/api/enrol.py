"""First contact of devices."""

import http

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from fleet import events, joins
from fleet.api.document import answers, takes
from fleet.auth import public
from fleet.enrolment import Admitted
from fleet.refusals import TooMany
from fleet.services import Services, Use, address
from modules import canonical
from modules.errors import Refused
from modules.protocol.enrollment import EnrollAnswer, EnrollRequest

router = APIRouter()
REQUEST_LIMIT = 16 << 10


# Public: the join token in the body is what lets a device in. 202: its key waits for an operator.
@router.post(
    "/enroll",
    dependencies=[Depends(public)],
    max_body_size=REQUEST_LIMIT,
    **answers("application/json", also=http.HTTPStatus.ACCEPTED),
    **takes("application/json"),
)
async def enroll(request: Request, use: Use) -> Response:
    body = canonical.decode(await request.body(), EnrollRequest, limit=REQUEST_LIMIT, what="enrolment")
    admitted = await run_in_threadpool(_enrol, use, body, request)
    code = http.HTTPStatus.OK if isinstance(admitted.answer, EnrollAnswer) else http.HTTPStatus.ACCEPTED
    if code is http.HTTPStatus.OK:
        use.devices_changed()
    return Response(canonical.encode(admitted.answer), status_code=code, media_type="application/json")


def _enrol(use: Services, body: EnrollRequest, request: Request) -> Admitted:
    now, origin = use.clock(), address(request)
    try:
        with use.database.read() as connection:
            joins.of_token(connection, body.token)  # who guesses does not lock the database
        with use.database.write() as connection:
            admitted = use.enrolment.enrol(connection, now, body, address=origin)
    except TooMany:
        raise
    except Refused as error:
        use.attempts.failed(origin, now)
        request.state.told = True  # with the device's name
        with use.database.write() as connection:
            text = f"{error.code}, from {origin}: {error}"
            events.record(connection, now, "enrolment-refused", text, device=body.name)
        raise
    if admitted.revoked:
        with use.database.write() as connection:  # one list after the other
            use.revocations.publish(connection, now)
    return admitted
