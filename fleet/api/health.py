"""Whether the server works, and whether it has the broker."""

from fastapi import APIRouter, Depends

from fleet.auth import public
from fleet.services import Use
from modules import __version__

router = APIRouter()


# Public: load balancers and joining devices ask it, and it says nothing about the fleet.
@router.get("/healthz", dependencies=[Depends(public)])
def health(use: Use) -> dict[str, str]:
    return {"status": "ok", "version": __version__, "broker": use.link.state}
