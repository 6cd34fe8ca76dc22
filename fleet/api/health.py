"""Whether the server works, whether it leads, and whether it has the broker."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy.exc import SQLAlchemyError

from fleet.auth import public
from fleet.db import disk_trouble
from fleet.people.identify import Authorization, principal_of
from fleet.refusals import Forbidden, TooMany, Unauthorised
from fleet.services import Services, Use
from modules import __version__
from modules.errors import Transient

router = APIRouter()


# Public: load balancers and joining devices ask it, and it says nothing about the fleet.
@router.get("/healthz", dependencies=[Depends(public)])
def health(request: Request, use: Use, authorization: Authorization = None) -> dict[str, Any]:
    """``mishaps`` counts what failed alone, by name, since the start; ``warnings`` say what ends soon.

    Warnings name teams: to whoever may not read the events of the whole fleet they say how many there are of which
    kind. ``notes`` say what whoever runs this server should change.

    Raises:
        Transient: the server cannot do its work now; in words.
    """
    if trouble := use.mishaps.trouble or disk_trouble(use.settings.data):
        raise Transient(trouble, element="fleet server")
    leads = use.leads()
    broker = use.link.state if leads else "another server has the session"
    return {
        "status": "ok",
        "version": __version__,
        "leader": leads,
        "broker": broker,
        "mishaps": use.mishaps.counts,
        "warnings": use.mishaps.warnings if _may_read(request, use, authorization) else use.mishaps.kinds,
        "notes": use.notes,
    }


def _may_read(request: Request, use: Services, authorization: str | None) -> bool:
    """Whether whoever asks may read all events; nobody needs a token here, and one that does not hold is as none."""
    try:
        who = principal_of(request, use, authorization)
    except (Unauthorised, Forbidden, TooMany, SQLAlchemyError):
        return False
    return not who.blocked and who.scope("event:read").unlimited
