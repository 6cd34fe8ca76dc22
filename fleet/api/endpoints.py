"""Endpoints in the cloud: wish, look, change, remove; keys, tokens and logs."""

import http
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from fleet.api.bodies import Body
from fleet.api.paths import EndpointPath
from fleet.auth import By, In, need
from fleet.fallbacks import costs
from fleet.services import Use
from fleet.targets import settings
from fleet.targets.endpoints import VersionWish, view
from fleet.targets.secrets import made
from modules.names import ModuleRef, Slug, slug

router = APIRouter(prefix="/api/v1/endpoints")
_LINES = 2000


class OneVersion(Body):
    """A signed module behind an endpoint, its share of the requests in percent, and how many replicas it has."""

    module: str = Field(max_length=300)
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    replicas: Annotated[int, Field(ge=1, le=settings.MAX_REPLICAS)] = 1


Versions = Annotated[dict[str, OneVersion], Field(min_length=1, max_length=settings.MAX_VERSIONS)]


class NewEndpoint(Body):
    """What is wished for. Keys that are not given are made."""

    name: str = Field(max_length=63)
    target: str = Field(max_length=63)
    versions: Versions
    default: str | None = Field(None, max_length=63)
    settings: dict[str, Any] = Field(default_factory=dict, max_length=64)
    primary_key: str = Field("", max_length=200)
    secondary_key: str = Field("", max_length=200)
    certificate_key: str = Field("", max_length=64 << 10)


class ChangedEndpoint(Body):
    """What is to change; what is not given stays. ``generation``: only if nobody has changed it since."""

    versions: Versions | None = None
    default: str | None = Field(None, max_length=63)
    settings: dict[str, Any] = Field(default_factory=dict, max_length=64)
    certificate_key: str | None = Field(None, max_length=64 << 10)
    generation: Annotated[int, Field(ge=0, le=1 << 31)] | None = None


class NewKey(Body):
    """Which key is to change; empty: to one that is made."""

    which: Literal["primary", "secondary"]
    key: str = Field("", max_length=200)


@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("endpoint:write"))])
def create_endpoint(body: NewEndpoint, use: Use, by: By, scope: In) -> dict[str, Any]:
    secrets = made(primary=body.primary_key, secondary=body.secondary_key, certificate_key=body.certificate_key)
    with use.database.write() as connection:
        use.endpoints.create(
            connection,
            use.clock(),
            body.name,
            slug(body.target, what="target"),
            _versions(body.versions),
            None if body.default is None else slug(body.default, what="version"),
            settings.settings(body.settings),
            secrets,
            by=by,
            scope=scope,
        )
        shown = view(use.endpoints.row(connection, body.name))
    use.endpoints_changed()
    return shown


@router.get("", dependencies=[Depends(need("endpoint:read"))])
def list_endpoints(use: Use, scope: In) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return use.endpoints.every(connection, scope)


@router.get("/{endpoint}", dependencies=[Depends(need("endpoint:read"))])
def show_endpoint(endpoint: EndpointPath, use: Use) -> dict[str, Any]:
    with use.database.read() as connection:
        row = use.endpoints.row(connection, endpoint)
        return view(row) | {"costs": costs.view(connection, use.clock(), row)}


@router.get("/{endpoint}/costs", dependencies=[Depends(need("endpoint:read"))])
def show_endpoint_costs(
    endpoint: EndpointPath, use: Use, days: Annotated[int, Query(ge=1, le=costs.KEEP_DAYS)] = 30
) -> dict[str, Any]:
    """What it has cost on each of the last days (UTC), by its target's prices at the time; today's so far."""
    with use.database.read() as connection:
        row = use.endpoints.row(connection, endpoint)
        now = use.clock()
        return costs.view(connection, now, row) | {"days": costs.by_days(connection, now, endpoint, days)}


@router.patch("/{endpoint}", dependencies=[Depends(need("endpoint:write"))])
def change_endpoint(endpoint: EndpointPath, body: ChangedEndpoint, use: Use, by: By, scope: In) -> dict[str, Any]:
    with use.database.write() as connection:
        before = settings.Settings(**view(use.endpoints.row(connection, endpoint))["settings"])
        use.endpoints.change(
            connection,
            use.clock(),
            endpoint,
            None if body.versions is None else _versions(body.versions),
            None if body.default is None else slug(body.default, what="version"),
            settings.settings(body.settings, before),
            body.certificate_key,
            generation=body.generation,
            by=by,
            scope=scope,
        )
        shown = view(use.endpoints.row(connection, endpoint))
    use.endpoints_changed()
    return shown


@router.delete("/{endpoint}", dependencies=[Depends(need("endpoint:write"))])
def remove_endpoint(endpoint: EndpointPath, use: Use, by: By) -> dict[str, str]:
    with use.database.write() as connection:
        use.endpoints.remove(connection, use.clock(), endpoint, by=by)
    use.endpoints_changed()
    return {"name": endpoint, "state": "removing"}


@router.get("/{endpoint}/keys", dependencies=[Depends(need("endpoint:key"))])
def show_endpoint_keys(endpoint: EndpointPath, use: Use) -> dict[str, str]:
    with use.database.read() as connection:
        primary, secondary = use.endpoints.keys(connection, endpoint)
    return {"primary": primary, "secondary": secondary}


@router.post("/{endpoint}/keys", dependencies=[Depends(need("endpoint:key"))])
def change_endpoint_key(endpoint: EndpointPath, body: NewKey, use: Use, by: By) -> dict[str, str]:
    with use.database.write() as connection:
        use.endpoints.regenerate(connection, use.clock(), endpoint, body.which, body.key, by=by)
        primary, secondary = use.endpoints.keys(connection, endpoint)
    use.endpoints_changed()
    return {"primary": primary, "secondary": secondary}


@router.post("/{endpoint}/token", dependencies=[Depends(need("endpoint:key"))])
def fetch_endpoint_token(endpoint: EndpointPath, use: Use) -> dict[str, Any]:
    with use.database.read() as connection:
        return use.endpoints.token(connection, use.clock(), endpoint)


@router.get("/{endpoint}/logs", dependencies=[Depends(need("endpoint:log"))])
def show_endpoint_logs(
    endpoint: EndpointPath, use: Use, lines: Annotated[int, Query(ge=1, le=_LINES)] = 200
) -> dict[str, str]:
    """The last lines of each replica and of the gateway."""
    with use.database.read() as connection:
        row = use.endpoints.row(connection, endpoint)
        line = use.targets.of(connection, row.target)
    return line.ask(lambda it: it.logs(endpoint, lines=lines))


def _versions(given: dict[str, OneVersion]) -> dict[Slug, VersionWish]:
    return {
        slug(name, what="version"): VersionWish(ModuleRef.parse(one.module), one.weight, one.replicas)
        for name, one in given.items()
    }
