"""The pods of endpoints and batch jobs, as the cluster takes them: pure functions.

All of them keep to the restricted pod security standard, and have no token of the cluster. A replica gets its module
from the fleet server by an init program, which verifies it as a device does, and is started only by its samples: its
startup probe asks them all.
"""

import json
import math
from typing import Any, Final

from fleet.targets import batch_program
from fleet.targets.container.specs import ACCESS, CONTENT, DOOR, GATEWAY_PORT, LABEL, USER
from fleet.targets.contract import Job, Module, WantedVersion
from fleet.targets.groups import PORT
from fleet.targets.kubernetes.attached import Attached, tolerations
from fleet.targets.kubernetes.names import TABLE_OF
from fleet.targets.secret_files import MOUNT
from fleet.targets.settings import Settings
from modules.batch_program import COMMAND, INPUTS, OUTPUTS
from modules.images import archive_tag
from modules.manifest import Runtime
from modules.protocol.content import MODULE
from modules.protocol.content import SETTINGS as CONTENT_FILE
from modules.protocol.endpoint import CERTIFICATE, CERTIFICATE_KEY, KEYS, TABLE

SETTINGS: Final = "/edgefleet-settings"
#: an ended pod lets requests finish for 30 s; before, it waits until nobody is sent to it any more
LEAVES_S: Final = 5
GRACE_S: Final = 35
INIT: Final = "content"
REPLICA: Final = "scoring"
GATEWAY: Final = "gateway"
SECRETS: Final = "secrets"
BATCH: Final = "batch"
# A pod whose node went away still has a job's state, until that node or the storage says that it is over.
_PATIENCE_S: Final = 600
# What the program takes that asks a replica its samples, beside the module's own memory.
_PROVER_MB: Final = 64
_INIT_MB: Final = 256
_INIT_CORES: Final = 0.05
_GATEWAY_MB: Final = 512
_SPARE_BYTES: Final = 16 << 20
_GPU: Final = "nvidia.com/gpu"
_ARCHITECTURE: Final = "kubernetes.io/arch"
_SYSTEM: Final = "kubernetes.io/os"
_CONFINED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def room_bytes(module: Module) -> int:
    """How much a module's files may take, in bytes."""
    return sum(one.length for one in module.manifest.files) + _SPARE_BYTES


def replica(
    attached: Attached, version: WantedVersion, runtime: Runtime, settings: Settings, *, memory_mb: int,
    secrets: str = "",
) -> dict[str, Any]:  # fmt: skip
    """The pod of a replica without what names its group, which follows from it.

    Args:
        attached: how the target was attached.
        version: whose module it serves.
        runtime: of the module, with an image.
        settings: of the endpoint.
        memory_mb: what the module may use.
        secrets: what tells its secrets from others; empty: it has none.
    """
    proof = version.module.manifest.proof
    cpu, memory = _cpu(settings.cpu_cores), f"{memory_mb + _PROVER_MB}Mi"
    gpu = {_GPU: "1"} if runtime.accelerator == "nvidia" else {}
    often = {"periodSeconds": settings.probe_period_s, "timeoutSeconds": settings.probe_timeout_s}
    patience = {"failureThreshold": settings.probe_failures}
    proving_s = max(settings.probe_timeout_s, math.ceil(proof.ready_within_s))
    prove = ["python", "-m", "modules.scoring.prove", f"{CONTENT}/{MODULE}"]
    container = {
        "name": REPLICA,
        "image": image(attached, runtime),
        "imagePullPolicy": _policy(attached),
        "args": ["--module", f"{CONTENT}/{MODULE}", "--host", "0.0.0.0", "--port", str(PORT)],
        "env": [
            {"name": "EDGEFLEET_ACCESS_FILE", "value": f"{CONTENT}/{ACCESS}"},
            {"name": "EDGEFLEET_PROVIDERS", "value": json.dumps(runtime.providers)},
            # onnxruntime sends telemetry by default, and reads this before its first import.
            {"name": "ORT_DISABLE_TELEMETRY", "value": "1"},
        ],
        "ports": [{"name": "score", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": cpu, "memory": memory} | gpu, "limits": {"cpu": cpu, "memory": memory} | gpu},
        "securityContext": _CONFINED,
        "lifecycle": _leaves(),
        # Done means that it answers its samples rightly, here.
        "startupProbe": {
            "exec": {"command": [*prove, "--port", str(PORT), "--access", f"{CONTENT}/{ACCESS}"]},
            "initialDelaySeconds": settings.probe_delay_s,
            "periodSeconds": settings.probe_period_s,
            "timeoutSeconds": proving_s,
            "failureThreshold": max(settings.probe_failures, math.ceil(proving_s / settings.probe_period_s)),
        },
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": PORT}}
        | often | patience | {"successThreshold": settings.probe_successes},
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": PORT}} | often | patience,
        "volumeMounts": [
            {"name": "content", "mountPath": CONTENT, "readOnly": True}, _temporary(), *_secrets(there=bool(secrets))
        ],
    }  # fmt: skip
    spec = _pod(attached) | {
        "initContainers": [_getting(attached, settings.cpu_cores)],
        "containers": [container],
        "volumes": [_content(version.module), _temporary_volume()],
    }
    annotations = _annotations(version.module) | ({f"{LABEL}secrets": secrets} if secrets else {})
    return {"metadata": {"annotations": annotations}, "spec": spec}


def batch(attached: Attached, job: Job, runtime: Runtime) -> dict[str, Any]:
    """The pod of a batch job without its names: one place of the target is read, another is written.

    Args:
        attached: how the target was attached.
        job: the job.
        runtime: of its module, with an image.
    """
    cpu, memory = _cpu(job.settings.cpu_cores), f"{batch_program.memory_mb(job)}Mi"
    gpu = {_GPU: "1"} if runtime.accelerator == "nvidia" else {}
    (claim, inputs), (written, outputs) = (place.partition("/")[::2] for place in (job.inputs, job.outputs))
    # A claim has one volume in a pod: not every cluster mounts one twice.
    read = "outputs" if claim == written else "inputs"
    container = {
        "name": BATCH,
        "image": image(attached, runtime),
        "imagePullPolicy": _policy(attached),
        "command": list(COMMAND),
        "args": [
            *batch_program.arguments(job, module=f"{CONTENT}/{MODULE}"),
            f"--patience={_PATIENCE_S}",
            # Which of them a pod is, the cluster tells it.
            *([f"--parts={job.settings.pods}"] if job.settings.pods > 1 else ()),
        ],
        "env": [
            {"name": "EDGEFLEET_PROVIDERS", "value": json.dumps(runtime.providers)},
            {"name": "ORT_DISABLE_TELEMETRY", "value": "1"},
        ],
        "resources": {"requests": {"cpu": cpu, "memory": memory} | gpu, "limits": {"cpu": cpu, "memory": memory} | gpu},
        "securityContext": _CONFINED,
        "volumeMounts": [
            {"name": "content", "mountPath": CONTENT, "readOnly": True},
            {"name": read, "mountPath": INPUTS, "readOnly": True} | ({"subPath": inputs} if inputs else {}),
            {"name": "outputs", "mountPath": OUTPUTS} | ({"subPath": outputs} if outputs else {}),
            _temporary(),
            *_secrets(there=bool(job.secrets)),
        ],
    }
    volumes = [_content(job.module), {"name": "outputs", "persistentVolumeClaim": {"claimName": written}}]
    if claim != written:
        volumes.append({"name": "inputs", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    spec = _pod(attached) | {
        # The cluster starts another pod, so that each end has its own state and log.
        "restartPolicy": "Never",
        "initContainers": [_getting(attached, job.settings.cpu_cores)],
        "containers": [container],
        "volumes": [*volumes, _temporary_volume()],
    }
    # Not over all files at each start: there may be millions.
    spec["securityContext"] = spec["securityContext"] | {"fsGroupChangePolicy": "OnRootMismatch"}
    return {"metadata": {"annotations": _annotations(job.module)}, "spec": spec}


def _getting(attached: Attached, cores: float) -> dict[str, Any]:
    """The init program, which fetches and verifies the module."""
    return {
        "name": INIT,
        "image": attached.gateway_image,
        "imagePullPolicy": _policy(attached),
        "command": ["python", "-m", "agent.content"],
        "args": ["--settings", f"{SETTINGS}/{CONTENT_FILE}", "--to", CONTENT],
        "resources": {
            "requests": {"cpu": _cpu(min(_INIT_CORES, cores)), "memory": "64Mi"},
            "limits": {"cpu": _cpu(cores), "memory": f"{_INIT_MB}Mi"},
        },
        "securityContext": _CONFINED,
        "volumeMounts": [
            {"name": "settings", "mountPath": SETTINGS, "readOnly": True},
            {"name": "content", "mountPath": CONTENT},
            _temporary(),
        ],
    }


def _content(module: Module) -> dict[str, Any]:
    return {"name": "content", "emptyDir": {"sizeLimit": str(room_bytes(module) + _SPARE_BYTES)}}


def _secrets(*, there: bool) -> list[dict[str, Any]]:
    """Where a module reads its secrets, if it has some."""
    return [{"name": SECRETS, "mountPath": MOUNT, "readOnly": True}] if there else []


def secrets(secret: str) -> dict[str, Any]:
    """The volume with a module's secrets."""
    return {"name": SECRETS, "secret": {"secretName": secret, "defaultMode": 0o440}}


def settings(secret: str) -> dict[str, Any]:
    """The volume with what the init program is told."""
    return {"name": "settings", "secret": {"secretName": secret, "defaultMode": 0o440}}


def _annotations(module: Module) -> dict[str, str]:
    return {f"{LABEL}module": str(module.manifest.ref), f"{LABEL}digest": module.digest}


def gateway(attached: Attached, *, secret: str, secure: bool) -> dict[str, Any]:
    """The gateway's pod.

    Args:
        attached: how the target was attached.
        secret: the name of the Secret with its table, its keys and its certificate.
        secure: whether it speaks TLS.
    """
    tls = ["--tls-certificate", f"{DOOR}/{CERTIFICATE}", "--tls-key", f"{DOOR}/{CERTIFICATE_KEY}"] if secure else []
    container = {
        "name": GATEWAY,
        "image": attached.gateway_image,
        "imagePullPolicy": _policy(attached),
        "command": ["python", "-m", "agent.gateway"],
        "args": [
            *("--table", f"{DOOR}/{TABLE}", "--access", f"{DOOR}/{KEYS}"),
            *("--listen", f"0.0.0.0:{GATEWAY_PORT}", *tls),
        ],
        "ports": [{"name": GATEWAY, "containerPort": GATEWAY_PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "100m", "memory": "96Mi"}, "limits": {"memory": f"{_GATEWAY_MB}Mi"}},
        "securityContext": _CONFINED,
        "lifecycle": _leaves(),
        # Whether it listens: what stands behind it is no reason to end it, or to hide its own answers.
        "readinessProbe": {"tcpSocket": {"port": GATEWAY_PORT}, "periodSeconds": 2},
        "livenessProbe": {"tcpSocket": {"port": GATEWAY_PORT}, "periodSeconds": 10},
        "volumeMounts": [{"name": "door", "mountPath": DOOR, "readOnly": True}, _temporary()],
    }
    door = {"name": "door", "secret": {"secretName": secret, "defaultMode": 0o440}}
    spec = _pod(attached) | {"containers": [container], "volumes": [door, _temporary_volume()]}
    return {"metadata": {"annotations": {TABLE_OF: secret}}, "spec": spec}


def image(attached: Attached, runtime: Runtime) -> str:
    """A module's image as nodes find it: in the registry by digest, or as ``edgefleet images save`` names it."""
    assert runtime.image is not None  # noqa: S101 - for mypy: none is chosen without
    if attached.images == "present":
        return archive_tag(runtime.image)
    return f"{attached.registry}@{runtime.image.manifest.sha256}"


def spread(labels: dict[str, str]) -> list[dict[str, Any]]:
    """Pods with these labels lie on different nodes, where there are."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels},
        }
    ]


def _pod(attached: Attached) -> dict[str, Any]:
    system, _, machine = attached.platform.partition("/")
    found: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": LEAVES_S + GRACE_S,
        "nodeSelector": {_SYSTEM: system, _ARCHITECTURE: machine} | attached.node_selector,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if attached.tolerations:
        found["tolerations"] = tolerations(attached)
    if attached.runtime_class:
        found["runtimeClassName"] = attached.runtime_class
    if attached.image_pull_secret:
        found["imagePullSecrets"] = [{"name": attached.image_pull_secret}]
    return found


def _policy(attached: Attached) -> str:
    # What lies on the node is under a name that no registry has.
    return "Never" if attached.images == "present" else "IfNotPresent"


def _leaves() -> dict[str, Any]:
    # The image has Python for sure, and the cluster's own sleep is newer than many clusters.
    return {"preStop": {"exec": {"command": ["python", "-c", f"import time; time.sleep({LEAVES_S})"]}}}


def _cpu(cores: float) -> str:
    return f"{max(1, round(cores * 1000))}m"


def _temporary() -> dict[str, Any]:
    return {"name": "temporary", "mountPath": "/tmp"}  # noqa: S108 - inside the container


def _temporary_volume() -> dict[str, Any]:
    return {"name": "temporary", "emptyDir": {"sizeLimit": "64Mi"}}
