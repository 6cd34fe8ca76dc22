"""The containers of an endpoint, as bodies of the Engine API: pure functions.

A replica is held as a module on a device is (read-only root, no capability, a user and a network of its own); it
listens on TCP, because its gateway is in another container.
"""

import json
from typing import Any, Final, NamedTuple

from fleet.targets import batch_program
from fleet.targets.contract import Job
from fleet.targets.groups import PORT, Group
from fleet.targets.secret_files import MOUNT
from modules.batch_program import COMMAND, INPUTS, OUTPUTS
from modules.names import Slug
from modules.protocol.endpoint import CERTIFICATE, CERTIFICATE_KEY, KEYS, TABLE

LABEL: Final = "edgefleet.cloud."
#: of what stands here: another one replaces the containers of before
REVISION: Final = 1
USER: Final = 10001
#: where a replica finds its module and the key of its gateway
CONTENT: Final = "/edgefleet"
ACCESS: Final = "access.json"
#: where the gateway has its folder, and listens
DOOR: Final = "/door"
GATEWAY_PORT: Final = 8700
#: where, in that folder, gateways get the port of the host
HELD: Final = "port.sock"
_PIDS: Final = 128
_MIB: Final = 1 << 20
_GATEWAY_MB: Final = 512
_KEEPER_MB: Final = 64
# What answers that are owed have where the host goes down.
_GOES_DOWN_S: Final = 35
# Longer than any endpoint's answer may take: how long the answers that are owed have, the engine is told at the end.
_DRAIN_S: Final = 2 * 3600
_NANO: Final = 1_000_000_000
_LOG: Final = {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}


class Kept(NamedTuple):
    """Secrets in memory: ``name`` is their volume, and the container that keeps it there once it has them.

    Until then that is called ``giving``.
    """

    name: str
    giving: str
    labels: dict[str, str]


class Names:
    """What the parts of one endpoint are called; dots separate, which no part has.

    Args:
        fleet: the fleet's mark, so that two fleets can share a host.
        endpoint: the endpoint's name.
    """

    def __init__(self, fleet: str, endpoint: Slug) -> None:
        self.whole = f"edgefleet.{fleet}.{endpoint}"
        self.door = f"{self.whole}.door"
        self.labels = {f"{LABEL}fleet": fleet, f"{LABEL}endpoint": endpoint}

    def keeper(self, port: int) -> str:
        """What holds a port of the host for it."""
        return f"{self.whole}.port.{port}"

    def gateway(self, made: str) -> str:
        """A gateway, by a hash of what it is made of: the next one starts beside the one of before."""
        return f"{self.whole}.gateway.{made}"

    def replica(self, group: str, number: int) -> str:
        return f"{self.whole}.{group}.{number}"

    def content(self, group: str) -> str:
        """The volume with a group's files, and the container that holds it once it is filled."""
        return f"{self.whole}.{group}.content"

    def filling(self, group: str) -> str:
        return f"{self.whole}.{group}.filling"

    def secrets(self, group: str) -> Kept:
        """A group's secrets."""
        labels = self.labels | _part("secrets", group, 0)
        return Kept(f"{self.whole}.{group}.secrets", f"{self.whole}.{group}.giving", labels)


class JobNames:
    """What the parts of one batch job are called, as :class:`Names`."""

    def __init__(self, fleet: str, job: Slug) -> None:
        self.job = f"edgefleet.{fleet}.{job}.job"
        self.content = f"{self.job}.content"
        self.filling = f"{self.job}.filling"
        self.labels = {f"{LABEL}fleet": fleet, f"{LABEL}job": job}
        self.secrets = Kept(f"{self.job}.secrets", f"{self.job}.giving", self.labels | _part("secrets", "", 0))


def replica(
    names: Names, group: Group, number: int, *, image: str, cpu_cores: float, providers: tuple[str, ...],
    volumes: tuple[str, ...], secrets: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """A scoring server with one group's files.

    Args:
        names: of the endpoint.
        group: which it belongs to.
        number: its own in the group, from 0.
        image: the image's id.
        cpu_cores: its share of the host's.
        providers: of the chosen runtime.
        volumes: paths at which the image asks for volumes of the host's disk, and gets none.
        secrets: whether it has some.
    """
    return {
        "Image": image,
        "User": f"{USER}:{USER}",
        "Cmd": ["--module", f"{CONTENT}/module", "--host", "0.0.0.0", "--port", str(PORT)],
        "Env": [
            # onnxruntime sends telemetry by default, and reads this before its first import.
            "ORT_DISABLE_TELEMETRY=1",
            f"EDGEFLEET_PROVIDERS={json.dumps(providers)}",
            f"EDGEFLEET_ACCESS_FILE={CONTENT}/{ACCESS}",
            f'EDGEFLEET_LIMITS={{"drain_s": {_DRAIN_S}}}',
        ],
        "Labels": names.labels | _part("replica", group.name, number),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _confined(group.memory_mb)
        | {
            "NanoCpus": int(cpu_cores * _NANO),
            "NetworkMode": names.whole,
            "RestartPolicy": {"Name": "unless-stopped"},
            "Mounts": [
                {"Type": "volume", "Source": names.content(group.name), "Target": CONTENT, "ReadOnly": True},
                *_given(names.secrets(group.name) if secrets else None),
                *_nothing_at(volumes, secrets=secrets),
            ],
        },
    }


def secret_keeper(kept: Kept, *, image: str) -> dict[str, Any]:
    """A container that does nothing but keep the memory in which secrets lie, whatever those do that read them."""
    return {
        "Image": image,
        "User": f"{USER}:{USER}",
        "Entrypoint": ["python", "-c", "import signal; signal.pause()"],
        "Cmd": [],
        # As the first of its container, it would not hear SIGTERM.
        "StopSignal": "SIGKILL",
        "Labels": kept.labels,
        "Healthcheck": {"Test": ["NONE"]},
        # Started again by the engine it would keep an empty folder, and look as if all were well.
        "HostConfig": _confined(_KEEPER_MB) | {"NetworkMode": "none", "Mounts": [_secrets(kept)]},
    }


def _given(kept: Kept | None) -> list[dict[str, Any]]:
    """Where a module reads its secrets, if it has some."""
    return [] if kept is None else [_secrets(kept) | {"ReadOnly": True}]


def _secrets(kept: Kept) -> dict[str, Any]:
    """A volume in the host's memory: it is empty again once no container uses it."""
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size=1m,nosuid,nodev,noexec,mode=0550,uid={USER},gid={USER}"}
    return {
        "Type": "volume",
        "Source": kept.name,
        "Target": MOUNT,
        "VolumeOptions": {
            "NoCopy": True,
            "Labels": kept.labels,
            "DriverConfig": {"Name": "local", "Options": options},
        },
    }


def job(
    names: JobNames, wanted: Job, *, image: str, memory_mb: int, providers: tuple[str, ...], volumes: tuple[str, ...]
) -> dict[str, Any]:
    """A batch run: a scoring image without a network, that reads one place of the host and writes another.

    Args:
        names: of the job.
        wanted: the job.
        image: the image's id.
        memory_mb: for all its workers.
        providers: of the chosen runtime.
        volumes: as :func:`replica`.
    """
    settings = wanted.settings
    return {
        "Image": image,
        "User": f"{USER}:{USER}",
        "Entrypoint": list(COMMAND),
        "Cmd": batch_program.arguments(wanted, module=f"{CONTENT}/module"),
        "Env": ["ORT_DISABLE_TELEMETRY=1", f"EDGEFLEET_PROVIDERS={json.dumps(providers)}"],
        "Labels": names.labels | _part("job", "", 0) | {f"{LABEL}made": wanted.mark},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _confined(memory_mb)
        | {
            "NanoCpus": int(settings.cpu_cores * _NANO),
            "NetworkMode": "none",
            "PidsLimit": _PIDS * (1 + settings.workers),
            "Mounts": [
                {"Type": "volume", "Source": names.content, "Target": CONTENT, "ReadOnly": True},
                _place(wanted.inputs, INPUTS) | {"ReadOnly": True},
                _place(wanted.outputs, OUTPUTS),
                *_given(names.secrets if wanted.secrets else None),
                *_nothing_at(volumes, secrets=bool(wanted.secrets)),
            ],
        },
    }


def _place(name: str, target: str) -> dict[str, Any]:
    """A folder of the host, or a volume."""
    if name.startswith("/"):
        return {"Type": "bind", "Source": name, "Target": target}
    return {"Type": "volume", "Source": name, "Target": target, "VolumeOptions": {"NoCopy": True}}


def _nothing_at(volumes: tuple[str, ...], *, secrets: bool) -> list[dict[str, Any]]:
    return [
        {"Type": "tmpfs", "Target": path, "ReadOnly": True, "TmpfsOptions": {"SizeBytes": 4096}}
        for path in sorted(volumes)
        if not (secrets and path == MOUNT)
    ]


def filler(names: Names, group: str, *, image: str) -> dict[str, Any]:
    """A container that never starts: files reach a volume through it, and it keeps the volume."""
    return _filler(names.content(group), names.labels | _part("content", group, 0), image)


def job_filler(names: JobNames, *, image: str) -> dict[str, Any]:
    """The same for the files of a batch job."""
    return _filler(names.content, names.labels | _part("content", "", 0), image)


def _filler(volume: str, labels: dict[str, str], image: str) -> dict[str, Any]:
    return {
        "Image": image,
        "Cmd": ["never"],
        "Labels": labels,
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [{
                "Type": "volume", "Source": volume, "Target": CONTENT,
                "VolumeOptions": {"NoCopy": True, "Labels": labels},
            }],
        },
    }  # fmt: skip


def network(names: Names) -> dict[str, Any]:
    """The network of replicas and gateways: nothing leads out of it."""
    # Without it the host itself has an address in there, and answers.
    options = {"com.docker.network.bridge.inhibit_ipv4": "true"}
    return {"driver": "bridge", "internal": True, "labels": names.labels, "options": options}


def keeper(names: Names, *, image: str, made: str, bind: str, port: int) -> dict[str, Any]:
    """What holds the endpoint's port of the host and gives it to gateways: it alone is in the host's usual network.

    Args:
        names: of the endpoint.
        image: name or id of the gateway's image.
        made: a hash of what it was made of.
        bind: the address of the host at which it listens.
        port: the port there; 0: any free one.
    """
    return {
        "Image": image,
        "User": f"{USER}:{USER}",
        "Entrypoint": ["python", "-m", "agent.gateway.keeper"],
        "Cmd": ["--listen", f"0.0.0.0:{GATEWAY_PORT}", "--give", f"{DOOR}/{HELD}", "--stay-s", str(_DRAIN_S)],
        "Labels": names.labels | _part("keeper", "", 0) | {f"{LABEL}made": made},
        "ExposedPorts": {f"{GATEWAY_PORT}/tcp": {}},
        "Healthcheck": {"Test": ["NONE"]},
        "StopTimeout": _GOES_DOWN_S,
        "HostConfig": _confined(_KEEPER_MB)
        | {
            "RestartPolicy": {"Name": "unless-stopped"},
            "PortBindings": {f"{GATEWAY_PORT}/tcp": [{"HostIp": bind, "HostPort": str(port or "")}]},
            "Mounts": [_door(names)],
        },
    }


def gateway(names: Names, *, image: str, made: str, tls: bool) -> dict[str, Any]:
    """A gateway: it has the replicas' network alone, and the endpoint's port from the keeper.

    Args:
        names: of the endpoint.
        image: name or id of the gateway's image.
        made: a hash of what it was made of.
        tls: whether it speaks TLS.
    """
    secure = ["--tls-certificate", f"{DOOR}/{CERTIFICATE}", "--tls-key", f"{DOOR}/{CERTIFICATE_KEY}"] if tls else []
    files = ["--table", f"{DOOR}/{TABLE}", "--access", f"{DOOR}/{KEYS}", "--held-port", f"{DOOR}/{HELD}"]
    # Its own address is for whoever asks it how it stands.
    own = ["--listen", f"127.0.0.1:{GATEWAY_PORT}", "--drain-s", str(_DRAIN_S)]
    return {
        "Image": image,
        "User": f"{USER}:{USER}",
        "Entrypoint": ["python", "-m", "agent.gateway"],
        "Cmd": [*files, *own, *secure],
        "Labels": names.labels | _part("gateway", "", 0) | {f"{LABEL}made": made},
        "Healthcheck": {"Test": ["NONE"]},
        "StopTimeout": _GOES_DOWN_S,
        "HostConfig": _confined(_GATEWAY_MB)
        | {
            "NetworkMode": names.whole,
            "RestartPolicy": {"Name": "unless-stopped"},
            "Mounts": [_door(names)],
        },
    }


def _door(names: Names) -> dict[str, Any]:
    return {"Type": "volume", "Source": names.door, "Target": DOOR, "VolumeOptions": {"Labels": names.labels}}


def _part(part: str, group: str, number: int) -> dict[str, str]:
    return {f"{LABEL}part": part, f"{LABEL}group": group, f"{LABEL}number": str(number)}


def _confined(memory_mb: int) -> dict[str, Any]:
    return {
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Memory": memory_mb * _MIB,
        "MemorySwap": memory_mb * _MIB,
        "PidsLimit": 256,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "Tmpfs": {"/tmp": "size=64m,noexec,nosuid,nodev,mode=1777"},  # noqa: S108 - inside the container
        "LogConfig": _LOG,
    }
