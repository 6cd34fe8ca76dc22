"""What happened that somebody should look at."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from fleet import events
from fleet.auth import In, need
from fleet.services import Use

router = APIRouter(prefix="/api/v1/events")


@router.get("", dependencies=[Depends(need("event:read"))])
def list_events(use: Use, scope: In, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return events.newest(connection, scope, limit=limit)
