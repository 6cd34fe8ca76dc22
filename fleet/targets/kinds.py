"""The kinds of targets: what each needs to be told, and who speaks to it."""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from fleet.blobs import Blobs
from fleet.targets.container import host
from fleet.targets.container.engine import check_address
from fleet.targets.container.holder import Holder
from fleet.targets.contract import Target
from fleet.targets.kubernetes import attached as reached
from fleet.targets.kubernetes import cluster
from fleet.targets.kubernetes.content import Contents
from fleet.targets.settings import Settings, only_on_a_cluster
from modules.errors import Invalid

_VOLUME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,200}")


class Parts(msgspec.Struct, frozen=True):
    """What targets are made of: the fleet's mark on what they make, modules' bytes, and what a pod is told of one.

    ``holder`` is this very server's mark on container hosts.
    """

    fleet: str
    blobs: Blobs
    contents: Contents
    holder: Holder = msgspec.field(default_factory=Holder)


class Kind(NamedTuple):
    """``attached`` is the form of how one is reached, and the others take such a value.

    ``check`` and ``suits`` raise ``Invalid``: it cannot be reached so, or an endpoint cannot have these settings there.
    ``at`` says where it is, for people.
    """

    attached: type[Any]
    check: Callable[[Any], None]
    suits: Callable[[Any, Settings], None]
    at: Callable[[Any], str]
    make: Callable[[Any, Parts], Target]


def _check_container(attached: host.Attached) -> None:
    check_address(attached.docker)
    for place in filter(None, attached.batch_places.split(",")):
        _check_place(place)
    whole = attached.ca and attached.certificate and attached.key
    if attached.docker.startswith(("tcp://", "https://")) and not whole:
        raise Invalid(
            "an engine on TCP is reached by TLS alone: whoever reaches it is root there",
            element="docker",
            remedy="give ca, certificate and key, files of the fleet server in PEM; or use ssh://",
        )


def _check_place(place: str) -> None:
    """A folder or a volume as batch jobs may use it.

    Raises:
        Invalid: it is neither, or it holds what is the fleet's own.
    """
    folder = place.startswith("/") and place != "/" and ".." not in place.split("/")
    if not folder and not _VOLUME.fullmatch(place):
        raise Invalid(
            f"{place[:100]!r} is no folder and no volume of a host",
            element="batch_places",
            remedy="write /an/absolute/path or a volume's name, commas between",
        )
    if place.startswith("edgefleet."):
        raise Invalid("the volume is the fleet's own", element=place[:100], remedy="name another")


def _suits_container(_: host.Attached, settings: Settings) -> None:
    if names := only_on_a_cluster(settings):
        raise Invalid(
            "only a Kubernetes cluster does this, and the target is a container host",
            element=", ".join(names),
            remedy="leave it out, or choose another target",
        )


KINDS: Final = {
    "container": Kind(
        attached=host.Attached,
        check=_check_container,
        suits=_suits_container,
        at=lambda it: str(it.docker),
        make=lambda it, parts: host.ContainerHost(it, fleet=parts.fleet, blobs=parts.blobs, holder=parts.holder),
    ),
    "kubernetes": Kind(
        attached=reached.Attached,
        check=reached.check,
        suits=reached.suits,
        at=reached.at,
        make=lambda it, parts: cluster.Namespace(it, fleet=parts.fleet, contents=parts.contents),
    ),
}


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        Invalid: there is none.
    """
    if name not in KINDS:
        known = " or ".join(KINDS)
        raise Invalid(f"there is no kind of target {name[:40]!r}", element="kind", remedy=f"write {known}")
    return KINDS[name]


def read(kind: str, given: dict[str, Any]) -> Any:
    """How a target is reached, from JSON.

    Raises:
        Invalid: there is no such kind, or something is unknown, missing or not well formed.
    """
    found = kind_of(kind)
    try:
        attached = msgspec.convert({name: one for name, one in given.items() if name != "engine"}, found.attached)
    except msgspec.ValidationError as error:
        known = ", ".join(name for name in found.attached.__struct_fields__ if name != "engine")
        raise Invalid(str(error), element="attached", remedy=f"there are {known}") from error
    found.check(attached)
    return attached
