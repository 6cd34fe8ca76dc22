"""What a container host lacks: pure functions of what was seen. ``fleet/targets/groups.py`` decides the rest."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from fleet.targets import groups
from fleet.targets.groups import Empty, Group, Stop, in_use
from modules.protocol.endpoint import Said


class SeenPart(msgspec.Struct, frozen=True, kw_only=True):
    """A keeper's or a gateway's container, and what it was made of; ``port`` is the keeper's on the host."""

    name: str
    made: str
    running: bool
    # The engine starts it again by itself, after a pause.
    restarting: bool = False
    paused: bool = False
    port: int = 0
    why: str = ""
    # Somebody changed its limits by hand.
    changed: bool = False

    @property
    def dead(self) -> bool:
        return not (self.running or self.restarting or self.paused)


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the replicas, as it is wanted: what both are made of, and the port; 0: any."""

    keeper: str
    gateway: str
    port: int = 0


class Seen(groups.Seen, frozen=True, kw_only=True):
    """What is there of an endpoint; ``filled`` are the groups whose files and image are on the host.

    ``kept`` are those whose secrets lie in its memory.
    """

    kept: frozenset[str] = frozenset()
    network: bool = False
    keepers: tuple[SeenPart, ...] = ()
    gateways: tuple[SeenPart, ...] = ()

    def keeper(self, front: Front) -> SeenPart | None:
        """The one that holds the port that is wanted."""
        fit = (one for one in self.keepers if one.made == front.keeper and one.port and front.port in {0, one.port})
        return next(fit, None)

    def gateway(self, front: Front) -> SeenPart | None:
        """The gateway to speak to: the one that is wanted, and until it runs one of before."""
        there = sorted(self.gateways, key=lambda one: (not one.running, one.made != front.gateway))
        return there[0] if there else None


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
    """Have a container run that somebody stopped, paused, or took out of its network."""

    name: str


class PutBack(NamedTuple):
    """Give a container the limits again with which it was made."""

    name: str


class MakeKeeper(NamedTuple):
    pass


class MakeGateway(NamedTuple):
    pass


Step = MakeNetwork | Fill | Keep | MakeReplica | StartAgain | PutBack | MakeKeeper | MakeGateway | Stop | Empty

# So many gateways of before may still owe answers when another one is made.
_OWING: Final = 3


def lacking(wanted: Sequence[Group], front: Front, seen: Seen, secretive: Collection[str] = ()) -> Iterator[Step]:
    """What has to be made, in an order in which it can be.

    Args:
        wanted: groups.
        front: as it is wanted.
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
            elif there[number].changed:
                yield PutBack(there[number].name)
    yield from _front_lacking(front, seen)


def _front_lacking(front: Front, seen: Seen) -> Iterator[Step]:
    keeper = seen.keeper(front)
    if keeper is None or keeper.dead:
        yield MakeKeeper()
    mine = [one for one in seen.gateways if one.made == front.gateway]
    for paused in (one for one in (keeper, *mine) if one is not None and one.paused):
        yield StartAgain(paused.name)
    for one in (one for one in (keeper, *mine) if one is not None and one.running and one.changed):
        yield PutBack(one.name)
    if (mine and all(one.dead for one in mine)) or (not mine and len(seen.gateways) <= _OWING):
        yield MakeGateway()


def retired(front: Front, seen: Seen, said: Said) -> list[str]:
    """What stood before the replicas before, once what is wanted serves there, by the newest table."""
    keeper, gateway = seen.keeper(front), seen.gateway(front)
    if keeper is None or not keeper.running or gateway is None or gateway.made != front.gateway or not in_use(said):
        return []
    others = [one.name for one in seen.gateways if one.made != front.gateway]
    return others + [one.name for one in seen.keepers if one.name != keeper.name]
