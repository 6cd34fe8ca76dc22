"""Why a pod is not ready, in one sentence: pure, of what the cluster says of it, its events and its last log lines."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fleet.targets.kubernetes.pods import BATCH, INIT, REPLICA
from modules.protocol.content import TRIED_AGAIN
from modules.words import printable

# So often has a container ended when we say that it fails, and not that it is starting.
ENDS: Final = 3
_WORDS: Final = 700
_LINES: Final = 400
_IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
     "RegistryUnavailable"}
)  # fmt: skip
_MADE: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
# After one of these a pod goes on: what warned before it is over.
_GOES_ON: Final = frozenset({"Pulled", "Created", "Started"})
# It names what another event of the same moment tells.
_MERE_NAME: Final = re.compile(r"Error: [A-Za-z]+")
_STAMP: Final = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9:]+) ", re.MULTILINE)
_CALLED: Final = {INIT: "its init program", REPLICA: "its scoring server", BATCH: "its batch run"}

#: gives the last lines of a container, of its run before this one where it has ended
Tail = Callable[[str, bool], str]


class Trouble(NamedTuple):
    """What keeps a pod from being ready, in words; ``lasting``: time alone will not mend it."""

    why: str
    lasting: bool


def of_pod(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], tail: Tail) -> Trouble | None:
    """Why a pod is not ready; None: nothing is known but that it is starting."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return None
    if status.get("phase") == "Failed" and status.get("reason"):
        return Trouble(f"a pod was ended by its node ({status['reason']}): {_said(status)}", lasting=False)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            words = _said(condition) or str(condition.get("reason", ""))
            return Trouble(f"no node can take a pod: {words}", lasting=condition.get("reason") == "Unschedulable")
    spec = {one["name"]: one for one in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])}
    for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if found := _of_container(one, spec.get(one["name"], {}), events, tail):
            return found
    for event in reversed(events):
        if event.get("reason") in _GOES_ON:
            return None
        said = event.get("type") == "Warning" and event.get("reason") != "Unhealthy"
        if said and not _MERE_NAME.fullmatch(_said(event)):
            return Trouble(f"a pod waits: {_said(event)}", lasting=False)
    return None


def _of_container(
    one: Mapping[str, Any], spec: Mapping[str, Any], events: Sequence[Mapping[str, Any]], tail: Tail
) -> Trouble | None:
    name = str(one["name"])
    called = _CALLED.get(name, f"its {name}")
    state, before = one.get("state") or {}, (one.get("lastState") or {}).get("terminated")
    waiting, ended = state.get("waiting"), state.get("terminated")
    restarts = int(one.get("restartCount", 0))
    if waiting and waiting.get("reason") in _IMAGE:
        # The node says why in an event, and later only that it waits before it tries again.
        told = [event for event in events if event.get("reason") == "Failed" and "pull" in str(event.get("message"))]
        words = (_said(told[-1]) if told else "") or _said(waiting) or str(waiting["reason"])
        return Trouble(f"the image {one.get('image') or spec.get('image', '')} cannot be pulled: {words}", lasting=True)
    if waiting and waiting.get("reason") in _MADE:
        return Trouble(f"{called} cannot be started: {_said(waiting) or waiting['reason']}", lasting=True)
    ended = ended if ended and ended.get("exitCode") else None
    if last := ended or (before if before and not one.get("ready") else None):
        return _of_end(called, last, spec, restarts, lambda: _last(tail, name, previous=ended is None))
    if state.get("running") and name == INIT:
        written = _lines(tail, name, previous=False)
        if written and written[-1].startswith(TRIED_AGAIN):
            return Trouble(f"a pod has not got its module yet: {printable(written[-1], _WORDS)}", lasting=False)
    elif state.get("running") and not one.get("ready"):
        unhealthy = [event for event in events if event.get("reason") == "Unhealthy"]
        if unhealthy:
            lines = _last(tail, name, previous=False)
            said = f"{_said(unhealthy[-1])}; its log ends: {lines}" if lines else _said(unhealthy[-1])
            return Trouble(f"{called} does not answer as it should: {said}", lasting=False)
    return None


def _of_end(
    called: str, last: Mapping[str, Any], spec: Mapping[str, Any], restarts: int, lines: Callable[[], str]
) -> Trouble:
    if last.get("reason") == "OOMKilled":
        limit = ((spec.get("resources") or {}).get("limits") or {}).get("memory", "its limit")
        return Trouble(f"{called} was ended by the kernel for using more than {limit} of memory", lasting=True)
    if called == _CALLED[INIT]:
        # It says why in one line, which the cluster keeps with its end.
        words = _said(last) or lines() or "it wrote no log"
        # 1: it will never take this module (modules/protocol/content.py); others may be a server that is away.
        return Trouble(f"a pod did not get its module: {words}", lasting=last.get("exitCode") == 1 or restarts >= ENDS)
    words = lines() or _said(last) or "it wrote no log"
    told = f"{called} ended (exit code {last.get('exitCode')}): {words}"
    return Trouble(told, lasting=restarts >= ENDS)


def of_deployment(deployment: Mapping[str, Any]) -> Trouble | None:
    """Why it makes no pods: a quota, a policy of the cluster."""
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return Trouble(f"the cluster takes no more pods: {_said(condition)}", lasting=True)
    return None


def of_autoscaler(autoscaler: Mapping[str, Any]) -> str:
    """Why the number of replicas stays as it is; empty where it does not."""
    for condition in (autoscaler.get("status") or {}).get("conditions") or ():
        if condition.get("type") in {"ScalingActive", "AbleToScale"} and condition.get("status") == "False":
            return f"it is not scaled by its load: {_said(condition)}"
    return ""


def not_signed(pod: Mapping[str, Any], signed: Sequence[str], container: str = REPLICA) -> str:
    """The image that a container really runs, where it is none of these digests; empty where it is, or is not known."""
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        digest = str(one.get("imageID", "")).rpartition("sha256:")[2]
        if one["name"] == container and digest and f"sha256:{digest}" not in signed:
            return f"sha256:{digest}"
    return ""


def without_times(log: str) -> str:
    """A log without the cluster's times."""
    return _STAMP.sub("", log)


def _last(tail: Tail, name: str, *, previous: bool) -> str:
    """The end of a log as one line."""
    return " / ".join(_lines(tail, name, previous=previous))[-_LINES:]


def _lines(tail: Tail, name: str, *, previous: bool) -> list[str]:
    """The last lines of a log, without the cluster's times."""
    return [one.strip() for one in without_times(tail(name, previous)).splitlines() if one.strip()]


def _said(one: Mapping[str, Any]) -> str:
    return printable(" ".join(str(one.get("message") or "").split()), _WORDS)
