"""What the gateways of an endpoint have counted, asked of each of their pods through the API server.

Each pod counts by itself, and begins anew with each start: ``fleet/rollouts/windows.py`` adds up what each one says.
A gateway's port is open to everybody by its network policy (``front.py``), so the API server comes in there as clients
do, with something that opens the counts alone (``modules/endpoint/looks.py``). A replica's is not, and stays shut: what
each replica says of its answers and its memory one of the gateways is asked for, which may ask them.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from fleet.refusals import TargetTrouble
from fleet.targets.container.specs import GATEWAY_PORT
from fleet.targets.contract import Life, Standing
from fleet.targets.kubernetes.api import Api, ApiRefusal, Unanswered
from fleet.targets.kubernetes.names import Names, group_of, shown
from fleet.targets.kubernetes.observed import Look, is_ready, ways
from fleet.targets.kubernetes.replicas import Made
from modules.canonical import UNREADABLE
from modules.counted import Counted, OfReplica
from modules.endpoint import looks

_OK: Final = 200
_FORBIDDEN: Final = 403
# What a gateway of before says: it knows no look, or no index.
_BEFORE: Final = frozenset({401, 404})
# The clocks of pods and of the fleet server need not agree.
_GOOD_S: Final = 600


class Heard(NamedTuple):
    """What each gateway's pod has counted of each way to a group; None: it serves, and did not say.

    ``lacks`` is why not all of them have said it; empty: they have. ``each`` is what the replicas that serve as a
    version say of themselves, by the addresses of their pods.
    """

    by_pod: Mapping[str, Mapping[str, Counted] | None] = {}
    lacks: str = ""
    each: Mapping[str, Mapping[str, OfReplica]] = {}


class _Slot(msgspec.Struct, frozen=True):
    counts: dict[str, Counted] = {}
    each: dict[str, dict[str, OfReplica]] = {}


def ask(api: Api, found: Look, keys: Sequence[str], *, secure: bool) -> Heard:
    """Hear every gateway that clients may be sent to, and those that still answer what they owe.

    Args:
        api: the cluster's.
        found: what is there.
        keys: all that the gateways know.
        secure: whether they speak TLS.
    """
    by_pod: dict[str, Mapping[str, Counted] | None] = {}
    each: dict[str, Mapping[str, OfReplica]] = {}
    lacks, silent, asks = "", False, True
    for pod in (one for one in found.every("gateway") if is_ready(one)):
        name, ending = shown(pod), "deletionTimestamp" in pod["metadata"]
        try:
            # One silence is waited for, not each: what the others say is no whole evidence either.
            slots = () if silent else _index(api, name, keys, secure=secure, each=asks)
            counts = None if silent else {way: one for slot in slots for way, one in slot.counts.items()}
            # The first that answers has asked all replicas.
            asks = asks and silent
            each |= {version: said for slot in slots for version, said in slot.each.items()}
        except TargetTrouble as error:
            silent, counts = silent or isinstance(error, Unanswered), None
            lacks = lacks or ("" if ending else f"what gateway {name} has counted is not known: {error.message}")
        if counts is not None or not ending:
            by_pod[name] = counts
    lacks = lacks if by_pod else "none of its gateways is ready, so nobody says what they have counted"
    return Heard(by_pod, lacks, each)


def noted(stands: Standing, heard: Heard, names: Names, made: Sequence[Made], found: Look) -> Standing:
    """With what was heard of each version's group; a gateway counts one from its first request on."""
    versions = dict(stands.versions)
    for group in (one.group for one in made):
        one = versions[group.version]
        lives = {
            f"{pod}/{way}": Life(seen=None if counts is None else counts.get(way, Counted()))
            for way in ways(names, group.name)
            for pod, counts in heard.by_pod.items()
        }
        each = _by_pod(found, group.name, heard.each.get(group.version, {}))
        lives |= {
            pod: msgspec.structs.replace(one.lives.get(pod, Life()), answers=said.answers) for pod, said in each.items()
        }
        memory = max((said.memory_mb for said in each.values() if said.memory_mb is not None), default=None)
        versions[group.version] = msgspec.structs.replace(one, lives={**one.lives, **lives}, memory_mb=memory)
    return msgspec.structs.replace(stands, versions=versions, uncounted=heard.lacks)


def _by_pod(found: Look, group: str, each: Mapping[str, OfReplica]) -> dict[str, OfReplica]:
    """What the pods of a group say, by their names."""
    mine = (pod for pod in found.every("replica") if group_of(pod) == group)
    by_address = {str((pod.get("status") or {}).get("podIP", "")): shown(pod) for pod in mine}
    return {by_address[address]: said for address, said in each.items() if address in by_address}


def _index(api: Api, pod: str, keys: Sequence[str], *, secure: bool, each: bool) -> list[_Slot]:
    """What one gateway has counted since it began; with ``each`` what it hears of the replicas besides.

    Raises:
        TargetTrouble: it cannot be asked, or says nothing that can be read.
    """
    show = {looks.HEADER: looks.make(keys, expires=int(time.time()) + _GOOD_S)}
    try:
        query = {looks.EACH: "true"} if each else {}
        status, body = api.of_pod(pod, GATEWAY_PORT, looks.INDEX, secure=secure, headers=show, query=query)
    except ApiRefusal as error:
        if error.status != _FORBIDDEN:
            raise
        raise TargetTrouble("the right pods/proxy is missing; apply deploy/kubernetes/rbac.yaml there") from error
    except Unanswered as error:
        raise Unanswered("it does not answer through the API server in time") from error
    if status in _BEFORE:
        raise TargetTrouble(
            "its image is of before this version, or its keys are just being changed; attach the target with a gateway"
            " image of this version"
        )
    if status != _OK:
        raise TargetTrouble(f"it answers {status}")
    try:
        return msgspec.json.decode(body, type=list[_Slot])
    except UNREADABLE as error:
        raise TargetTrouble("it answers nonsense") from error
