"""The Job controller: pods until enough have succeeded, or each index has, or too many have failed."""

import datetime as dt

import msgspec

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.api import suffix
from tests.doubles.kubernetes.copies import copied
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.kubernetes.refusals import Refused
from tests.doubles.kubernetes.world import MANAGER, Thing, World, active, condition, pod_from, ready, with_condition

_COMPONENT = "job-controller"
INDEX = "batch.kubernetes.io/job-completion-index"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10, 360


class _Count(msgspec.Struct):
    """What has ended, whether or not its pod is still there; by index where there are any."""

    succeeded: dict[str, int | None] = {}
    failed: dict[str, int | None] = {}
    waits_until: dt.datetime | None = None


class Jobs:
    def __init__(self, world: World) -> None:
        self._world = world
        self._counts: dict[str, _Count] = {}

    def step(self) -> None:
        for job in self._world.store.all(kinds.JOB):
            if _finished(job):
                self._expire(job)
            elif job["metadata"].get("deletionTimestamp") is None:
                self._step(job)

    def _expire(self, job: Thing) -> None:
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        over = next(one for one in job["status"]["conditions"] if one["type"] in {"Complete", "Failed"})
        if ttl is not None and self._world.store.since(over["lastTransitionTime"]) >= ttl:
            policy = {"propagationPolicy": "Background"}
            self._world.api.delete(kinds.JOB, job["metadata"]["namespace"], job["metadata"]["name"], policy)

    def _step(self, job: Thing) -> None:
        spec, world = job["spec"], self._world
        count = self._counts.setdefault(job["metadata"]["uid"], _Count())
        pods = world.owned(kinds.POD, job)
        self._tally(pods, count)
        status = copied(job["status"])
        if spec["suspend"]:
            self._delete(pods)
            status.pop("startTime", None)
            status |= {
                "active": 0,
                "conditions": self._with(status, "Suspended", "True", "JobSuspended", "Job suspended"),
            }
            world.status(kinds.JOB, job, status)
            return
        if condition(status.get("conditions", ()), "Suspended"):
            status["conditions"] = self._with(status, "Suspended", "False", "JobResumed", "Job resumed")
        status.setdefault("startTime", world.store.time())
        running = [pod for pod in pods if active(pod)]
        verdict = _verdict(world, job, status, count, running)
        if verdict is None:
            running += self._make(job, count, running)
            self._report(job, status, count, running)
        else:
            self._end(job, status, count, running, *verdict)

    def _tally(self, pods: list[Thing], count: _Count) -> None:
        for pod in pods:
            phase, uid = pod["status"].get("phase"), pod["metadata"]["uid"]
            if phase == "Succeeded":
                count.succeeded.setdefault(uid, _index(pod))
            elif phase == "Failed" and uid not in count.failed:
                count.failed[uid] = _index(pod)
                pause = min(_FIRST_PAUSE_S * 2 ** (len(count.failed) - 1), _LONGEST_PAUSE_S)
                count.waits_until = self._world.store.now + dt.timedelta(seconds=pause)

    def _make(self, job: Thing, count: _Count, running: list[Thing]) -> list[Thing]:
        spec, made = job["spec"], []
        if count.waits_until is not None and self._world.store.now < count.waits_until:
            return made
        wanted = spec["parallelism"]
        if "completions" in spec:
            wanted = min(wanted, spec["completions"] - len(_done(job, count)))
        elif count.succeeded:
            wanted = len(running)  # a work queue without a number ends with its first success
        free = iter(_free(job, count, running)) if spec["completionMode"] == "Indexed" else None
        for _ in range(wanted - len(running)):
            index = None if free is None else next(free, None)
            if free is not None and index is None:
                break
            body = _pod(job, index)
            try:
                pod = self._world.api.create(kinds.POD, job["metadata"]["namespace"], body, Writer(MANAGER))
            except Refused as refused:
                self._world.event(job, "FailedCreate", f"Error creating: {refused}", _COMPONENT, warns=True)
                break
            self._world.event(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", _COMPONENT)
            made.append(pod)
        return made

    def _end(
        self, job: Thing, status: Thing, count: _Count, running: list[Thing], kind: str, reason: str, message: str
    ) -> None:
        """First it is said how it will end; that it has ended, when its last pod has stopped."""
        first = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
        status["conditions"] = self._with(status, first, "True", reason, message)
        self._delete(running)
        left = [
            pod
            for pod in self._world.owned(kinds.POD, job)
            if pod["status"].get("phase") not in {"Failed", "Succeeded"}
        ]
        if not left:
            status["conditions"] = self._with(status, kind, "True", reason, message)
            if kind == "Complete":
                status["completionTime"] = self._world.store.time()
            said = ("Completed", "Job completed") if kind == "Complete" else (reason, message)
            self._world.event(job, *said, _COMPONENT, warns=kind == "Failed")
        self._report(job, status, count, [])

    def _report(self, job: Thing, status: Thing, count: _Count, running: list[Thing]) -> None:
        status |= {
            "active": len(running),
            "ready": sum(map(ready, running)),
            "succeeded": len(_done(job, count)),
            "failed": len(count.failed),
            "terminating": len(
                [pod for pod in self._world.owned(kinds.POD, job) if pod["metadata"].get("deletionTimestamp")]
            ),
            "uncountedTerminatedPods": {},
        }
        if job["spec"]["completionMode"] == "Indexed":
            status["completedIndexes"] = _ranges(_done(job, count))
            if "backoffLimitPerIndex" in job["spec"]:
                status["failedIndexes"] = _ranges(_lost(job, count))
        self._world.status(kinds.JOB, job, status)

    def _delete(self, pods: list[Thing]) -> None:
        for pod in pods:
            if active(pod):
                self._world.api.delete(kinds.POD, pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _with(self, status: Thing, kind: str, value: str, reason: str, message: str) -> list[Thing]:
        new = {"type": kind, "status": value, "reason": reason, "message": message}
        known = condition(status.get("conditions", ()), kind)
        probed = known["lastProbeTime"] if known and known["status"] == value else self._world.store.time()
        return with_condition(status.get("conditions", []), new | {"lastProbeTime": probed}, self._world.store.time())


def _finished(job: Thing) -> bool:
    return any(one["type"] in {"Complete", "Failed"} for one in job["status"].get("conditions", ()))


def _index(pod: Thing) -> int | None:
    found = pod["metadata"].get("annotations", {}).get(INDEX)
    return None if found is None else int(found)


def _done(job: Thing, count: _Count) -> set[int | str]:
    """Indexes, or pods where there are none; an index counts once."""
    if job["spec"]["completionMode"] != "Indexed":
        return set(count.succeeded)
    return {one for one in count.succeeded.values() if one is not None and one < job["spec"]["completions"]}


def _lost(job: Thing, count: _Count) -> set[int]:
    """Indexes that have failed more often than each may."""
    most = job["spec"].get("backoffLimitPerIndex")
    failures = list(count.failed.values())
    return {one for one in failures if one is not None and most is not None and failures.count(one) > most} - {
        one for one in count.succeeded.values() if one is not None
    }


def _free(job: Thing, count: _Count, running: list[Thing]) -> list[int]:
    taken = {_index(pod) for pod in running} | _done(job, count) | _lost(job, count)
    return [number for number in range(job["spec"]["completions"]) if number not in taken]


def _verdict(
    world: World, job: Thing, status: Thing, count: _Count, running: list[Thing]
) -> tuple[str, str, str] | None:
    """How it ends, if it does: the condition, the reason, the message."""
    for kind, first in (("Complete", "SuccessCriteriaMet"), ("Failed", "FailureTarget")):
        if decided := condition(status.get("conditions", ()), first):
            return kind, decided["reason"], decided["message"]
    spec, done = job["spec"], _done(job, count)
    restarts = sum(one["restartCount"] for pod in running for one in _statuses(pod))
    if (
        len(count.failed) + (restarts if spec["template"]["spec"]["restartPolicy"] == "OnFailure" else 0)
        > spec["backoffLimit"]
    ):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    if world.store.since(status["startTime"]) >= spec.get("activeDeadlineSeconds", float("inf")):
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    lost = _lost(job, count)
    if len(lost) > spec.get("maxFailedIndexes", float("inf")):
        return "Failed", "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
    if "completions" in spec:
        if len(done) >= spec["completions"]:
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        if lost and len(done) + len(lost) >= spec["completions"]:
            return "Failed", "FailedIndexes", "Job has failed indexes"
    elif count.succeeded and not running:
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    return None


def _statuses(pod: Thing) -> list[Thing]:
    return [*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())]


def _pod(job: Thing, index: int | None) -> Thing:
    name, template = job["metadata"]["name"], copied(job["spec"]["template"])
    if index is None:
        return pod_from(template, job, generate=f"{name}-")
    body = pod_from(template, job, name=f"{name}-{index}-{suffix()}")
    for field in ("labels", "annotations"):
        body["metadata"][field][INDEX] = str(index)
    body["spec"].setdefault("hostname", f"{name}-{index}")
    path = f"metadata.labels['{INDEX}']"
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
    for container in (*body["spec"].get("initContainers", ()), *body["spec"]["containers"]):
        if all(one["name"] != "JOB_COMPLETION_INDEX" for one in container.get("env", ())):
            container.setdefault("env", []).append(variable)
    return body


def _ranges(numbers: set) -> str:
    """``0,2-4``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
