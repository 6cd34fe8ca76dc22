"""The audit log: who did what to what, from where."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from fleet.audit import log as audit_log
from fleet.auth import need
from fleet.services import Use
from modules.bounds import MAX_COUNT

router = APIRouter(prefix="/api/v1/audit")


@router.get("", dependencies=[Depends(need("audit:read"))])
def list_audit(
    use: Use,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    by: Annotated[str, Query(max_length=300)] = "",
    action: Annotated[str, Query(max_length=300)] = "",
    before: Annotated[int, Query(ge=0, le=MAX_COUNT)] = 0,
) -> Response:
    """The newest rows first."""
    with use.database.read() as connection:
        found = audit_log.newest(connection, limit=limit, by=by, action=action, before=before)
    return Response(msgspec.json.encode(found), media_type="application/json")


@router.get("/rows", dependencies=[Depends(need("audit:read"))])
def export_audit(use: Use, after: Annotated[int, Query(ge=0, le=MAX_COUNT)] = 0) -> Response:
    """The rows after one in order, a thousand at most: all that a verification needs."""
    with use.database.read() as connection:
        found = audit_log.page(connection, after)
    return Response(msgspec.json.encode(found), media_type="application/json")


@router.get("/heads", dependencies=[Depends(need("audit:read"))])
def audit_heads(use: Use) -> dict[str, Any]:
    """The signed heads, each an envelope as text, and the key that signs them."""
    return {
        "key": {"keyid": use.heads.key.keyid, **use.heads.key.to_dict()},
        "heads": [one.decode() for one in use.heads.all()],
    }
