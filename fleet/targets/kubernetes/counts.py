"""What the gateways of an endpoint have counted, asked of each of their pods through the API server.

Each pod counts by itself, and begins anew with each start: ``fleet/rollouts/windows.py`` adds up what each one says.
A gateway's port is open to everybody by its network policy (``front.py``), so the API server comes in there as clients
do, with something that opens the counts alone (``modules/endpoint/looks.py``). A replica's is not, and stays shut.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from fleet.refusals import TargetTrouble
from fleet.targets.container.specs import GATEWAY_PORT
from fleet.targets.contract import Life, Standing
from fleet.targets.kubernetes.api import Api, ApiRefusal, Unanswered
from fleet.targets.kubernetes.names import shown
from fleet.targets.kubernetes.observed import Look, is_ready
from modules.canonical import UNREADABLE
from modules.counted import Counted
from modules.endpoint import looks

_OK: Final = 200
_FORBIDDEN: Final = 403
# What a gateway of before says: it knows no look, or no index.
_BEFORE: Final = frozenset({401, 404})
# The clocks of pods and of the fleet server need not agree.
_GOOD_S: Final = 600


class Heard(NamedTuple):
    """What each gateway's pod has counted of each way to a group; None: it serves, and did not say.

    ``lacks`` is why not all of them have said it; empty: they have.
    """

    by_pod: Mapping[str, Mapping[str, Counted] | None] = {}
    lacks: str = ""


class _Slot(msgspec.Struct, frozen=True):
    counts: dict[str, Counted] = {}


def ask(api: Api, found: Look, keys: Sequence[str], *, secure: bool) -> Heard:
    """Hear every gateway that clients may be sent to, and those that still answer what they owe.

    Args:
        api: the cluster's.
        found: what is there.
        keys: all that the gateways know.
        secure: whether they speak TLS.
    """
    by_pod: dict[str, Mapping[str, Counted] | None] = {}
    lacks, silent = "", False
    for pod in (one for one in found.every("gateway") if is_ready(one)):
        name, ending = shown(pod), "deletionTimestamp" in pod["metadata"]
        try:
            # One silence is waited for, not each: what the others say is no whole evidence either.
            counts = None if silent else _counts(api, name, keys, secure=secure)
        except TargetTrouble as error:
            silent, counts = silent or isinstance(error, Unanswered), None
            lacks = lacks or ("" if ending else f"what gateway {name} has counted is not known: {error.message}")
        if counts is not None or not ending:
            by_pod[name] = counts
    return Heard(by_pod, lacks if by_pod else "none of its gateways is ready, so nobody says what they have counted")


def noted(stands: Standing, heard: Heard, ways: Mapping[str, Sequence[str]]) -> Standing:
    """With what was heard of each version, of which these are the ways; a pod counts one from its first request on."""
    versions = {}
    for name, one in stands.versions.items():
        lives = {
            f"{pod}/{way}": Life(seen=None if counts is None else counts.get(way, Counted()))
            for way in ways[name]
            for pod, counts in heard.by_pod.items()
        }
        versions[name] = msgspec.structs.replace(one, lives={**one.lives, **lives})
    return msgspec.structs.replace(stands, versions=versions, uncounted=heard.lacks)


def _counts(api: Api, pod: str, keys: Sequence[str], *, secure: bool) -> dict[str, Counted]:
    """What one gateway has counted since it began.

    Raises:
        TargetTrouble: it cannot be asked, or says nothing that can be read.
    """
    show = {looks.HEADER: looks.make(keys, expires=int(time.time()) + _GOOD_S)}
    try:
        status, body = api.of_pod(pod, GATEWAY_PORT, looks.INDEX, secure=secure, headers=show)
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
        slots = msgspec.json.decode(body, type=list[_Slot])
    except UNREADABLE as error:
        raise TargetTrouble("it answers nonsense") from error
    return {way: counted for slot in slots for way, counted in slot.counts.items()}
