"""Whether the server works, whether it leads, and whether it has the broker."""

from typing import Any

from fastapi import APIRouter, Depends

from fleet.auth import public
from fleet.db import disk_trouble
from fleet.services import Use
from modules import __version__
from modules.errors import Transient

router = APIRouter()


# Public: load balancers and joining devices ask it, and it says nothing about the fleet.
@router.get("/healthz", dependencies=[Depends(public)])
def health(use: Use) -> dict[str, Any]:
    """``mishaps`` counts what failed alone, by name, since the start; ``warnings`` say what ends soon.

    ``notes`` say what whoever runs this server should change.

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
        "warnings": use.mishaps.warnings,
        "notes": use.notes,
    }
