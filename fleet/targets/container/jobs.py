"""Batch jobs on a container host: one container each, started again until it has ended by itself."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import docker
import docker.errors
import msgspec

from fleet.blobs import Blobs
from fleet.targets import batch_program
from fleet.targets.container import content, limits, observed, secrets, specs
from fleet.targets.container.specs import LABEL, JobNames
from fleet.targets.contract import Job, JobStanding
from modules import manifest as manifests
from modules.batch_program import ITS_OWN, OUTPUTS, STARTS, last_words, told
from modules.errors import Invalid
from modules.manifest import Runtime
from modules.names import Slug
from modules.words import printable

_STOP_S: Final = 10
_LINES: Final = 60
_MOST: Final = 32 << 10


class Jobs:
    """The jobs of one fleet on one engine; they are found by label.

    Args:
        api: the engine.
        fleet: the fleet's mark.
        blobs: where modules' files and images are.
        places: folders and volumes of the host that jobs may use.
        keeper: says the image of what keeps a job's secrets in memory.
    """

    def __init__(
        self, api: docker.APIClient, fleet: str, blobs: Blobs, places: Sequence[str], keeper: Callable[[], str]
    ) -> None:
        self._api, self._fleet, self._blobs, self._places, self._keeper = api, fleet, blobs, places, keeper

    def bring(self, job: Job, runtime: Runtime, tag: Callable[[Runtime], str]) -> JobStanding:
        """Start it where it does not run and has not ended, and say how far it is.

        Raises:
            Invalid: its inputs or outputs are not among the places.
            TargetTrouble: the image of what keeps its secrets is not on the host.
        """
        names = JobNames(self._fleet, job.name)
        found = self._containers(names, "job")
        if found and found[0]["Labels"].get(f"{LABEL}made") != job.mark:
            self.end(job.name)
            found = []
        if not found:
            self._make(names, job, runtime, tag)
            return self._begin(names, job)
        state = self._api.inspect_container(found[0]["Id"])["State"]
        if state.get("Paused"):
            self._api.unpause(found[0]["Id"])
        if state["Running"] or state["Restarting"]:
            if self._keep(names, job):
                # Somebody started it by hand after a restart of the host: the next look has it go on, with them.
                self._api.kill(found[0]["Id"])
            limits.put_back(self._api, found[0]["Id"])
            return self._standing(found[0]["Id"], JobStanding(state="running", starts=job.starts))
        if state["Status"] == "created":
            return self._begin(names, job)
        return self._ended(names, job, found[0]["Id"], state)

    def logs(self, name: Slug, *, lines: int) -> dict[str, str]:
        """The last lines of its log, without control characters."""
        found = self._containers(JobNames(self._fleet, name), "job")
        return {"job": self._log(found[0]["Id"], lines)} if found else {}

    def end(self, name: Slug) -> None:
        """Stop it, and take its container and its volume away."""
        names = JobNames(self._fleet, name)
        for one in self._containers(names):
            try:
                self._api.stop(one["Id"], timeout=_STOP_S)
                self._api.remove_container(one["Id"], force=True, v=True)
            except docker.errors.NotFound:
                continue
        for volume in self._api.volumes(filters={"label": _filter(names)})["Volumes"] or ():
            self._api.remove_volume(volume["Name"], force=True)

    def _make(self, names: JobNames, job: Job, runtime: Runtime, tag: Callable[[Runtime], str]) -> None:
        for place in (job.inputs, job.outputs):
            if place not in self._places:
                raise Invalid(
                    f"this target lets no batch job use it; it has {', '.join(self._places) or 'no place for them'}",
                    element=place,
                    remedy="attach the target with --batch-place",
                )
        assert runtime.image is not None  # noqa: S101 - for mypy: none is chosen without
        image = content.load(self._api, runtime.image, self._blobs, tag=tag(runtime))
        self.end(job.name)
        self._api.create_container_from_config(specs.job_filler(names, image=image["Id"]), name=names.filling)
        with content.files(job.module, manifests.encode(job.module.manifest), self._blobs, key="") as tar:
            self._api.put_archive(names.filling, specs.CONTENT, tar)
        body = specs.job(
            names, job, image=image["Id"], memory_mb=batch_program.memory_mb(job), providers=runtime.providers,
            volumes=tuple((image.get("Config") or {}).get("Volumes") or ()),
        )  # fmt: skip
        # It is made last: where it is, all that it needs is there.
        self._api.create_container_from_config(limits.labelled(body), name=names.job)

    def _keep(self, names: JobNames, job: Job) -> bool:
        """Have its secrets, if it is given some, in the host's memory; whether they were not there."""
        if not job.secrets:
            return False
        there = self._containers(names, "secrets")
        if any(f"/{names.secrets.name}" in one["Names"] and one["State"] == "running" for one in there):
            return False
        return secrets.keep(self._api, names.secrets, job.secrets, image=self._keeper())

    def _begin(self, names: JobNames, job: Job) -> JobStanding:
        self._keep(names, job)
        # Its folder among the answers, which it could not make in a volume that is root's.
        self._api.put_archive(names.job, OUTPUTS, content.packed({}, folder=job.name))
        self._api.start(names.job)
        return JobStanding(state="starting", starts=job.starts + 1)

    def _ended(self, names: JobNames, job: Job, container: str, state: dict[str, Any]) -> JobStanding:
        code = int(state["ExitCode"])
        log = self._log(container, _LINES)
        now = self._standing(container, JobStanding(starts=job.starts, log=log))
        if code == 0:
            return msgspec.structs.replace(now, state="done")
        said = last_words(log)
        if code in ITS_OWN:
            return msgspec.structs.replace(now, state="failed", why=said or f"it ended with exit code {code}")
        how = "its memory ran out" if state.get("OOMKilled") else f"it ended with exit code {code}"
        if job.starts >= STARTS:
            return msgspec.structs.replace(now, state="failed", why=f"{how}, {job.starts} times: {said}")
        return msgspec.structs.replace(self._begin(names, job), why=f"{how}, and goes on where it was")

    def _standing(self, container: str, standing: JobStanding) -> JobStanding:
        """With what the program itself said last of how far it is."""
        said = self._api.logs(container, stderr=False, tail=1)[-_MOST:].strip()
        return batch_program.with_progress(standing, told(said))

    def _log(self, container: str, lines: int) -> str:
        text = self._api.logs(container, stdout=False, tail=lines)[-_MOST:].decode("utf-8", "replace")
        return "\n".join(printable(line) for line in text.split("\n"))

    def _containers(self, names: JobNames, part: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._api.containers(all=True, filters={"label": _filter(names)})
        # A copy of an image has its labels, but no name of ours.
        mine = [one for one in found if observed.is_made_here(one, lambda name: f"{name}.".startswith(f"{names.job}."))]
        return [one for one in mine if not part or one["Labels"].get(f"{LABEL}part") == part]


def _filter(names: JobNames) -> list[str]:
    return [f"{name}={value}" for name, value in names.labels.items()]
