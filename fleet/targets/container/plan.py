"""What a container host lacks: pure functions of what was seen. ``fleet/targets/groups.py`` decides the rest."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import msgspec

from fleet.targets import groups
from fleet.targets.groups import Empty, Group, Stop


class SeenGateway(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's container, what it was made of, and the port of the host at which it listens."""

    made: str
    running: bool
    port: int = 0
    why: str = ""


class Seen(groups.Seen, frozen=True, kw_only=True):
    """What is there of an endpoint; ``filled`` are the groups whose files and image are on the host.

    ``kept`` are those whose secrets lie in its memory.
    """

    kept: frozenset[str] = frozenset()
    network: bool = False
    gateway: SeenGateway | None = None


class MakeNetwork(NamedTuple):
    pass


class Fill(NamedTuple):
    """Bring a group's image and files to the host."""

    group: Group


class Keep(NamedTuple):
    """Bring a group's secrets into the host's memory."""

    group: Group


class MakeReplica(NamedTuple):
    group: Group
    number: int


class StartAgain(NamedTuple):
    """Start a container that somebody stopped."""

    name: str


class MakeGateway(NamedTuple):
    pass


Step = MakeNetwork | Fill | Keep | MakeReplica | StartAgain | MakeGateway | Stop | Empty


def lacking(
    wanted: Sequence[Group], gateway: SeenGateway, seen: Seen, secretive: Collection[str] = ()
) -> Iterator[Step]:
    """What has to be made, in an order in which it can be.

    Args:
        wanted: groups.
        gateway: as it is wanted; port 0: any.
        seen: what is there.
        secretive: the groups that have secrets.
    """
    if not seen.network:
        yield MakeNetwork()
    for group in wanted:
        if group.name not in seen.filled:
            yield Fill(group)
        if group.name in secretive and group.name not in seen.kept:
            yield Keep(group)
        there = {one.number: one for one in seen.of(group)}
        for number in range(group.count):
            if number not in there:
                yield MakeReplica(group, number)
            elif not there[number].running and not there[number].restarting:
                yield StartAgain(there[number].name)
    found = seen.gateway
    if found is None or found.made != gateway.made or not found.running or gateway.port not in {0, found.port}:
        yield MakeGateway()
