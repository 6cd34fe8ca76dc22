"""What a container host has of an endpoint, found by label and name, and how that is told to people."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import docker
import docker.errors

from fleet.targets.container import limits
from fleet.targets.container.endings import is_cut_off
from fleet.targets.container.plan import Front, Seen, SeenPart
from fleet.targets.container.specs import GATEWAY_PORT, LABEL, Names
from fleet.targets.contract import Life, Standing, State, VersionStands, Wanted
from fleet.targets.groups import Group, SeenReplica
from modules.counted import Counted
from modules.protocol.endpoint import Said
from modules.words import printable

# So often has a replica ended when we say that it fails, and not that it is starting.
_ENDS: Final = 3
_TAIL: Final = 12
_WORDS: Final = 700
_CUT_OFF: Final = "somebody took its container out of the endpoint's network"
# Bytes of one container's log that are shown.
_MOST: Final = 64 << 10


def containers(api: docker.APIClient, names: Names, *, all_parts: bool = False) -> list[dict[str, Any]]:
    """The containers of an endpoint, running or not; without those that only hold files, unless they are asked for."""
    found = [one for one in _listed(api, names.labels) if is_made_here(one, lambda name: _is_part(names, name))]
    return [one for one in found if all_parts or one["Labels"].get(f"{LABEL}part") not in {"content", "secrets"}]


def containers_of_fleet(api: docker.APIClient, fleet: str) -> list[dict[str, Any]]:
    """All containers of a fleet's endpoints and jobs."""
    found = _listed(api, {f"{LABEL}fleet": fleet})
    return [one for one in found if is_made_here(one, lambda name: is_of_fleet(fleet, name))]


def labels_of_fleet(api: docker.APIClient, fleet: str) -> list[dict[str, str]]:
    """The labels of all that is a fleet's on a host, containers, volumes and networks."""
    mark = {"label": _filter({f"{LABEL}fleet": fleet})}
    others = (*(api.volumes(filters=mark)["Volumes"] or ()), *api.networks(filters=mark))
    named = [one for one in others if is_of_fleet(fleet, one["Name"])]
    return [one.get("Labels") or {} for one in (*containers_of_fleet(api, fleet), *named)]


def volumes(api: docker.APIClient, names: Names) -> list[str]:
    return [one["Name"] for one in _volumes(api, names)]


def networks(api: docker.APIClient, names: Names) -> list[str]:
    found = api.networks(filters={"label": _filter(names.labels)})
    return [one["Id"] for one in found if one["Name"] == names.whole]


def look(api: docker.APIClient, names: Names) -> Seen:
    """What is there of an endpoint now."""
    replicas, filled, begun, kept = [], set(), set(), set()
    fronts: dict[str, list[SeenPart]] = {"keeper": [], "gateway": []}
    nets = networks(api, names)
    for one in containers(api, names, all_parts=True):
        labels = one["Labels"]
        group = labels.get(f"{LABEL}group", "")
        match labels.get(f"{LABEL}part"):
            case "content" if f"/{names.content(group)}" in one["Names"]:
                filled.add(group)
            case "content":
                begun.add(group)
            case "secrets":
                begun.add(group)
                if f"/{names.secrets(group).name}" in one["Names"] and one["State"] == "running":
                    kept.add(group)
            case "replica":
                replicas.append(_replica(api, one["Id"], group, int(labels[f"{LABEL}number"]), nets))
            case "keeper" | "gateway" as part:
                needs = nets if part == "gateway" else ()
                fronts[part].extend(_part(api, one["Id"], labels.get(f"{LABEL}made", ""), needs))
    for labels in (one["Labels"] or {} for one in _volumes(api, names)):
        if (group := labels.get(f"{LABEL}group", "")) and group not in filled:
            begun.add(group)
    return Seen(
        begun=frozenset(begun),
        kept=frozenset(kept),
        network=bool(nets),
        filled=frozenset(filled),
        replicas=tuple(sorted((one for one in replicas if one), key=lambda one: (one.group, one.number))),
        keepers=tuple(fronts["keeper"]),
        gateways=tuple(fronts["gateway"]),
    )


def logs(api: docker.APIClient, names: Names, *, lines: int) -> dict[str, str]:
    """The last lines of each container, by the last part of its name; none has a control character."""
    found = {}
    for one in containers(api, names):
        name = one["Names"][0].removeprefix(f"/{names.whole}.")
        # The newest stands first.
        if one["Labels"].get(f"{LABEL}part") == "gateway" and "gateway" not in found:
            name = "gateway"
        found[name] = _lines(api.logs(one["Id"], tail=lines, timestamps=True)[-_MOST:])
    return found


def standing(
    wanted: Wanted, groups: Sequence[Group], front: Front, seen: Seen, said: Said, trouble: Sequence[str], *, url: str,
    memory: Mapping[str, float] | None = None,
) -> Standing:  # fmt: skip
    """How an endpoint stands, in words that a person reads once; ``memory`` in MiB by replica, where it is known."""
    in_use = said.table is not None and said.generation == said.table.generation
    route = said.table.slots.get(wanted.name) if said.table is not None and in_use else None
    asked = {replica.instance for version in route.versions for replica in version.replicas} if route else set()
    versions, reasons, failing = {}, list(trouble), bool(trouble)
    for group in groups:
        mine = seen.of(group)
        ready = [one for one in mine if one.name in asked and one.running]
        providers = {said.replicas[one.name].provider for one in ready if one.name in said.replicas}
        versions[str(group.version)] = VersionStands(
            module=group.module,
            weight=group.weight,
            wanted=group.count,
            ready=len(ready),
            provider=", ".join(sorted(providers - {""})),
            wrong=_wrong(mine, said),
            lives={one.name: _life(one, said) for one in mine if one.name in asked} if wanted.measured else {},
            memory_mb=max((memory[one.name] for one in ready if one.name in memory), default=None) if memory else None,
        )
        for one in mine:
            found = said.replicas.get(one.name)
            if one in ready and (found is None or found.ready):
                continue
            if one in ready and found is not None:
                reasons.append(f"version {group.version}: a replica does not answer: {found.why}")
                failing = failing or not any(each in ready and _answers(each, said) for each in mine)
                continue
            failing = failing or one.restarts >= _ENDS or (found is not None and found.wrong)
            why = one.why or (found.why if found is not None and not found.ready else "")
            if why:
                reasons.append(f"version {group.version}: {why}")
    speaks = seen.gateway(front)
    for what, part in (("its port", seen.keeper(front)), ("its gateway", speaks)):
        if part is not None and not part.running:
            reasons.append(f"{what}: {part.why or 'it does not run'}")
    if speaks is not None and speaks.made != front.gateway:
        reasons.append("its gateway is being replaced; the one of before serves")
    done = all(one.ready == one.wanted for one in versions.values()) and not reasons and bool(url)
    state: State = "ready" if done else "failed" if failing else "updating"
    why = "; ".join(dict.fromkeys(reasons)) or ("" if done else "replicas are starting")
    return Standing(state=state, why=printable(why, 2000), url=url, versions=versions, in_use=route is not None)


def memory(api: docker.APIClient, seen: Seen) -> dict[str, float]:
    """The memory of each replica that runs, in MiB, without what the kernel keeps of its files."""
    found = {}
    for one in seen.replicas:
        try:
            told = api.stats(one.name, stream=False, one_shot=True)["memory_stats"] if one.running else {}
        except docker.errors.APIError:
            continue  # it has just gone
        details = told.get("stats") or {}
        cache = details.get("total_inactive_file", details.get("inactive_file", 0))
        if "usage" in told:
            found[one.name] = max(0.0, (told["usage"] - cache) / (1 << 20))
    return found


def _wrong(mine: Sequence[SeenReplica], said: Said) -> str:
    """Why a version will not get ready as it is: its samples are answered wrongly, or replicas end again and again."""
    found = [said.replicas[one.name].why for one in mine if one.name in said.replicas and said.replicas[one.name].wrong]
    ends = [f"a replica ended {one.restarts} times: {one.why}" for one in mine if one.restarts >= _ENDS]
    return next(iter(found + ends), "")


def _life(replica: SeenReplica, said: Said) -> Life:
    found = said.replicas.get(replica.name)
    return Life(
        # It counts a replica from its first request on.
        seen=None if said.counts is None else said.counts.get(replica.name, Counted()),
        answers=found.answers if found else None,
        restarts=replica.restarts,
    )


def _replica(
    api: docker.APIClient, container: str, group: str, number: int, nets: Collection[str]
) -> SeenReplica | None:
    try:
        found = api.inspect_container(container)
    except docker.errors.NotFound:
        return None  # it has just gone
    state, cut_off = found["State"], is_cut_off(found, nets)
    running = bool(state["Running"]) and not state["Restarting"] and not state.get("Paused") and not cut_off
    return SeenReplica(
        name=found["Id"][:12],
        group=group,
        number=number,
        running=running,
        restarting=bool(state["Restarting"]) and not cut_off,
        restarts=int(found.get("RestartCount", 0)),
        changed=running and bool(limits.changed(api, found)),
        why="" if running and not found.get("RestartCount") else _CUT_OFF if cut_off else _why(api, found),
    )


def _part(api: docker.APIClient, container: str, made: str, nets: Collection[str]) -> Iterator[SeenPart]:
    try:
        found = api.inspect_container(container)
    except docker.errors.NotFound:
        return  # it has just gone
    bound = (found["HostConfig"].get("PortBindings") or {}).get(f"{GATEWAY_PORT}/tcp") or ()
    state, cut_off = found["State"], bool(nets) and is_cut_off(found, nets)
    running = bool(state["Running"]) and not state["Restarting"] and not state.get("Paused") and not cut_off
    yield SeenPart(
        name=found["Id"][:12],
        made=made,
        running=running,
        restarting=bool(state["Restarting"]) and not cut_off,
        paused=bool(state.get("Paused")) and not cut_off,
        # Any free port is tried for before one is kept.
        port=int(bound[0]["HostPort"] or 0) if bound else 0,
        changed=running and bool(limits.changed(api, found)),
        why="" if running else _CUT_OFF if cut_off else _why(api, found),
    )


def _why(api: docker.APIClient, found: dict[str, Any]) -> str:
    """Why a container does not run, or has ended before: the engine's word, and its own last ones."""
    state = found["State"]
    if state.get("OOMKilled"):
        limit = found["HostConfig"]["Memory"] >> 20
        return f"the kernel ended a replica for using more than its {limit} MiB of memory"
    if state.get("Paused"):
        return "somebody paused its container"
    if state.get("Error"):
        return f"the engine cannot start a container: {state['Error'][:_WORDS]}"
    tail = _lines(api.logs(found["Id"], tail=_TAIL)[-_MOST:]).strip()
    ended = "ended and starts again" if state["Running"] or state["Restarting"] else "ended"
    return f"a replica {ended} (exit code {state.get('ExitCode')}): {tail[-_WORDS:] or 'it wrote no log'}"


def _answers(replica: SeenReplica, said: Said) -> bool:
    found = said.replicas.get(replica.name)
    return found is not None and found.ready


def _volumes(api: docker.APIClient, names: Names) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.volumes(filters={"label": _filter(names.labels)})["Volumes"] or []
    return [one for one in found if _is_part(names, one["Name"])]


def is_of_fleet(fleet: str, name: str) -> bool:
    """Whether something with a fleet's label was made by it: labels alone come with a copy of an image, too."""
    return name.startswith(f"edgefleet.{fleet}.")


def is_made_here(listed: dict[str, Any], ours: Callable[[str], bool]) -> bool:
    """Whether a container with our labels is ours: by its name, or, whatever it is called by now, by a volume of ours.

    Labels alone come with a copy of an image, too, which has neither.
    """
    names = [name.removeprefix("/") for name in listed["Names"]]
    volumes = [one.get("Name") or "" for one in listed.get("Mounts") or () if one.get("Type") == "volume"]
    return any(map(ours, names + volumes))


def _is_part(names: Names, name: str) -> bool:
    return name.startswith(f"{names.whole}.") and name.removeprefix(f"{names.whole}.").split(".")[0] != "job"


def _lines(data: bytes) -> str:
    return "\n".join(map(printable, data.decode(errors="replace").split("\n")))


def _listed(api: docker.APIClient, labels: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.containers(all=True, filters={"label": _filter(labels)})
    return found


def _filter(labels: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]
