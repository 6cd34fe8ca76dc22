"""One container of a pod, a step at a time: pulled, created, running, ended, started again after a pause."""

import datetime as dt
import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.images import Behaviour
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.world import KUBELET, Thing, World

_BACK_OFFS = (0, 10, 20, 40, 80, 160, 300)


class Run(msgspec.Struct):
    """What the kubelet remembers of a container. Seconds are the double's."""

    state: Thing = msgspec.field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Thing = {}
    restarts: int = 0
    ran: int = 0
    creating: int = 0
    pulls: int = 0
    waits_until: Any = None
    serves: bool = False
    started: bool = False
    began: Any = None
    image_id: str = ""

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def code(self) -> int | None:
        ended = self.state.get("terminated")
        return None if ended is None else ended["exitCode"]


class Containers:
    """The containers of one pod that its node runs."""

    def __init__(self, world: World, pod: Thing) -> None:
        self.world = world
        self.pod = pod
        self.runs: dict[str, Run] = {}
        self._pulled: set[str] = set()

    def run(self, name: str) -> Run:
        return self.runs.setdefault(name, Run())

    def behaviour(self, spec: Thing) -> Behaviour:
        return self.world.images.of(spec["image"], spec["name"], self.pod["metadata"].get("labels", {}))

    def advance(self, spec: Thing, *, init: bool, policy: str) -> bool:
        """One step; whether anything changed. ``policy`` is the pod's restart policy."""
        run, behaviour = self.run(spec["name"]), self.behaviour(spec)
        if run.running:
            return self._go_on(spec, run, behaviour)
        if "terminated" in run.state:
            again = (policy == "Always" and not (init and run.code == 0)) or (policy == "OnFailure" and run.code != 0)
            return self._wait(spec, run) if again else False
        if run.waits_until is not None and self.world.store.now < run.waits_until:
            return False
        return self._start(spec, run, behaviour)

    def _start(self, spec: Thing, run: Run, behaviour: Behaviour) -> bool:
        if not self._pull(spec, run, behaviour):
            return True
        if problem := self._misconfigured(spec, behaviour):
            self._waiting(run, "CreateContainerConfigError", problem)
            self.event(spec, "Failed", f"Error: {problem}", warns=True)
            return True
        if run.creating < behaviour.steps:
            run.creating += 1
            return True
        now = self.world.store.time()
        run.state = {"running": {"startedAt": now}}
        run.began, run.ran, run.waits_until = self.world.store.now, 0, None
        run.serves = False
        run.started = "startupProbe" not in spec
        self.world.logs.start(self.pod, spec["name"])
        if behaviour.log:
            self.world.logs.write(self.pod, spec["name"], behaviour.log)
        self.event(spec, "Created", f"Created container: {spec['name']}")
        self.event(spec, "Started", f"Started container {spec['name']}")
        return True

    def _pull(self, spec: Thing, run: Run, behaviour: Behaviour) -> bool:
        image, policy = spec["image"], spec["imagePullPolicy"]
        here = behaviour.only_here or (image in self._pulled)
        if here and policy != "Always":
            self.event(spec, "Pulled", f'Container image "{image}" already present on machine')
            return True
        if policy == "Never":
            said = f'Container image "{image}" is not present with pull policy of Never'
            self._waiting(run, "ErrImageNeverPull", said)
            self.event(spec, "ErrImageNeverPull", said, warns=True)
            return False
        why = self._unpullable(image, behaviour)
        if not why:
            self._pulled.add(image)
            self.event(
                spec,
                "Pulled",
                f'Successfully pulled image "{image}" in 1s (1s including waiting). Image size: 1 bytes.',
            )
            return True
        run.pulls += 1
        if run.pulls % 2:
            self.event(spec, "Pulling", f'Pulling image "{image}"')
            self.event(spec, "Failed", f'Failed to pull image "{image}": {why}', warns=True)
            self.event(spec, "Failed", "Error: ErrImagePull", warns=True)
            self._waiting(run, "ErrImagePull", why)
        else:
            self.event(spec, "BackOff", f'Back-off pulling image "{image}"')
            self.event(spec, "Failed", "Error: ImagePullBackOff", warns=True)
            self._waiting(run, "ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {why}')
            self._pause(run, run.pulls // 2)
        return False

    def _unpullable(self, image: str, behaviour: Behaviour) -> str:
        failed = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
        if behaviour.only_here:
            return failed + "failed to do request: dial tcp: lookup failed: no such host"
        if behaviour.private and not self._has_pull_secret():
            return failed + "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized"
        return behaviour.pull

    def _has_pull_secret(self) -> bool:
        named = [one["name"] for one in self.pod["spec"].get("imagePullSecrets", ())]
        return any(self.world.store.get(kinds.SECRET, self.pod["metadata"]["namespace"], name) for name in named)

    def _misconfigured(self, spec: Thing, behaviour: Behaviour) -> str:
        """What keeps the kubelet from creating the container."""
        namespace, metadata = self.pod["metadata"]["namespace"], self.pod["metadata"]
        for kind, name, key in _references(spec):
            found = self.world.store.get(kind, namespace, name)
            if found is None:
                return f'{kind.name.lower()} "{name}" not found'
            if key and key not in found.get("data", {}):
                return f"couldn't find key {key} in {kind.name} {namespace}/{name}"
        security = self.pod["spec"].get("securityContext", {}) | spec.get("securityContext", {})
        user = security.get("runAsUser")
        if security.get("runAsNonRoot") and (user == 0 or (user is None and behaviour.root)):
            whose = "image will run as root" if user is None else "runAsUser (0) is root"
            said = f"container has runAsNonRoot and {whose}"
            return f'{said} (pod: "{metadata["name"]}_{namespace}({metadata["uid"]})", container: {spec["name"]})'
        return ""

    def _go_on(self, spec: Thing, run: Run, behaviour: Behaviour) -> bool:
        run.ran += 1
        fails = (behaviour.oom or behaviour.exits is not None) and behaviour.times != 0
        if fails and (behaviour.times < 0 or run.restarts < behaviour.times) and run.ran > behaviour.after:
            if behaviour.oom:
                self.end(spec, 137, "OOMKilled")
            else:
                self.end(spec, behaviour.exits or 0, "Error" if behaviour.exits else "Completed")
            return True
        return self._probe(spec, run, behaviour)

    def _probe(self, spec: Thing, run: Run, behaviour: Behaviour) -> bool:
        lasted = (self.world.store.now - run.began).total_seconds()
        if not run.started:
            if not behaviour.probe:
                run.started = True
                return True
            return self._fail(spec, "startupProbe", "Startup", behaviour.probe, lasted)
        if behaviour.liveness and "livenessProbe" in spec:
            return self._fail(spec, "livenessProbe", "Liveness", behaviour.liveness, lasted)
        if "readinessProbe" not in spec:
            changed, run.serves = not run.serves, True
            return changed
        probe = spec["readinessProbe"]
        if behaviour.probe:
            self.event(spec, "Unhealthy", f"Readiness probe failed: {behaviour.probe}", warns=True)
            changed, run.serves = run.serves, False
            return changed
        if lasted < probe.get("initialDelaySeconds", 0):
            return False
        changed, run.serves = not run.serves, True
        return changed

    def _fail(self, spec: Thing, name: str, word: str, why: str, lasted: float) -> bool:
        """A startup or liveness probe that fails often enough ends the container."""
        probe = spec[name]
        self.event(spec, "Unhealthy", f"{word} probe failed: {why}", warns=True)
        if lasted < probe.get("initialDelaySeconds", 0) + probe["periodSeconds"] * probe["failureThreshold"]:
            return False
        self.event(spec, "Killing", f"Container {spec['name']} failed {word.lower()} probe, will be restarted")
        self.end(spec, 137, "Error")
        return True

    def end(self, spec: Thing, code: int, reason: str) -> None:
        run = self.run(spec["name"])
        run.serves = run.started = False
        message = self.behaviour(spec).message
        run.state = {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": run.state["running"]["startedAt"],
                "finishedAt": self.world.store.time(),
                "containerID": self.identity(spec["name"], run),
            }
            | ({"message": message} if message else {})
        }

    def _wait(self, spec: Thing, run: Run) -> bool:
        """After its end: at once the first time, later with growing pauses."""
        run.last, run.creating = run.state, 0
        metadata = self.pod["metadata"]
        pause = _BACK_OFFS[min(run.restarts, len(_BACK_OFFS) - 1)]
        who = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        if pause:
            length = f"{pause // 60}m{pause % 60}s" if pause >= 60 else f"{pause}s"
            said = f"back-off {length} restarting failed container={spec['name']} pod={who}"
            self._waiting(run, "CrashLoopBackOff", said)
            said = f"Back-off restarting failed container {spec['name']} in pod {who}"
            self.event(spec, "BackOff", said, warns=True)
        run.restarts += 1
        self._pause(run, run.restarts - 1)
        return self._start(spec, run, self.behaviour(spec)) if not pause else True

    def _pause(self, run: Run, times: int) -> None:
        seconds = _BACK_OFFS[min(times, len(_BACK_OFFS) - 1)]
        run.waits_until = self.world.store.now + dt.timedelta(seconds=seconds)

    def _waiting(self, run: Run, reason: str, message: str) -> None:
        run.state = {"waiting": {"reason": reason, "message": message}}

    def event(self, spec: Thing, reason: str, message: str, *, warns: bool = False) -> None:
        self.world.event(self.pod, reason, message, KUBELET, warns=warns)

    def identity(self, name: str, run: Run) -> str:
        said = f"{self.pod['metadata']['uid']}{name}{run.restarts}"
        return f"containerd://{hashlib.sha256(said.encode()).hexdigest()}"

    def status(self, spec: Thing, *, init: bool) -> Thing:
        run = self.run(spec["name"])
        image = spec["image"]
        has_run = bool(run.last) or "waiting" not in run.state
        digest = image if "@" in image else f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"
        return {
            "name": spec["name"],
            "state": run.state,
            "lastState": run.last,
            "ready": run.code == 0 if init else run.running and run.serves,
            "started": run.running and run.started,
            "restartCount": run.restarts,
            "image": image,
            "imageID": digest if has_run else "",
        } | ({"containerID": self.identity(spec["name"], run)} if "waiting" not in run.state else {})


def _references(spec: Thing) -> Iterator[tuple[Kind, str, str]]:
    """The Secrets and ConfigMaps, and their keys, without which a container cannot be made."""
    fields = {
        "secretKeyRef": kinds.SECRET,
        "configMapKeyRef": kinds.CONFIG_MAP,
        "secretRef": kinds.SECRET,
        "configMapRef": kinds.CONFIG_MAP,
    }
    for source in (*(one.get("valueFrom", {}) for one in spec.get("env", ())), *spec.get("envFrom", ())):
        for field, kind in fields.items():
            if field in source and not source[field].get("optional"):
                yield kind, source[field]["name"], source[field].get("key", "")
