"""Which targets are attached: rows, and the objects that speak to them."""

import threading
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from fleet import events
from fleet.blobs import Blobs
from fleet.refusals import Conflict, Missing
from fleet.target_tables import endpoints, targets
from fleet.targets.container.engine import check_address
from fleet.targets.container.host import Attached, ContainerHost
from fleet.targets.contract import Target
from modules.errors import Invalid
from modules.names import Slug

CONTAINER: Final = "container"


class Targets:
    """The targets of a fleet; each is spoken to over one connection, which is kept.

    Args:
        fleet: the fleet's mark on what it makes.
        blobs: of modules and images.
    """

    def __init__(self, *, fleet: str, blobs: Blobs) -> None:
        self._fleet, self._blobs = fleet, blobs
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, Target]] = {}

    def of(self, connection: Connection, name: str) -> Target:
        """The target of this name.

        Raises:
            Missing: there is none.
        """
        attached = row(connection, name).attached
        with self._lock:
            known = self._known.get(name)
            if known is not None and known[0] == attached:
                return known[1]
            target = self.made(msgspec.json.decode(attached, type=Attached))
            self._known[name] = (attached, target)
        if known is not None:
            known[1].close()
        return target

    def made(self, attached: Attached) -> Target:
        """A target that nobody knows yet, to be tried."""
        return ContainerHost(attached, fleet=self._fleet, blobs=self._blobs)

    def close(self) -> None:
        with self._lock:
            for _, target in self._known.values():
                target.close()
            self._known.clear()


def read(kind: str, given: dict[str, Any]) -> Attached:
    """How a target is reached, from JSON.

    Raises:
        Invalid: there is no such kind, or something is unknown, missing or not well formed.
    """
    if kind != CONTAINER:
        raise Invalid(f"there is no kind of target {kind[:40]!r}", element="kind", remedy=f"write {CONTAINER}")
    try:
        attached = msgspec.convert(given, Attached)
    except msgspec.ValidationError as error:
        known = ", ".join(Attached.__struct_fields__)
        raise Invalid(str(error), element="attached", remedy=f"there are {known}") from error
    check_address(attached.docker)
    whole = attached.ca and attached.certificate and attached.key
    if attached.docker.startswith(("tcp://", "https://")) and not whole:
        raise Invalid(
            "an engine on TCP is reached by TLS alone: whoever reaches it is root there",
            element="docker",
            remedy="give ca, certificate and key, files of the fleet server in PEM; or use ssh://",
        )
    return attached


def attach(connection: Connection, now: float, name: Slug, kind: str, attached: Attached, *, by: str) -> None:
    """Take a target into use, or change how it is reached."""
    values = {"kind": kind, "attached": msgspec.json.encode(attached).decode(), "trouble": ""}
    done = connection.execute(update(targets).where(targets.c.name == name).values(**values))
    if not done.rowcount:
        connection.execute(insert(targets).values(name=name, created=now, by=by, **values))
    events.record(connection, now, "target-attached", f"the target {name} is attached: {attached.docker}", by=by)


def detach(connection: Connection, now: float, name: str, *, by: str) -> None:
    """Let a target go.

    Raises:
        Missing: there is none.
        Conflict: endpoints live there.
    """
    row(connection, name)
    left = connection.scalars(select(endpoints.c.name).where(endpoints.c.target == name).limit(5)).all()
    if left:
        raise Conflict(f"endpoints live there: {', '.join(left)}", element=f"target {name}", remedy="remove them first")
    connection.execute(delete(targets).where(targets.c.name == name))
    events.record(connection, now, "target-detached", f"the target {name} is detached", by=by)


def every(connection: Connection) -> list[dict[str, Any]]:
    """All targets as the API shows them."""
    rows = connection.execute(select(endpoints.c.target, func.count()).group_by(endpoints.c.target))
    counted: dict[str, int] = {target: count for target, count in rows}  # noqa: C416 - for mypy
    found = connection.execute(select(targets).order_by(targets.c.name)).all()
    return [view(one, counted.get(one.name, 0)) for one in found]


def row(connection: Connection, name: str) -> Any:
    """A target's row.

    Raises:
        Missing: there is none.
    """
    found = connection.execute(select(targets).where(targets.c.name == name)).one_or_none()
    if found is None:
        raise Missing("there is no such target", element=name[:63], remedy="see: edgefleet targets list")
    return found


def view(one: Any, count: int) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "attached": msgspec.json.decode(one.attached),
        "trouble": one.trouble,
        "endpoints": count,
        "created": one.created,
        "by": one.by,
    }
