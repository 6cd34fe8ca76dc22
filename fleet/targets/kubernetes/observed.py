"""What a namespace has of an endpoint, found by label, and how that is told to people."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from fleet.targets.contract import Life, Standing, State, VersionStands, Wanted
from fleet.targets.groups import Seen, SeenReplica
from fleet.targets.kubernetes import front, why
from fleet.targets.kubernetes.api import Api
from fleet.targets.kubernetes.names import TABLE_OF, Names, group_of, part_of, shown
from fleet.targets.kubernetes.replicas import WAYS, Made, named, ready
from modules.images import image_ids
from modules.protocol.endpoint import TABLE, Found, Said
from modules.protocol.routing import Table
from modules.words import printable

_TAIL: Final = 12
_MOST: Final = 64 << 10
_ASKED_PODS: Final = 3
_OVER: Final = frozenset({"Failed", "Succeeded"})


class Look(NamedTuple):
    """What is there, by kind and name; the pods, those that are ending too."""

    by_kind: Mapping[str, dict[str, dict[str, Any]]]
    pods: Sequence[dict[str, Any]]

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        return self.by_kind[kind].get(name)

    def note(self, kind: str, made: dict[str, Any]) -> None:
        """An object was made or changed meanwhile."""
        self.by_kind[kind][shown(made)] = made

    def every(self, part: str) -> list[dict[str, Any]]:
        """The pods of a part that have not ended."""
        over = (one for one in self.pods if (one.get("status") or {}).get("phase") not in _OVER)
        return [one for one in over if part_of(one) == part]


def look(api: Api, names: Names) -> Look:
    """What is there of an endpoint now."""
    # Pods before what makes them: one that is made in between is not yet there for us, and so is not ready either.
    pods = api.listed("Pod", labels=names.selector)
    return Look({kind: named(api.listed(kind, labels=names.selector)) for kind in api.kinds}, pods)


def seen(names: Names, found: Look) -> Seen:
    """The same as the rules of groups take it: a group's address is a replica, as often as it stands in the table."""
    groups = {group_of(one) for one in found.by_kind["Deployment"].values()} - {""}
    others = {group_of(one) for listed in found.by_kind.values() for one in listed.values()} - {""}
    return Seen(
        begun=frozenset(others),
        replicas=tuple(
            SeenReplica(
                name=way(names, group, at),
                group=group,
                number=at,
                running=True,
                host=names.group(group),
                each=names.each(group),
            )
            for group in sorted(groups)
            for at in range(WAYS)
        ),
    )


def way(names: Names, group: str, number: int) -> str:
    """A way to a group, by its name in the gateway's table."""
    return f"{names.group(group)}.{number}"


def ways(names: Names, group: str) -> list[str]:
    """All of them."""
    return [way(names, group, at) for at in range(WAYS)]


def said(names: Names, made: Sequence[Made], found: Look) -> Said:
    """How the gateway and the groups stand: which table is in use by every gateway, and which groups are ready."""
    table = in_force(names, found)
    replicas: dict[str, Found] = {}
    for one in made:
        deployment = found.find("Deployment", names.group(one.group.name))
        if deployment is None:
            continue
        wrong = bool(foreign(one, found))
        state = Found(
            ready=ready(deployment, one.least) and not wrong,
            # A pod is ready only with the first of them in use: its proof holds it to that.
            provider=next(iter(one.runtime.providers), ""),
            wrong=wrong,
        )
        replicas |= dict.fromkeys(ways(names, one.group.name), state)
    rolled = table is not None and rolled_out(names, found)
    return Said(generation=table.generation if table and rolled else None, table=table, replicas=replicas)


def foreign(one: Made, found: Look) -> str:
    """The image that a group's pods run, where it is not the one that was signed."""
    assert one.runtime.image is not None  # noqa: S101 - for mypy: none is chosen without
    signed = image_ids(one.runtime.image)
    mine = (pod for pod in found.every("replica") if group_of(pod) == one.group.name)
    return next((image for pod in mine if (image := why.not_signed(pod, signed))), "")


def secret_of_gateway(names: Names, found: Look) -> str:
    """The name of the Secret that the gateway is to use; empty: there is no gateway."""
    deployment = found.find("Deployment", names.gateway)
    if deployment is None:
        return ""
    notes = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    return str(notes.get(TABLE_OF, ""))


def in_force(names: Names, found: Look) -> Table | None:
    """The table that the gateway is to use; None: it has none, or one that cannot be read, and is given a new one."""
    secret = found.find("Secret", secret_of_gateway(names, found))
    try:
        return None if secret is None else msgspec.json.decode(front.data(secret).get(TABLE, b""), type=Table)
    except (ValueError, RecursionError):
        return None


def rolled_out(names: Names, found: Look) -> bool:
    """Whether every gateway that still answers anybody has the newest Secret."""
    deployment = found.find("Deployment", names.gateway)
    if deployment is None or not ready(deployment, front.GATEWAYS):
        return False
    wanted = secret_of_gateway(names, found)
    running = found.every("gateway")
    return bool(running) and all((one["metadata"].get("annotations") or {}).get(TABLE_OF) == wanted for one in running)


def standing(
    wanted: Wanted, names: Names, made: Sequence[Made], found: Look, troubles: Sequence[str], api: Api, *, url: str
) -> Standing:
    """How an endpoint stands, in words that a person reads once."""
    heard = said(names, made, found)
    in_use = heard.table is not None and heard.generation == heard.table.generation
    route = heard.table.slots.get(wanted.name) if heard.table is not None else None
    asked = {one.instance for version in route.versions for one in version.replicas} if route else set()
    versions, notes = {}, list[str]()
    reasons, failing, whole = list(troubles), bool(troubles), True
    for one in made:
        name = names.group(one.group.name)
        state = heard.replicas.get(way(names, one.group.name, 0), Found(ready=False))
        lives = _lives(found, one.group.name) if wanted.measured else {}
        version = _version(one, found.find("Deployment", name), state, asked, names)
        versions[str(one.group.version)] = msgspec.structs.replace(version, lives=lives, wrong=_wrong(one, found))
        if not state.ready:
            whole = False
            troubled = _of_group(one, name, found, api)
            failing = failing or any(each.lasting for each in troubled)
            reasons += [f"version {one.group.version}: {each.why}" for each in troubled]
        if (scaler := found.find("HorizontalPodAutoscaler", name)) and (words := why.of_autoscaler(scaler)):
            notes.append(f"version {one.group.version}: {words}")
    if not in_use:
        before = _of_gateway(names, found, api)
        failing = failing or any(each.lasting for each in before)
        reasons += [f"its gateway: {each.why}" for each in before]
    done = in_use and whole and all(one.ready for one in versions.values()) and not reasons and bool(url)
    state_now: State = "ready" if done else "failed" if failing else "updating"
    told = notes if done else reasons or [_waits(whole=whole, in_use=in_use)]
    said_why = printable("; ".join(dict.fromkeys(told)), 2000)
    return Standing(state=state_now, why=said_why, url=url, versions=versions, in_use=in_use and route is not None)


def _version(
    one: Made, deployment: dict[str, Any] | None, state: Found, asked: set[str], names: Names
) -> VersionStands:
    served = way(names, one.group.name, 0) in asked
    spec, status = (deployment.get(part) or {} if deployment else {} for part in ("spec", "status"))
    return VersionStands(
        module=one.group.module,
        weight=one.group.weight,
        wanted=max(one.least, int(spec.get("replicas", one.least))) if one.most > one.least else one.least,
        ready=int(status.get("availableReplicas", 0)) if served else 0,
        provider=state.provider if served else "",
    )


def _lives(found: Look, group: str) -> dict[str, Life]:
    """How often the cluster has started each pod of a group again; what its clients see, its gateways do not tell."""
    mine = (pod for pod in found.pods if part_of(pod) == "replica" and group_of(pod) == group)
    return {shown(pod): Life(restarts=_restarts(pod)) for pod in mine}


def _restarts(pod: Mapping[str, Any]) -> int:
    return sum(int(one.get("restartCount", 0)) for one in (pod.get("status") or {}).get("containerStatuses") or ())


def _wrong(one: Made, found: Look) -> str:
    """Why a version will not get ready as it is: another image runs, or its pods end again and again."""
    if image := foreign(one, found):
        return f"its pods run the image {image}, which is not the one that was signed"
    mine = (pod for pod in found.pods if part_of(pod) == "replica" and group_of(pod) == one.group.name)
    ends = [_restarts(pod) for pod in mine if not is_ready(pod)]
    return f"a pod ended {max(ends)} times" if max(ends, default=0) >= why.ENDS else ""


def _waits(*, whole: bool, in_use: bool) -> str:
    if not whole:
        return "replicas are starting"
    return "the cluster has given it no address yet" if in_use else "its gateway takes the newest table in"


def _of_group(one: Made, name: str, found: Look, api: Api) -> list[why.Trouble]:
    if image := foreign(one, found):
        return [why.Trouble(f"its pods run the image {image}, which is not the one that was signed", lasting=True)]
    mine = [pod for pod in found.pods if part_of(pod) == "replica" and group_of(pod) == one.group.name]
    return _troubles(found.find("Deployment", name), mine, api)


def _of_gateway(names: Names, found: Look, api: Api) -> list[why.Trouble]:
    mine = [pod for pod in found.pods if part_of(pod) == "gateway"]
    return _troubles(found.find("Deployment", names.gateway), mine, api)


def _troubles(deployment: dict[str, Any] | None, pods: Sequence[dict[str, Any]], api: Api) -> list[why.Trouble]:
    troubles = [why.of_deployment(deployment)] if deployment is not None else []
    for pod in [one for one in pods if not is_ready(one)][:_ASKED_PODS]:
        name = shown(pod)
        events = [
            event
            for event in api.listed("Event", fields=f"involvedObject.name={name}")
            if (event.get("involvedObject") or {}).get("uid") in {None, "", pod["metadata"].get("uid")}
        ]
        events.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
        troubles.append(why.of_pod(pod, events, partial(_tail, api, name)))
    return list(dict.fromkeys(one for one in troubles if one is not None))


def _tail(api: Api, pod: str, container: str, previous: bool) -> str:  # noqa: FBT001 - as why.Tail has it
    return api.log(pod, container, lines=_TAIL, most=_MOST, previous=previous)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether clients may be sent to a pod, or it has done its work."""
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return True
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or ())


def logs(api: Api, found: Look, *, lines: int) -> dict[str, str]:
    """The last lines of each pod, by its name: of its container, or of its init program where that is all there is."""
    told = {}
    for pod in found.pods:
        begun = [
            one["name"]
            for kind in ("containerStatuses", "initContainerStatuses")
            for one in (pod.get("status") or {}).get(kind) or ()
            if "waiting" not in (one.get("state") or {}) or one.get("lastState")
        ]
        if begun:
            told[shown(pod)] = api.log(shown(pod), begun[0], lines=lines, most=_MOST)
    return told
