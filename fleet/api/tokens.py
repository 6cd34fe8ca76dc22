"""Named tokens: one's own, and those of a CI."""

import http
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from fleet.api.bodies import Body
from fleet.api.operators import Roles
from fleet.api.told import refusals_told
from fleet.auth import Asker, need
from fleet.people import own_tokens
from fleet.services import Use

router = APIRouter(prefix="/api/v1/tokens")


class NewToken(Body):
    """Without ``roles`` it may do what its maker may; without ``expires_s`` it holds as long as is usual here."""

    name: str
    roles: Roles | None = None
    expires_s: Annotated[int, Field(ge=60, le=3650 * 86400)] | None = None


@router.get("", dependencies=[Depends(need("token:read"))])
def list_tokens(use: Use, who: Asker) -> list[dict[str, Any]]:
    """One's own; everybody's for those with user:read."""
    with use.database.read() as connection:
        return own_tokens.listed(connection, who)


@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("token:write"))])
def make_token(body: NewToken, use: Use, who: Asker) -> dict[str, Any]:
    """The answer has the token, once."""
    most, usual = use.settings.token_most_s, use.settings.token_life_s
    life = min(usual, most) if body.expires_s is None else body.expires_s
    grants = None if body.roles is None else [one.grant() for one in body.roles]
    with refusals_told(use, who.name), use.database.write() as connection:
        number, text = own_tokens.make(connection, use.clock(), who, body.name, grants, life_s=life, most_s=most)
    return {"id": number, "name": body.name, "token": text}


@router.delete("/{token}", dependencies=[Depends(need("token:write"))])
def revoke_token(token: str, use: Use, who: Asker) -> dict[str, list[int]]:
    """By number, or by the name of one of one's own; what was made with it goes with it."""
    with refusals_told(use, who.name), use.database.write() as connection:
        return {"revoked": own_tokens.revoke(connection, use.clock(), who, token)}
