"""What happened that somebody should look at."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from fleet import events
from fleet.auth import In, need
from fleet.services import Use
from modules.bounds import MAX_COUNT

router = APIRouter(prefix="/api/v1/events")


@router.get("", dependencies=[Depends(need("event:read"))])
def list_events(
    use: Use,
    scope: In,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    kind: Annotated[str, Query(max_length=64)] = "",
    device: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[int, Query(ge=0, le=MAX_COUNT)] = 0,
) -> list[dict[str, Any]]:
    """The newest first, page by page: ``before`` is the ``id`` of the last of the page before."""
    with use.database.read() as connection:
        return events.newest(connection, scope, limit=limit, kind=kind, device=device, before=before)
