"""Whether the server works, whether it leads, and whether it has the broker."""

from typing import Any, Final

from fastapi import APIRouter, Depends

from fleet.auth import public
from fleet.db import disk_trouble
from fleet.services import Use
from modules import __version__
from modules.errors import Transient

SIGN_AGAIN: Final = "metadata that offline keys sign is past half of its life: edgefleet keys status"

router = APIRouter()


# Public: load balancers and joining devices ask it, and it says nothing about the fleet.
@router.get("/healthz", dependencies=[Depends(public)])
def health(use: Use) -> dict[str, Any]:
    """``mishaps`` counts what failed alone, by name, since the start; ``notes`` says what a person should do soon.

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
        # Whose it is stands in the events, which are not public.
        "notes": [*use.notes, *([SIGN_AGAIN] if use.metadata.due else [])],
    }
