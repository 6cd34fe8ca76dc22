"""Whom a gateway is to ask, and what can go: pure functions of what was seen, for every kind of target.

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
    """A container of a group. ``name`` is of this one alone, and under it the gateway reaches it.

    Where the replicas of a group stand behind one address, ``host`` is that, and a name is a way to it; under ``each``
    they are found one by one.
    """

    name: str
    group: str
    number: int
    running: bool
    host: str = ""
    each: str = ""
    # The engine starts it again by itself, after a pause.
    restarting: bool = False
    restarts: int = 0
    why: str = ""
    # Somebody changed its limits by hand.
    changed: bool = False


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of an endpoint; ``filled`` are the groups that have what their replicas need.

    ``begun`` are those of which only something is there.
    """

    filled: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()
    replicas: tuple[SeenReplica, ...] = ()

    def of(self, group: Group) -> list[SeenReplica]:
        """The replicas that belong to a group as it is wanted."""
        return [one for one in self.replicas if one.group == group.name and one.number < group.count]


class Stop(NamedTuple):
    """End a replica, and take it away."""

    name: str


class Empty(NamedTuple):
    """Take a group's files away."""

    group: str


class Terms(NamedTuple):
    """What a route has beside its versions: its bounds, how long an answer may take, and each group's key.

    ``silent_s``: how long a replica may give no sign of life; 0: it is not asked for one.
    """

    bounds: Bounds
    answer_s: float
    keys: Mapping[str, str]
    silent_s: float = 0


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
    asked = _asked(before)
    there = {one.name: one for one in seen.replicas}

    found: list[Version] = []
    for group in groups:
        fit = [one for one in seen.of(group) if _fit(one, said, asked)]
        old = told.get(group.version)
        # What does not run right now may run again: it stays as long as it is there.
        kept = tuple(one for one in old.replicas if one.instance in there) if old else ()
        others = kept and all(there[one.instance].group != group.name for one in kept)
        if old is not None and others and len(fit) < group.count:
            # Whoever served goes on until all that is to take their place is ready.
            found.append(msgspec.structs.replace(old, weight=group.weight, replicas=kept))
        elif old is not None or len(fit) >= group.count or group is groups[0]:
            found.append(_version(group, fit, said, terms))
        # A new version waits with its share until it is ready.
    if not found[0].replicas:
        # Nobody stands in for the default yet: who served before, under another name, does.
        wanted = {group.version for group in groups}
        before_it = [
            msgspec.structs.replace(one, replicas=tuple(each for each in one.replicas if each.instance in there))
            for one in told.values()
            if one.name not in wanted
        ]
        if instead := [one for one in before_it if one.replicas]:
            found = [*instead, *(one for one in found if one.replicas)]
    return Route(versions=tuple(found), bounds=terms.bounds)


def _version(group: Group, fit: Sequence[SeenReplica], said: Said, terms: Terms) -> Version:
    return Version(
        name=group.version,
        weight=group.weight,
        replicas=tuple(
            Replica(
                url=f"http://{one.host or one.name}:{PORT}",
                module=group.module,
                provider=said.replicas[one.name].provider,
                instance=one.name,
                memory_mb=group.memory_mb,
                key=terms.keys[group.name],
                answer_s=terms.answer_s,
                silent_s=terms.silent_s,
            )
            for one in fit
        ),
        each=next((f"http://{one.each}:{PORT}" for one in fit if one.each), ""),
    )


def _asked(route: Route | None) -> set[str]:
    return {replica.instance for version in route.versions for replica in version.replicas} if route else set()


def in_use(said: Said) -> bool:
    """Whether the gateway has taken its newest table in."""
    return said.table is not None and said.generation == said.table.generation


def surplus(endpoint: Slug, groups: Sequence[Group], seen: Seen, said: Said) -> Iterator[Stop | Empty]:
    """What nobody wants any more.

    Nothing while the gateway has not taken its newest table in; and of other groups nothing while one that is wanted is
    not ready: what served before is all that could stand in, even where it does not run at this very moment.
    """
    if said.table is None or not in_use(said):
        return
    asked = _asked(said.table.slots.get(endpoint))
    whole = all(len([one for one in seen.of(group) if _fit(one, said, asked)]) >= group.count for group in groups)
    wanted = {one.name for group in groups for one in seen.of(group)}
    names = {group.name for group in groups}
    for one in seen.replicas:
        if one.name not in wanted | asked and (whole or one.group in names):
            yield Stop(one.name)
    # Files go after the last replica that has them, seen by another look.
    left = {one.group for one in seen.replicas} | names
    for group in sorted((seen.filled | seen.begun) - left):
        yield Empty(group)


#: where a replica listens, inside the network of its endpoint; as Azure ML's images do
PORT = 5001


def _fit(replica: SeenReplica, said: Said, asked: set[str]) -> bool:
    """Whether clients may be sent there: it is ready, or was, and has only no time to say so."""
    found = said.replicas.get(replica.name)
    return replica.running and found is not None and (found.ready or (replica.name in asked and not found.wrong))
