"""The container that an instance becomes: a pure function from a launch to the Engine API's ``create`` body.

Everything that keeps a module in its place stands here: read-only root, no capability, no new privileges, a user of its
own, limits of memory, CPU and processes, no network, and of the host only the module's files, the folder of its socket,
its secrets and the accelerator's own device nodes. A batch job has two folders of the owner's in place of the socket's,
is the last to get the processor, and the first to go when memory runs out.
"""

from collections.abc import Iterable
from typing import Any, Final

from agent.engines.contract import MODULE_MOUNT, SECRETS_MOUNT, SOCKET, SOCKET_MOUNT, Launch
from modules.batch_program import INPUTS, OUTPUTS
from modules.names import DeviceId

USER: Final = 10001
TMP_MB: Final = 64
LABEL: Final = "edgefleet."
# A manifest of before may say 0, which an engine would take for no limit at all.
DEFAULT_MB: Final = 128
_MIB: Final = 1 << 20
_EMPTY: Final = {"SizeBytes": 4096, "Mode": 0o755}
_NANO: Final = 1_000_000_000
# The least weight that an engine takes, against 1024 of everybody else; and what the kernel ends first.
_LEAST_SHARES: Final = 2
_FIRST_TO_GO: Final = 1000


def container_name(device: DeviceId, installation: str, instance: str) -> str:
    """The container's name, for people: nothing is found by it, because anybody can rename a container.

    A dot separates, which no part has, so that no two installations can meet in one name.
    """
    return f"edgefleet.{device}.{installation}.{instance}"


def labels(device: DeviceId, installation: str, launch: Launch) -> dict[str, str]:
    """What the container is found by, and what is read back of it."""
    return {
        f"{LABEL}device": device,
        f"{LABEL}installation": installation,
        f"{LABEL}instance": launch.instance,
        f"{LABEL}slot": launch.slot,
        f"{LABEL}digest": launch.digest,
    }


def container_spec(
    device: DeviceId, installation: str, launch: Launch, *, image_id: str, volumes: Iterable[str] = ()
) -> dict[str, Any]:
    """The body of ``POST /containers/create``; ``volumes`` are those that the image's configuration declares.

    Raises:
        Invalid: the path of the socket is too long to be bound.
    """
    return {
        "Image": image_id,
        "User": f"{USER}:{launch.group}",
        **_program(launch),
        "Env": [f"{name}={value}" for name, value in launch.server_environment.items()],
        "Labels": labels(device, installation, launch),
        # The image's own check would run whatever its publisher wrote there, as often as he likes.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host(launch, volumes),
    }


def _program(launch: Launch) -> dict[str, Any]:
    if launch.task is not None:
        return {"Entrypoint": list(launch.task.command), "Cmd": list(launch.task.arguments)}
    _ = launch.socket
    return {"Cmd": ["--module", MODULE_MOUNT, "--unix", f"{SOCKET_MOUNT}/{SOCKET}"]}


def _host(launch: Launch, volumes: Iterable[str]) -> dict[str, Any]:
    file_bytes = launch.task.file_bytes if launch.task else TMP_MB * _MIB
    host: dict[str, Any] = {
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "NetworkMode": "none",
        # The same figure twice: no swap, so that the limit is the limit.
        "Memory": (launch.memory_mb or DEFAULT_MB) * _MIB,
        "MemorySwap": (launch.memory_mb or DEFAULT_MB) * _MIB,
        "PidsLimit": launch.pids,
        "Ulimits": [
            # What it can write of the host, the folder of its socket, is for a moment; this bounds each file there.
            {"Name": "fsize", "Soft": file_bytes, "Hard": file_bytes},
            # A core dump is written by the kernel, on the host, wherever the host's pattern says.
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "Tmpfs": {"/tmp": f"size={TMP_MB}m,noexec,nosuid,nodev,mode=1777"},  # noqa: S108 - inside the container
        "Mounts": [
            {"Type": "bind", "Source": launch.module_dir, "Target": MODULE_MOUNT, "ReadOnly": True},
            *_own(launch),
            *_secrets(launch),
            # A declared volume would be a folder of the host's disk, writable, executable and without a bound.
            *({"Type": "tmpfs", "Target": path, "ReadOnly": True, "TmpfsOptions": _EMPTY} for path in sorted(volumes)),
        ],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        # The agent supervises; an engine that restarted by itself would bring back what was rolled back.
        "RestartPolicy": {"Name": "no"},
    }
    if launch.task is not None:
        host |= {"CpuShares": _LEAST_SHARES, "OomScoreAdj": _FIRST_TO_GO}
    if launch.cpu_cores is not None:
        host["NanoCpus"] = int(launch.cpu_cores * _NANO)
    if launch.devices:
        host["Devices"] = [
            {"PathOnHost": node, "PathInContainer": node, "CgroupPermissions": "rw"} for node in launch.devices
        ]
    if launch.groups:
        host["GroupAdd"] = [str(group) for group in launch.groups]
    if launch.gpus:
        which = {"Count": -1} if launch.gpus == ("all",) else {"DeviceIDs": list(launch.gpus)}
        host["DeviceRequests"] = [{"Driver": "nvidia", "Capabilities": [["gpu"]], **which}]
    return host


def _own(launch: Launch) -> list[dict[str, Any]]:
    if (task := launch.task) is None:
        return [{"Type": "bind", "Source": launch.socket_dir, "Target": SOCKET_MOUNT, "ReadOnly": False}]
    return [
        {"Type": "bind", "Source": task.inputs, "Target": INPUTS, "ReadOnly": True},
        {"Type": "bind", "Source": task.outputs, "Target": OUTPUTS, "ReadOnly": False},
    ]


def _secrets(launch: Launch) -> list[dict[str, Any]]:
    # The folder, not its files: a new version of a file takes the old one's name.
    if not launch.secrets_dir:
        return []
    return [{"Type": "bind", "Source": launch.secrets_dir, "Target": SECRETS_MOUNT, "ReadOnly": True}]
