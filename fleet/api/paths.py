"""Names in paths and bodies, checked once on the way in."""

from typing import Annotated

from fastapi import Depends

from fleet.refusals import Missing
from modules.names import DeviceId, Digest, Slug, device_id, digest, slot_name, slug


def _team(team: str) -> Slug:
    return slug(team, what="team")


def _model(name: str) -> Slug:
    return slug(name, what="model")


def _slot(slot: str) -> Slug:
    return slot_name(slot)


def _device(device: str) -> DeviceId:
    return device_id(device)


def _waiting(waiting: str) -> DeviceId:
    return device_id(waiting)


def _digest(name: str) -> Digest:
    return digest(name)


def _rollout(rollout: str) -> int:
    if not rollout.isascii() or not rollout.isdecimal() or len(rollout) > 18:  # noqa: PLR2004 - digits of 64 bits
        raise Missing("there is no such rollout", element=rollout[:40])
    return int(rollout)


def _join(join: str) -> int:
    if not join.isascii() or not join.isdecimal() or len(join) > 9:  # noqa: PLR2004 - digits of 32 bits
        raise Missing("there is no such join bundle", element=join[:40])
    return int(join)


TeamPath = Annotated[Slug, Depends(_team)]
ModelPath = Annotated[Slug, Depends(_model)]
SlotPath = Annotated[Slug, Depends(_slot)]
DevicePath = Annotated[DeviceId, Depends(_device)]
WaitingPath = Annotated[DeviceId, Depends(_waiting)]
DigestPath = Annotated[Digest, Depends(_digest)]
RolloutPath = Annotated[int, Depends(_rollout)]
JoinPath = Annotated[int, Depends(_join)]
