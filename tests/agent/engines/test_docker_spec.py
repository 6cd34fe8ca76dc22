"""What a container is given, by the words that an engine reads: each of them keeps a module in its place."""

import msgspec
import pytest

from agent.engines.contract import Launch
from agent.engines.docker_spec import container_name, container_spec
from modules.digests import sha256
from modules.errors import BadSettings
from modules.manifest import Runtime
from modules.names import device_id

DEVICE = device_id("device-1")
PLAIN = Launch(
    instance="camera-01234567-1",
    slot="camera",
    digest=sha256(b"module"),
    module_dir="/state/modules/0",
    socket_dir="/run/0",
    runtime=Runtime(),
    providers=("CPUExecutionProvider",),
    memory_mb=64,
    group=4711,
)
MIB = 1024 * 1024


def spec(**changes):
    volumes = changes.pop("volumes", ())
    launch = msgspec.structs.replace(PLAIN, **changes)
    return container_spec(DEVICE, "0123456789ab", launch, image_id="sha256:00", volumes=volumes)


def host(**changes):
    return spec(**changes)["HostConfig"]


def test_a_plain_module_gets_this_and_nothing_else():
    """The whole container: what is not written here it has not, and nothing of it may be lost."""
    assert spec() == {
        "Image": "sha256:00",
        "User": "10001:4711",
        "Cmd": ["--module", "/module", "--unix", "/run/edgefleet/s.sock"],
        "Env": ["ORT_DISABLE_TELEMETRY=1", 'EDGEFLEET_PROVIDERS=["CPUExecutionProvider"]'],
        "Labels": {
            "edgefleet.device": "device-1",
            "edgefleet.installation": "0123456789ab",
            "edgefleet.instance": "camera-01234567-1",
            "edgefleet.slot": "camera",
            "edgefleet.digest": PLAIN.digest,
        },
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "NetworkMode": "none",
            "Memory": 64 * MIB,
            "MemorySwap": 64 * MIB,
            "PidsLimit": 128,
            "Ulimits": [
                {"Name": "fsize", "Soft": 64 * MIB, "Hard": 64 * MIB},
                {"Name": "core", "Soft": 0, "Hard": 0},
            ],
            "Tmpfs": {"/tmp": "size=64m,noexec,nosuid,nodev,mode=1777"},
            "Mounts": [
                {"Type": "bind", "Source": "/state/modules/0", "Target": "/module", "ReadOnly": True},
                {"Type": "bind", "Source": "/run/0", "Target": "/run/edgefleet", "ReadOnly": False},
            ],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
            "RestartPolicy": {"Name": "no"},
        },
    }


def test_a_name_tells_device_installation_and_instance_apart():
    """By dots, which none of the parts has."""
    assert container_name(DEVICE, "0123456789ab", "camera-1") == "edgefleet.device-1.0123456789ab.camera-1"


def test_no_module_is_without_a_limit_of_memory():
    """An engine takes 0 for no limit, so that a manifest that says 0 gets what is usual, without swap."""
    assert (host(memory_mb=0)["Memory"], host(memory_mb=0)["MemorySwap"]) == (128 * MIB, 128 * MIB)


def test_cpu_is_given_in_parts_of_a_core():
    """In billionths, as the engine counts."""
    assert host(cpu_cores=1.5)["NanoCpus"] == 1_500_000_000


def test_a_module_gets_the_devices_of_its_accelerator_only():
    """The nodes by their paths, to read and to write, and the groups that own them; no node can be made."""
    given = host(devices=("/dev/dri/renderD128",), groups=(44, 109))
    node = "/dev/dri/renderD128"
    assert given["Devices"] == [{"PathOnHost": node, "PathInContainer": node, "CgroupPermissions": "rw"}]
    assert given["GroupAdd"] == ["44", "109"]


@pytest.mark.parametrize(
    ("gpus", "which"), [(("all",), {"Count": -1}), (("GPU-1", "GPU-2"), {"DeviceIDs": ["GPU-1", "GPU-2"]})]
)
def test_a_module_gets_the_gpus_that_were_chosen(gpus, which):
    """All of them, or those of the ids, from NVIDIA's toolkit."""
    assert host(gpus=gpus)["DeviceRequests"] == [{"Driver": "nvidia", "Capabilities": [["gpu"]], **which}]


def test_a_volume_that_an_image_declares_is_covered():
    """With an empty folder that cannot be written: it would be a folder of the host's disk without a bound."""
    covered = host(volumes=("/more", "/data"))["Mounts"][2:]
    empty = {"SizeBytes": 4096, "Mode": 0o755}
    assert covered == [
        {"Type": "tmpfs", "Target": path, "ReadOnly": True, "TmpfsOptions": empty} for path in ("/data", "/more")
    ]


def test_a_socket_that_cannot_be_bound_is_the_settings_fault():
    """It is said before an engine makes a container that could never answer."""
    with pytest.raises(BadSettings, match="at most 107 bytes"):
        spec(socket_dir="/" + "x" * 107)
