"""Batch jobs on many devices: start, look, cancel, each by one name. ``router`` has those in one place as well."""

import http
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from fleet.api import batch_jobs
from fleet.api.bodies import Body
from fleet.api.paths import BatchPath
from fleet.auth import By, In, need, scope_of
from fleet.services import Use
from fleet.targets import batches
from fleet.targets.batches import AT_MOST, Meant
from fleet.targets.jobs import Asked
from fleet.targets.settings import batch_settings
from modules.names import ModuleRef, device_id

_many = APIRouter(prefix="/api/v1/batches")
_also_commands = need("command:write")


class NewBatch(Body):
    """A module, the devices that are meant (a selector, or their ids), and the two places that each of them names."""

    name: str = Field(max_length=63)
    selector: str | None = Field(default=None, max_length=2000)
    devices: list[str] | None = Field(default=None, min_length=1, max_length=AT_MOST)
    module: str = Field(max_length=300)
    inputs: str = Field(max_length=63)
    outputs: str = Field(max_length=63)
    settings: dict[str, Any] = Field(default_factory=dict, max_length=64)


@_many.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("batch:write"))])
def start_batch(body: NewBatch, use: Use, by: By, scope: In, request: Request) -> dict[str, Any]:
    """A job on each device that takes it; each is a command, so it takes command:write for the devices besides."""
    _also_commands(request, use, request.headers.get("Authorization"))
    asked = Asked(inputs=body.inputs, outputs=body.outputs, settings=batch_settings(body.settings))
    named = None if body.devices is None else [device_id(one) for one in dict.fromkeys(body.devices)]
    with use.database.write() as connection:
        misfits = batches.start(
            connection,
            use.clock(),
            use.jobs,
            body.name,
            Meant(body.selector, named),
            ModuleRef.parse(body.module),
            asked,
            by=by,
            scope=scope,
            commands=scope_of(request),
        )
        found = batches.show(connection, body.name)
    return found | {"misfits": [{"device": one.device, "why": one.why} for one in misfits]}


@_many.get("", dependencies=[Depends(need("batch:read"))])
def list_batches(use: Use, scope: In) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return batches.every(connection, scope)


@_many.get("/{batch}", dependencies=[Depends(need("batch:read"))])
def show_batch(batch: BatchPath, use: Use) -> dict[str, Any]:
    """How far it is on each device, and together."""
    with use.database.read() as connection:
        return batches.show(connection, batch)


@_many.post("/{batch}/cancel", dependencies=[Depends(need("batch:write"))])
def cancel_batch(batch: BatchPath, use: Use, by: By) -> dict[str, Any]:
    """End what of it has not ended; what was answered stays on the devices."""
    with use.database.write() as connection:
        batches.cancel(connection, use.clock(), batch, by=by)
        return batches.show(connection, batch)


router = APIRouter()
router.include_router(batch_jobs.router)
router.include_router(_many)
