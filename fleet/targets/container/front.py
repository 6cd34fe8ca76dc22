"""What stands before the replicas on a container host: the keeper of the port, and a gateway that has it from there."""

import hashlib
from typing import Any, Final

import docker

from fleet.targets import door
from fleet.targets.container import content, limits, specs
from fleet.targets.container.endings import clear, end
from fleet.targets.container.engine import HOST
from fleet.targets.container.plan import Front, Seen
from fleet.targets.container.specs import DOOR, GATEWAY_PORT, Names
from fleet.targets.contract import Wanted
from modules.errors import NotReady

_HASH: Final = 8


def made(wanted: Wanted, *, image: str, bind: str) -> Front:
    """As it is wanted; ``image`` is the id of the gateway's image, ``bind`` the host's address."""

    def mark(*parts: object) -> str:
        return hashlib.sha256(repr((*parts, specs.REVISION)).encode()).hexdigest()[:_HASH]

    return Front(
        keeper=mark(bind),
        gateway=mark(image, bool(wanted.settings.certificate)),
        port=wanted.settings.port or wanted.port,
    )


def make_keeper(api: docker.APIClient, names: Names, front: Front, seen: Seen, *, image: str, bind: str) -> None:
    """Hold the port. What holds another one goes on until this is there; what holds the same one ends before."""
    for one in seen.keepers:
        if one.port in {0, front.port}:
            end(api, one.name)

    def started(port: int) -> str:
        body = specs.keeper(names, image=image, made=front.keeper, bind=bind, port=port)
        return _started(api, names, names.keeper(port), body)

    port = front.port
    if not port:
        # A port that the host has free: the engine gives one, and would give another after each restart.
        free = started(0)
        bound = api.inspect_container(free)["NetworkSettings"]["Ports"].get(f"{GATEWAY_PORT}/tcp")
        end(api, free, within_s=0)
        if not bound:
            raise NotReady("what is to hold its port ended at once", element=HOST)
        port = int(bound[0]["HostPort"])
    started(port)


def make_gateway(api: docker.APIClient, names: Names, front: Front, wanted: Wanted, seen: Seen, *, image: str) -> None:
    """A gateway beside those of before; one of its kind that ended goes, under whatever name somebody gave it."""
    for one in seen.gateways:
        if one.made == front.gateway and one.dead:
            end(api, one.name)
    body = specs.gateway(names, image=image, made=front.gateway, tls=bool(wanted.settings.certificate))
    # It does not start without its keys.
    _started(api, names, names.gateway(front.gateway), body, content.packed(door.access(wanted), folder=""))


def _started(api: docker.APIClient, names: Names, name: str, body: dict[str, Any], files: bytes = b"") -> str:
    """A container of this name, made anew."""
    clear(api, name, names.labels)
    created = str(api.create_container_from_config(limits.labelled(body), name=name)["Id"])
    if files:
        api.put_archive(created, DOOR, files)
    api.start(created)
    return created
