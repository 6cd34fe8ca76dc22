"""The list of revoked certificates, for a broker on another machine."""

from fastapi import APIRouter, Depends, Response

from fleet.api.document import answers
from fleet.auth import public
from fleet.services import Use

router = APIRouter()


# Public, as such lists are: it is signed, it names serial numbers, and whoever must read it has no token.
@router.get("/revoked.pem", dependencies=[Depends(public)], **answers("application/x-pem-file"))
def revoked(use: Use) -> Response:
    with use.database.read() as connection:
        listed = use.revocations.current(connection, use.clock())
    return Response(listed, media_type="application/x-pem-file")
