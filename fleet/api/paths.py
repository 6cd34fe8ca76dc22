"""Names in paths and bodies, checked once on the way in.

Whatever needs no database is a coroutine: the framework takes a thread for each other dependency of a request, and a
busy server comes to each late.
"""

from typing import Annotated, Final

from fastapi import Depends

from fleet.refusals import Missing
from modules.names import DeviceId, Digest, Slug, device_id, digest, slot_name, slug

#: as large as the number of a rollout or of a join bundle may be: PostgreSQL has 32 bits for it
MAX_ROW: Final = 10**9 - 1


async def _team(team: str) -> Slug:
    return slug(team, what="team")


async def _model(name: str) -> Slug:
    return slug(name, what="model")


async def _slot(slot: str) -> Slug:
    return slot_name(slot)


async def _device(device: str) -> DeviceId:
    return device_id(device)


async def _waiting(waiting: str) -> DeviceId:
    return device_id(waiting)


async def _target(target: str) -> Slug:
    return slug(target, what="target")


async def _endpoint(endpoint: str) -> Slug:
    return slot_name(endpoint)


async def _job(job: str) -> Slug:
    return slot_name(job)


async def _batch(batch: str) -> Slug:
    return slot_name(batch)


async def _digest(name: str) -> Digest:
    return digest(name)


async def _module(module: str) -> Digest:
    return digest(module)


async def _rollout(rollout: str) -> int:
    return _row(rollout, "rollout")


async def _join(join: str) -> int:
    return _row(join, "join bundle")


def _row(text: str, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(MAX_ROW)):
        raise Missing(f"there is no such {what}", element=text[:40])
    return int(text)


TeamPath = Annotated[Slug, Depends(_team)]
ModelPath = Annotated[Slug, Depends(_model)]
SlotPath = Annotated[Slug, Depends(_slot)]
DevicePath = Annotated[DeviceId, Depends(_device)]
WaitingPath = Annotated[DeviceId, Depends(_waiting)]
DigestPath = Annotated[Digest, Depends(_digest)]
TargetPath = Annotated[Slug, Depends(_target)]
EndpointPath = Annotated[Slug, Depends(_endpoint)]
ModulePath = Annotated[Digest, Depends(_module)]
JobPath = Annotated[Slug, Depends(_job)]
BatchPath = Annotated[Slug, Depends(_batch)]
RolloutPath = Annotated[int, Depends(_rollout)]
JoinPath = Annotated[int, Depends(_join)]
