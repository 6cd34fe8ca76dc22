"""Who may use the server: operators and their roles, for those who may say so."""

import http
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from fleet.api.bodies import Body
from fleet.api.told import refusals_told
from fleet.auth import By, need
from fleet.people import operators, passwords
from fleet.people.roles import Grant
from fleet.services import Use

router = APIRouter(prefix="/api/v1/operators")


class Role(Body):
    """A role, and what it is bounded to."""

    role: str
    selector: str = "*"
    teams: Annotated[list[str], Field(max_length=50)] | None = None

    def grant(self) -> Grant:
        return Grant(self.role, self.selector, None if self.teams is None else tuple(self.teams))


Roles = Annotated[list[Role], Field(max_length=20)]


class NewOperator(Body):
    """One more operator; with ``password`` false, one who comes from the identity provider alone."""

    name: str
    roles: Roles
    password: bool = True


class Change(Body):
    """What is to be changed; what is left out stays."""

    roles: Roles | None = None
    disabled: bool | None = None


@router.get("", dependencies=[Depends(need("user:read"))])
def list_operators(use: Use) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return operators.every(connection)


@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("user:write"))])
def add_operator(body: NewOperator, use: Use, by: By) -> dict[str, Any]:
    """The answer has a random password, once; whoever gets it has to change it first."""
    password = passwords.made() if body.password else None
    hashed = None if password is None else use.passwords.hashed(password)
    with refusals_told(use, by), use.database.write() as connection:
        grants = [one.grant() for one in body.roles]
        operators.add(connection, use.clock(), body.name, grants, password=hashed, by=by)
        shown = operators.shown(operators.get(connection, body.name))
    return shown | ({} if password is None else {"password_once": password})


@router.patch("/{operator}", dependencies=[Depends(need("user:write"))])
def change_operator(operator: str, body: Change, use: Use, by: By) -> dict[str, Any]:
    now = use.clock()
    with refusals_told(use, by), use.database.write() as connection:
        if body.roles is not None:
            operators.set_roles(connection, now, operator, [one.grant() for one in body.roles], by=by)
        if body.disabled is not None:
            operators.disable(connection, now, operator, disabled=body.disabled, by=by)
        return operators.shown(operators.get(connection, operator))


@router.post("/{operator}/password", dependencies=[Depends(need("user:write"))])
def reset_password(operator: str, use: Use, by: By) -> dict[str, Any]:
    """Give somebody a random password, which the answer has once."""
    password = passwords.made()
    hashed = use.passwords.hashed(password)
    with refusals_told(use, by), use.database.write() as connection:
        row = operators.get(connection, operator)
        operators.set_password(connection, use.clock(), row, hashed, given=True, by=by)
    return {"name": row.name, "password_once": password}
