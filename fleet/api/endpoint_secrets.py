"""Secrets of modules at an endpoint: set, listed without their values, taken away. Nobody reads a value again."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field, SecretStr

from fleet.api.bodies import Body, secret_bytes
from fleet.api.paths import EndpointPath
from fleet.auth import By, need
from fleet.services import Use
from fleet.targets import module_secrets

router = APIRouter(prefix="/api/v1/endpoints/{endpoint}/secrets")


class OneSecret(Body):
    """Which one."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]


class NewSecretOfEndpoint(OneSecret):
    """``value`` is in base64. It is in no answer, event, error or log."""

    value: SecretStr


@router.get("", dependencies=[Depends(need("endpoint:read"))])
def list_endpoint_secrets(endpoint: EndpointPath, use: Use) -> list[dict[str, Any]]:
    """Those that are set, and those that its modules declare and that are not."""
    with use.database.read() as connection:
        return module_secrets.view(connection, use.endpoints, use.registry, endpoint)


@router.post("", dependencies=[Depends(need("endpoint:write"))])
def set_endpoint_secret(endpoint: EndpointPath, body: NewSecretOfEndpoint, use: Use, by: By) -> dict[str, Any]:
    value = secret_bytes(body.value)
    with use.database.write() as connection:
        done = module_secrets.put(connection, use.clock(), use.endpoints, endpoint, body.name, value, by=by)
    use.endpoints_changed()
    return done


@router.post("/remove", dependencies=[Depends(need("endpoint:write"))])
def remove_endpoint_secret(endpoint: EndpointPath, body: OneSecret, use: Use, by: By) -> dict[str, Any]:
    with use.database.write() as connection:
        done = module_secrets.take(connection, use.clock(), use.endpoints, use.registry, endpoint, body.name, by=by)
    use.endpoints_changed()
    return done
