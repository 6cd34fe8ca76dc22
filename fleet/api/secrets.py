"""Secrets for modules: set, listed without their values, taken away. Nobody reads a value again, whatever the right."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field, SecretStr
from sqlalchemy import Connection

from fleet import sealed_secrets
from fleet.api.bodies import Body, secret_bytes
from fleet.auth import By, In, need
from fleet.people import reach
from fleet.people.scope import Scope
from fleet.sealed_secrets import Place
from fleet.services import Use
from modules.names import device_id, slot_name

router = APIRouter(prefix="/api/v1/secrets")


class _Where(Body):
    """Which secret of which slot, on the devices of a selector, or on those that are named."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
    slot: Annotated[str, Field(max_length=63)]
    selector: Annotated[str, Field(max_length=500)] = "*"
    devices: Annotated[list[str], Field(max_length=10_000)] | None = None

    @property
    def place(self) -> Place:
        return Place(slot_name(self.slot), self.name)

    def chosen(self, connection: Connection, scope: Scope) -> dict[str, Any]:
        """The devices that are meant, cut to a scope; the selector is kept, for devices to come."""
        if self.devices is None:
            return {"selector": reach.cut(scope, self.selector, "a secret"), "only": None}
        only = [device_id(one) for one in self.devices]
        if not scope.unlimited:
            reach.check_devices(connection, scope, list(only))
        return {"selector": "*", "only": only}


class NewSecret(_Where):
    """``value`` is in base64. It is in no answer, event, error or log."""

    value: SecretStr


@router.get("", dependencies=[Depends(need("secret:read"))])
def list_secrets(use: Use, scope: In) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return sealed_secrets.view(connection, scope)


@router.post("", dependencies=[Depends(need("secret:write"))])
def set_secret(body: NewSecret, use: Use, by: By, scope: In) -> dict[str, Any]:
    value = secret_bytes(body.value)
    with use.database.write() as connection:
        chosen = body.chosen(connection, scope)
        done = sealed_secrets.set_secret(connection, use.clock(), body.place, value, **chosen, by=by)
    use.wake()
    return done


@router.post("/remove", dependencies=[Depends(need("secret:write"))])
def remove_secret(body: _Where, use: Use, by: By, scope: In) -> dict[str, Any]:
    with use.database.write() as connection:
        chosen = body.chosen(connection, scope)
        done = sealed_secrets.remove(connection, use.clock(), use.registry, body.place, scope, **chosen, by=by)
    use.wake()
    return done
