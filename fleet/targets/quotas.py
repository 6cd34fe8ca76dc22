"""What each team may have on a target: CPUs, memory and replicas, of its endpoints and batch jobs together."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from sqlalchemy import Connection, select, update

from fleet import events
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.target_tables import endpoints, jobs, targets
from fleet.targets import runtimes
from fleet.targets.attached import row
from fleet.targets.contract import Module
from fleet.targets.settings import BatchSettings, Settings, Wish
from modules.errors import Invalid
from modules.names import Digest, Slug


class Quota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one team may have; 0: as much as it likes."""

    cpu: Annotated[float, msgspec.Meta(ge=0, le=1 << 20)] = 0.0
    memory_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 0
    replicas: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0


class _Asked(msgspec.Struct, frozen=True):
    """Of what is stored of a batch job."""

    settings: BatchSettings = BatchSettings()


class Used(msgspec.Struct, frozen=True):
    """What is used, or asked for; the names are those of :class:`Quota`."""

    cpu: float = 0.0
    memory_mb: int = 0
    replicas: int = 0

    def __add__(self, other: "Used") -> "Used":
        return Used(self.cpu + other.cpu, self.memory_mb + other.memory_mb, self.replicas + other.replicas)


_WORDS: Final = {"cpu": "CPUs", "memory_mb": "MiB of memory", "replicas": "replicas"}


def read(given: Mapping[str, Any]) -> Quota:
    """A quota from JSON.

    Raises:
        Invalid: one is unknown or out of bounds.
    """
    try:
        return msgspec.convert(dict(given), Quota)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), element="quota", remedy=f"there are {', '.join(Quota.__struct_fields__)}") from error


def put(connection: Connection, now: float, target: Slug, quota: Quota, *, by: str) -> None:
    """Bound what each team may have there; what is there already stays.

    Raises:
        Missing: there is no such target.
    """
    row(connection, target)
    values = {"quota": msgspec.json.encode(quota).decode()}
    connection.execute(update(targets).where(targets.c.name == target).values(**values))
    told = ", ".join(f"{getattr(quota, name):g} {words}" for name, words in _WORDS.items() if getattr(quota, name))
    events.record(connection, now, "target-quota", f"the target {target}: each team may have {told or 'any'}", by=by)


def hold(connection: Connection, registry: Registry, target: str, team: str, name: str, asks: Used) -> None:
    """Whether a team may have so much for an endpoint or job of this name, beside all else that it has there.

    Raises:
        Conflict: it would be more than its quota, and more than the endpoint has now.
    """
    quota = msgspec.json.decode(row(connection, target).quota, type=Quota)
    if quota == Quota():
        return
    others, before = Used(), Used()
    on = (endpoints.c.target == target) & (endpoints.c.team == team)
    for one in connection.execute(select(endpoints.c.name, endpoints.c.wish).where(on)):
        has = of_wish(registry, msgspec.json.decode(one.wish, type=Wish))
        if one.name == name:
            before = has
        else:
            others += has
    on = (jobs.c.target == target) & (jobs.c.team == team) & (jobs.c.on_target == 1) & (jobs.c.name != name)
    for one in connection.execute(select(jobs.c.asked, jobs.c.digest).where(on)):
        others += of_job(registry, msgspec.json.decode(one.asked, type=_Asked).settings, one.digest)
    over = [
        f"{getattr(others, one):g} {words} used besides, {getattr(asks, one):g} asked for, {most:g} allowed"
        for one, words in _WORDS.items()
        if (most := getattr(quota, one))
        and getattr(others + asks, one) > most
        and getattr(asks, one) > getattr(before, one)
    ]
    if over:
        raise Conflict(
            f"it would be more than the team {team} may have on the target {target}: {'; '.join(over)}",
            element=name,
            remedy="ask for less, remove something, or have the quota raised: edgefleet targets set",
        )


def of_wish(registry: Registry, wish: Wish) -> Used:
    """What an endpoint may use, with as many replicas as it may scale to."""
    found = Used()
    for one in wish.versions.values():
        count = max(one.replicas, wish.settings.autoscale_max)
        memory = _memory_mb(registry, one.digest, wish.settings)
        found += Used(count * wish.settings.cpu_cores, count * memory, count)
    return found


def of_job(registry: Registry, settings: BatchSettings, digest: Digest) -> Used:
    """What a batch job may use; each of its pods is one replica, whatever its workers are."""
    memory = settings.memory_mb or settings.workers * _memory_mb(registry, digest, Settings())
    return Used(settings.pods * settings.cpu_cores, settings.pods * memory, settings.pods)


def _memory_mb(registry: Registry, digest: Digest, settings: Settings) -> int:
    if settings.memory_mb:
        return settings.memory_mb
    try:
        return runtimes.memory_mb(Module(digest, registry.manifest(digest)), settings)
    except Missing:
        return 0  # what is not here any more is not started either
