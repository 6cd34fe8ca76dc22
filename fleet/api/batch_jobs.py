"""Batch jobs: start, look, logs, cancel; in one place, or on many devices by one name."""

import http
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field, SecretStr

from fleet.api.bodies import Body, secret_bytes
from fleet.api.paths import BatchPath, JobPath
from fleet.auth import By, In, need, scope_of
from fleet.devices import meant
from fleet.refusals import Conflict
from fleet.services import Use
from fleet.targets import batches
from fleet.targets.batches import AT_MOST, Meant
from fleet.targets.contract import RunsJobs, Target
from fleet.targets.jobs import ACTIVE, Asked, Where, standing_of, view
from fleet.targets.settings import batch_settings
from modules.manifest import MAX_SECRETS
from modules.names import ModuleRef, Slug, device_id, slug

router = APIRouter(prefix="/api/v1")
_LINES = 2000
_also_commands = need("command:write")


class NewJob(Body):
    """A module, a target or a device, the place of the inputs, and the one where a folder gets the answers.

    ``secrets`` are the module's on a target, each in base64. They are in no answer, event, error or log.
    """

    name: str = Field(max_length=63)
    target: str | None = Field(default=None, max_length=63)
    device: str | None = Field(default=None, max_length=63)
    module: str = Field(max_length=300)
    inputs: str = Field(max_length=300)
    outputs: str = Field(max_length=300)
    settings: dict[str, Any] = Field(default_factory=dict, max_length=64)
    secrets: dict[str, SecretStr] = Field(default_factory=dict, max_length=MAX_SECRETS)


@router.post("/batch-jobs", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("batch:write"))])
def start_batch_job(body: NewJob, use: Use, by: By, scope: In, request: Request) -> dict[str, Any]:
    """Ask for a job. One on a device is a command to it, and takes command:write for it besides."""
    device = None if body.device is None else device_id(body.device)
    if device is not None:
        _also_commands(request, use, request.headers.get("Authorization"))
    asked = Asked(inputs=body.inputs, outputs=body.outputs, settings=batch_settings(body.settings))
    secrets = {name: secret_bytes(value, element=f"secret {name[:63]}") for name, value in body.secrets.items()}
    where = Where(target=None if body.target is None else slug(body.target, what="target"), device=device)
    with use.database.write() as connection:
        if device is not None:
            meant(connection, "*", [device], scope_of(request))
        use.jobs.start(
            connection,
            use.clock(),
            body.name,
            where,
            ModuleRef.parse(body.module),
            asked,
            secrets,
            by=by,
            scope=scope,
        )
        return view(use.jobs.row(connection, body.name))


@router.get("/batch-jobs", dependencies=[Depends(need("batch:read"))])
def list_batch_jobs(use: Use, scope: In) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return use.jobs.every(connection, scope)


@router.get("/batch-jobs/{job}", dependencies=[Depends(need("batch:read"))])
def show_batch_job(job: JobPath, use: Use) -> dict[str, Any]:
    with use.database.read() as connection:
        return view(use.jobs.row(connection, job))


@router.get("/batch-jobs/{job}/logs", dependencies=[Depends(need("batch:log"))])
def show_batch_job_logs(job: JobPath, use: Use, lines: Annotated[int, Query(ge=1, le=_LINES)] = 200) -> dict[str, str]:
    """The last lines of its log; once it has ended, those that were kept."""
    with use.database.read() as connection:
        row = use.jobs.row(connection, job)
        if row.device is not None:
            raise Conflict(
                "the log of a job on a device stays there", element=f"batch job {job}", remedy="batch show has the end"
            )
        line = use.targets.of(connection, row.target)
    if row.state not in ACTIVE:
        return {"job": standing_of(row).log}
    return line.ask(lambda it: _logs(it, job, lines))


@router.post("/batch-jobs/{job}/cancel", dependencies=[Depends(need("batch:write"))])
def cancel_batch_job(job: JobPath, use: Use, by: By) -> dict[str, Any]:
    """End it; what it has answered stays, and a job over the same places under its name goes on there."""
    with use.database.write() as connection:
        use.jobs.cancel(connection, use.clock(), job, by=by)
        return view(use.jobs.row(connection, job))


class NewBatch(Body):
    """A module, the devices that are meant (a selector, or their ids), and the two places that each of them names."""

    name: str = Field(max_length=63)
    selector: str | None = Field(default=None, max_length=2000)
    devices: list[str] | None = Field(default=None, min_length=1, max_length=AT_MOST)
    module: str = Field(max_length=300)
    inputs: str = Field(max_length=63)
    outputs: str = Field(max_length=63)
    settings: dict[str, Any] = Field(default_factory=dict, max_length=64)


@router.post("/batches", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(need("batch:write"))])
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


@router.get("/batches", dependencies=[Depends(need("batch:read"))])
def list_batches(use: Use, scope: In) -> list[dict[str, Any]]:
    with use.database.read() as connection:
        return batches.every(connection, scope)


@router.get("/batches/{batch}", dependencies=[Depends(need("batch:read"))])
def show_batch(batch: BatchPath, use: Use) -> dict[str, Any]:
    """How far it is on each device, and together."""
    with use.database.read() as connection:
        return batches.show(connection, batch)


@router.post("/batches/{batch}/cancel", dependencies=[Depends(need("batch:write"))])
def cancel_batch(batch: BatchPath, use: Use, by: By) -> dict[str, Any]:
    """End what of it has not ended; what was answered stays on the devices."""
    with use.database.write() as connection:
        batches.cancel(connection, use.clock(), batch, by=by)
        return batches.show(connection, batch)


def _logs(target: Target, job: Slug, lines: int) -> dict[str, str]:
    return target.job_logs(job, lines=lines) if isinstance(target, RunsJobs) else {}
