"""Batch jobs in a namespace: a Job each, whose pods the cluster starts until one has ended by itself.

What is there is looked at in each pass, and nothing is remembered; the Job of another run, or of another form of the
pod, ends before this one begins, because both would go on from the same state.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from fleet.targets import batch_program, runtimes
from fleet.targets.contract import Job, JobStanding
from fleet.targets.kubernetes import content, front, pods, why
from fleet.targets.kubernetes.api import OF_JOBS, Api
from fleet.targets.kubernetes.attached import Attached, places
from fleet.targets.kubernetes.content import Contents
from fleet.targets.kubernetes.names import JobNames, shown
from fleet.targets.kubernetes.replicas import named
from modules.batch_program import ITS_OWN, STARTS, Progress, told
from modules.errors import Invalid
from modules.images import image_ids
from modules.manifest import Runtime
from modules.names import Slug
from modules.protocol.content import REFUSED, Content
from modules.words import printable

_LINES: Final = 60
# Its module may write much between two words of how far it is.
_LOOKED_AT: Final = 300
_MOST: Final = 64 << 10
_WORDS: Final = 700
_NUMBERED: Final = "batch.kubernetes.io/job-completion-index"
_OVER: Final = frozenset({"Failed", "Succeeded"})


class _Found(NamedTuple):
    """What is there of a job; its pods, the oldest first."""

    by_kind: Mapping[str, dict[str, dict[str, Any]]]
    pods: Sequence[dict[str, Any]]


class Jobs:
    """The jobs of one fleet in one namespace; they are found by label.

    Args:
        api: the namespace.
        attached: how it was attached.
        fleet: the fleet's mark.
        contents: who writes what pods are told of their module.
    """

    def __init__(self, api: Api, attached: Attached, fleet: str, contents: Contents) -> None:
        self._api, self._attached, self._fleet, self._contents = api, attached, fleet, contents

    def bring(self, job: Job) -> JobStanding:
        """Make it where it is not and has not ended, and say how far it is.

        Raises:
            Invalid: its inputs or outputs are not among the target's places.
            Unfit: its module has no runtime for the target.
        """
        known = places(self._attached)
        for place in (job.inputs, job.outputs):
            if place not in known:
                raise Invalid(
                    f"this target lets no batch job use it; it has {', '.join(known) or 'no place for them'}",
                    element=place,
                    remedy="attach the target with --batch-place",
                )
        runtime = runtimes.chosen(job.module, self._attached.platform, self._attached.accelerator)
        names = JobNames(self._fleet, job.name)
        body = _job(names, self._attached, job, runtime)
        found = self._look(names)
        mine = found.by_kind["Job"].get(shown(body))
        if self._others_end(found, mine):
            return JobStanding(starts=job.starts, why="what is left of it from before ends first")
        if mine is None or not _over(mine):
            mine = self._make(names, job, found, body)
        return self._standing(job, runtime, mine, _of(mine, found.pods))

    def logs(self, name: Slug, *, lines: int) -> dict[str, str]:
        """The last lines of each of its newest pods, by the pod's name, without what it says of how far it is."""
        found: dict[str, tuple[str, str]] = {}
        for pod in reversed(self._look(JobNames(self._fleet, name)).pods):
            if _index(pod) not in found and (text := self._log(pod, lines)):
                found[_index(pod)] = (shown(pod), text)
        return dict(found[index] for index in sorted(found))

    def end(self, name: Slug) -> bool:
        """Take it away; True once nothing is left of it but its answers."""
        found = self._look(JobNames(self._fleet, name))
        for kind, listed in found.by_kind.items():
            for one in listed.values():
                self._api.delete(one, kind)
        # The cluster ends its pods after it.
        return not found.pods and not any(found.by_kind.values())

    def _look(self, names: JobNames) -> _Found:
        seen = self._api.listed("Pod", labels=names.selector)
        seen.sort(key=lambda one: (str(one["metadata"].get("creationTimestamp")), shown(one)))
        return _Found({kind: named(self._api.listed(kind, labels=names.selector)) for kind in OF_JOBS}, seen)

    def _make(self, names: JobNames, job: Job, found: _Found, body: dict[str, Any]) -> dict[str, Any]:
        """What its pods need, and the Job last; returns that as it is now."""
        at = self._attached
        told = self._contents.of_job(job, url=at.content_url, room_bytes=pods.room_bytes(job.module))
        secrets = [content.files(names.secrets, names.of("secrets"), job.secrets)] if job.secrets else []
        if secrets and (there := found.by_kind["Secret"].get(names.secrets)) and front.is_replaced(there, job.secrets):
            self._api.delete(there, "Secret")  # it cannot be changed
        for one in (*_around(names, at, content.trusting(at, told)), *secrets, body):
            made = self._api.apply(one, ours=shown(one) in found.by_kind[one["kind"]])
        return made

    def _others_end(self, found: _Found, mine: dict[str, Any] | None) -> bool:
        """Whether something else of this name is still there, or this one is being taken away by somebody."""
        left = [one for one in found.by_kind["Job"].values() if one is not mine]
        for one in left:
            self._api.delete(one, "Job")
        ending = mine is not None and bool(mine["metadata"].get("deletionTimestamp"))
        others = [one for one in found.pods if mine is None or one not in _of(mine, found.pods)]
        # One that has ended and that somebody keeps is in nobody's way.
        return bool(left) or ending or any(_phase(one) not in _OVER for one in others)

    def _standing(
        self, job: Job, runtime: Runtime, mine: dict[str, Any], seen: Sequence[dict[str, Any]]
    ) -> JobStanding:
        status = mine.get("status") or {}
        counted = sum(int(status.get(part) or 0) for part in ("active", "failed", "succeeded"))
        now = JobStanding(starts=max(job.starts, counted, len(seen)))
        if _condition(mine, "Complete"):
            return _with(self._with_log(now, [one for one in seen if _phase(one) == "Succeeded"]), state="done")
        if said := _own_end(seen) or _not_signed(runtime, seen):
            return _with(self._with_log(now, seen), state="failed", why=said)
        said = self._trouble(mine, seen)
        if over := _condition(mine, "Failed"):
            said = f"{said or _words(over)}; it was started {now.starts} times"
            return _with(self._with_log(now, seen), state="failed", why=said)
        if any(_state(one, pods.BATCH).get("running") for one in _newest(seen)):
            now = _with(self._counted(now, seen), state="running")
        return _with(now, why=said)

    def _trouble(self, mine: dict[str, Any], seen: Sequence[dict[str, Any]]) -> str:
        """What keeps it from running, or ended it last; empty: nothing is known but that it is starting or runs."""
        if waits := _condition(mine, "Suspended"):
            return f"somebody has suspended its Job: {_words(waits)}"
        if not seen:
            failed = [one for one in self._events(mine) if one.get("reason") == "FailedCreate"]
            return f"the cluster takes no pod of it: {_words(failed[-1])}" if failed else ""
        newest = _newest(seen)
        for pod in newest:
            if found := why.of_pod(pod, self._events(pod), partial(self._log_of, pod)):
                return f"{found.why}; it is started again" if _phase(pod) == "Failed" else found.why
        before = [one for one in seen if one not in newest]
        if before and (found := why.of_pod(before[-1], (), partial(self._log_of, before[-1]))):
            return f"{found.why}; it was started again, and goes on where it was"
        return ""

    def _log_of(self, pod: dict[str, Any], *_: Any) -> str:
        return self._log(pod, _LINES)

    def _events(self, about: dict[str, Any]) -> list[dict[str, Any]]:
        listed = self._api.listed("Event", fields=f"involvedObject.name={shown(about)}")
        mine = (one for one in listed if one["involvedObject"].get("uid") == about["metadata"]["uid"])
        return sorted(mine, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""))

    def _with_log(self, standing: JobStanding, of: Sequence[dict[str, Any]]) -> JobStanding:
        """With its counts and the end of its log, where there is a pod: of one that failed, if one has."""
        if not of:
            return standing
        pod = ([one for one in of if _phase(one) == "Failed"] or of)[-1]
        return _with(self._counted(standing, of), log=self._log(pod, _LINES))

    def _counted(self, standing: JobStanding, of: Sequence[dict[str, Any]]) -> JobStanding:
        """With how far its newest pods are together: each knows all inputs, and answers its share of them."""
        said = [one for one in map(self._told, _newest(of)) if one is not None]
        if not said:
            return standing
        together = Progress(
            max(one.items for one in said), sum(one.answered for one in said), sum(one.set_aside for one in said)
        )
        return batch_program.with_progress(standing, together)

    def _told(self, pod: dict[str, Any]) -> Progress | None:
        """How far a pod is: by its last word, which the cluster keeps, or by the last line that says so."""
        said = told(_end(pod, pods.BATCH).get("message") or "")
        return said or next(filter(None, map(told, reversed(self._lines(pod)))), None)

    def _log(self, pod: dict[str, Any], lines: int) -> str:
        found = [one for one in self._lines(pod, lines) if told(one) is None]
        return "\n".join(found[-lines:])

    def _lines(self, pod: dict[str, Any], lines: int = 0) -> list[str]:
        """The last lines of a pod: of its init program, where that is all there is."""
        begun = [one for one in (pods.BATCH, pods.INIT) if _state(pod, one).keys() - {"waiting"}]
        if not begun:
            return []
        text = self._api.log(shown(pod), begun[0], lines=max(lines, _LOOKED_AT), most=_MOST)
        return why.without_times(text).rstrip("\n").split("\n")


def _job(names: JobNames, attached: Attached, job: Job, runtime: Runtime) -> dict[str, Any]:
    template = pods.batch(attached, job, runtime)
    labels = names.of("job")
    volumes = [pods.settings(names.content), *template["spec"]["volumes"]]
    if job.secrets:
        volumes.append(pods.secrets(names.secrets))
    spec = template["spec"] | {"serviceAccountName": names.whole, "volumes": volumes}
    wide = job.settings.pods > 1
    if wide:
        spec["topologySpreadConstraints"] = pods.spread(labels)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": names.job(job.mark, json.dumps(template, sort_keys=True)), "labels": labels},
        "spec": {
            # Each pod has a share of the inputs and a state of its own, which its workers have in common.
            "parallelism": job.settings.pods,
            "completions": job.settings.pods,
            **({"completionMode": "Indexed"} if wide else {}),
            "backoffLimit": STARTS * job.settings.pods - 1,
            "template": {"metadata": template["metadata"] | {"labels": labels}, "spec": spec},
        },
    }


def _around(names: JobNames, attached: Attached, told: Content) -> list[dict[str, Any]]:
    """What its pods need before they begin."""
    return [
        front.account(names.whole, names.of("account")),
        front.policy(names.whole, names.of("job"), egress=front.to_the_server(attached)),
        content.secret(names.content, names.of("content"), told),
    ]


def _index(pod: Mapping[str, Any]) -> str:
    """Which of its Job's pods it is; empty where a Job has one at a time."""
    return str((pod["metadata"].get("annotations") or {}).get(_NUMBERED, ""))


def _newest(seen: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest pod of each share, of these, which are ordered."""
    return list({_index(pod): pod for pod in seen}.values())


def _of(job: Mapping[str, Any], every: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    uid = job["metadata"]["uid"]
    return [
        one for one in every if any(owner.get("uid") == uid for owner in one["metadata"].get("ownerReferences", ()))
    ]


def _own_end(seen: Sequence[dict[str, Any]]) -> str:
    """Why it has ended for good in its program's own words, or why its module will never be taken; empty: it has not.

    Another start would end alike, so the cluster's next one is not waited for.
    """
    for pod in seen:
        last = _end(pod, pods.BATCH)
        if last.get("exitCode") in ITS_OWN:
            return _words(last) or f"it ended with exit code {last['exitCode']}"
        if (last := _end(pod, pods.INIT)).get("exitCode") == REFUSED:
            return f"a pod did not get its module: {_words(last)}"
    return ""


def _not_signed(runtime: Runtime, seen: Sequence[dict[str, Any]]) -> str:
    assert runtime.image is not None  # noqa: S101 - for mypy: none is chosen without
    signed = image_ids(runtime.image)
    image = next(filter(None, (why.not_signed(pod, signed, pods.BATCH) for pod in seen)), "")
    return f"its pod runs the image {image}, which is not the one that was signed" if image else ""


def _over(job: Mapping[str, Any]) -> bool:
    return bool(_condition(job, "Complete") or _condition(job, "Failed"))


def _condition(job: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A condition that holds; empty: it does not."""
    every = (job.get("status") or {}).get("conditions") or ()
    return next((one for one in every if one.get("type") == kind and one.get("status") == "True"), {})


def _phase(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def _state(pod: Mapping[str, Any], container: str) -> dict[str, Any]:
    status = pod.get("status") or {}
    every = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return next((one.get("state") or {} for one in every if one.get("name") == container), {})


def _end(pod: Mapping[str, Any], container: str) -> dict[str, Any]:
    """How a container has ended; empty: it has not."""
    found: dict[str, Any] = _state(pod, container).get("terminated") or {}
    return found


def _words(one: Mapping[str, Any]) -> str:
    return printable(" ".join(str(one.get("message") or one.get("reason") or "").split()), _WORDS)


def _with(standing: JobStanding, **more: Any) -> JobStanding:
    return msgspec.structs.replace(standing, **more)
