"""What a container host lacks, whom the gateway is to ask, and what can go: pure functions of what was seen.

A *group* is the replicas of one version that were made alike. Changing the module or a limit makes a new group beside
the old one; the gateway goes over to it once all of it is ready, in one step, and the old one ends, with the
answers that it still owes, once the gateway has taken that in. So no update costs a request.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from modules.names import Slug
from modules.protocol.endpoint import Said
from modules.protocol.routing import Bounds, Replica, Route, Version


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Replicas of a version, all alike; ``name`` says by a hash of what they are made of."""

    name: str
    version: Slug
    module: str
    count: int
    weight: int
    memory_mb: int


class SeenReplica(msgspec.Struct, frozen=True, kw_only=True):
    """A container of a group. ``name`` is of this container alone, and under it the gateway reaches it."""

    name: str
    group: str
    number: int
    running: bool
    restarts: int = 0
    why: str = ""


class SeenGateway(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's container, what it was made of, and the port of the host at which it listens."""

    made: str
    running: bool
    port: int = 0
    why: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of an endpoint; ``filled`` are the groups whose files and image are on the host."""

    network: bool = False
    filled: frozenset[str] = frozenset()
    replicas: tuple[SeenReplica, ...] = ()
    gateway: SeenGateway | None = None

    def of(self, group: Group) -> list[SeenReplica]:
        """The containers that belong to a group as it is wanted."""
        return [one for one in self.replicas if one.group == group.name and one.number < group.count]


class MakeNetwork(NamedTuple):
    pass


class Fill(NamedTuple):
    """Bring a group's image and files to the host."""

    group: Group


class MakeReplica(NamedTuple):
    group: Group
    number: int


class StartAgain(NamedTuple):
    """Start a container that somebody stopped."""

    name: str


class MakeGateway(NamedTuple):
    pass


class Stop(NamedTuple):
    """End a replica, and take its container away."""

    name: str


class Empty(NamedTuple):
    """Take a group's files away."""

    group: str


Step = MakeNetwork | Fill | MakeReplica | StartAgain | MakeGateway | Stop | Empty


def lacking(groups: Sequence[Group], gateway: SeenGateway, seen: Seen) -> Iterator[Step]:
    """What has to be made, in an order in which it can be.

    Args:
        groups: that are wanted.
        gateway: as it is wanted; port 0: any.
        seen: what is there.
    """
    if not seen.network:
        yield MakeNetwork()
    for group in groups:
        if group.name not in seen.filled:
            yield Fill(group)
        there = {one.number: one for one in seen.of(group)}
        for number in range(group.count):
            if number not in there:
                yield MakeReplica(group, number)
            elif not there[number].running and not there[number].restarts:
                yield StartAgain(there[number].name)
    found = seen.gateway
    if found is None or found.made != gateway.made or not found.running or gateway.port not in {0, found.port}:
        yield MakeGateway()


class Terms(NamedTuple):
    """What a route has beside its versions: its bounds, how long an answer may take, and each group's key."""

    bounds: Bounds
    answer_s: float
    keys: Mapping[str, str]


def route(endpoint: Slug, groups: Sequence[Group], seen: Seen, said: Said, terms: Terms) -> Route:
    """Whom the gateway is to ask from now on.

    Args:
        endpoint: whose route it is in the gateway's table.
        groups: that are wanted, the default version's first.
        seen: what is there.
        said: what the gateway says of it, and the table that it has.
        terms: what else the route says.
    """
    before = said.table.slots.get(endpoint) if said.table else None
    told = {one.name: one for one in before.versions} if before else {}
    asked = {replica.instance for version in told.values() for replica in version.replicas}
    running = {one.name: one for one in seen.replicas if one.running}
    fit = {group.name: [one for one in seen.of(group) if one.running and _fit(one, said, asked)] for group in groups}
    served = {running[name].group for name in asked if name in running}

    def version(group: Group, weight: int) -> Version:
        return Version(
            name=group.version,
            weight=weight,
            replicas=tuple(
                Replica(
                    url=f"http://{one.name}:{PORT}",
                    module=group.module,
                    provider=said.replicas[one.name].provider if one.name in said.replicas else "",
                    instance=one.name,
                    memory_mb=group.memory_mb,
                    key=terms.keys[group.name],
                    answer_s=terms.answer_s,
                )
                for one in fit[group.name]
            ),
        )

    if not served or all(len(fit[one.name]) >= (1 if one.name in served else one.count) for one in groups):
        return Route(versions=tuple(version(one, one.weight) for one in groups), bounds=terms.bounds)
    # Something is not ready yet: whoever served goes on, as far as it still runs.
    wanted = {one.version: one for one in groups}
    kept = []
    for name, old in told.items():
        alive = tuple(one for one in old.replicas if one.instance in running)
        now = wanted.get(Slug(name))
        if now is not None and (not alive or now.name in {running[one.instance].group for one in alive}):
            kept.append(version(now, old.weight))
        else:
            kept.append(msgspec.structs.replace(old, replicas=alive))
    return Route(versions=tuple(kept), bounds=terms.bounds)


def surplus(endpoint: Slug, groups: Sequence[Group], seen: Seen, said: Said) -> Iterator[Step]:
    """What nobody wants any more. Nothing while the gateway has not taken its newest table in."""
    if said.table is None or said.generation != said.table.generation:
        return
    in_use = said.table.slots.get(endpoint, Route())
    asked = {replica.instance for version in in_use.versions for replica in version.replicas}
    wanted = {one.name for group in groups for one in seen.of(group)}
    for one in seen.replicas:
        if one.name not in wanted | asked:
            yield Stop(one.name)
    # Files go after the last replica that has them, seen by another look.
    left = {one.group for one in seen.replicas} | {one.name for one in groups}
    for group in sorted(seen.filled - left):
        yield Empty(group)


#: where a replica listens, inside the network of its endpoint; as Azure ML's images do
PORT = 5001


def _fit(replica: SeenReplica, said: Said, asked: set[str]) -> bool:
    """Whether clients may be sent there: it is ready, or was, and has only no time to say so."""
    found = said.replicas.get(replica.name)
    return found is not None and (found.ready or (replica.name in asked and not found.wrong))
