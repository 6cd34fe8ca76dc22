import asyncio
import io
import json
import os
import socket
import stat
import tempfile
from pathlib import Path

import msgspec
import pytest

from agent.engines.contract import Launch
from agent.engines.docker_spec import container_name, container_spec
from agent.secret_files import write
from modules.digests import measure_bytes
from modules.errors import BadSettings, NotReady, Untrusted
from modules.image_import import import_archive
from modules.manifest import Runtime
from modules.names import device_id
from tests.parts import docker as parts
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("docker")

INSTALLATION = "0123456789ab"

# Says how often it was signalled, and what it then reads.
COUNTS = """
import pathlib, signal
seen = 0
def again(*_):
    global seen
    seen += 1
    print(seen, pathlib.Path("/run/secrets/token").read_text(), flush=True)
signal.signal(signal.SIGHUP, again)
signal.signal(signal.SIGTERM, lambda *_: exit(0))
print("ready", flush=True)
while True:
    signal.pause()
"""
HELLO = "print('hello', flush=True)\nimport signal\nsignal.signal(signal.SIGTERM, lambda *_: exit(0))\nsignal.pause()\n"
LOOK = """
import json, os, socket
def tries(what):
    try:
        what()
    except OSError as error:
        return error.strerror
    return "allowed"
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "user": os.getuid(), "group": os.getgid(),
    "capabilities": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "root": tries(lambda: open("/written", "w")),
    "module": tries(lambda: open("/module/written", "w")),
    "tmp": tries(lambda: open("/tmp/written", "w")),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "connect": tries(lambda: socket.create_connection(("192.0.2.1", 80), timeout=5)),
    "tmp_mount": next(line for line in open("/proc/mounts") if " /tmp " in line).split()[3],
    "environment": dict(os.environ),
}))
"""
FORKS = """
import os, signal
try:
    while True:
        if not os.fork():
            signal.pause()
except OSError as error:
    print(error.strerror)
"""


class TestLife:
    async def test_an_instance_starts_shows_and_goes(self, docker_engine, launch, said):
        """A started instance is listed with its labels, speaks in its log, and leaves nothing when stopped."""
        wanted = launch(HELLO)

        started = await docker_engine.start(wanted)
        said(wanted.instance)

        assert (started.state, started.slot, started.digest, started.exit_code) == (
            "running",
            "camera",
            wanted.digest,
            None,
        )
        assert started.started_at > 1_700_000_000
        assert started.image in {wanted.runtime.image.config.sha256, wanted.runtime.image.manifest.sha256}
        assert await docker_engine.list() == [started]
        assert await docker_engine.logs(wanted.instance, tail_bytes=1000) == "hello\n"
        await docker_engine.stop(wanted.instance, grace_s=10)
        assert await docker_engine.list() == []
        assert await docker_engine.logs(wanted.instance, tail_bytes=1000) == ""

    async def test_stop_is_idempotent(self, docker_engine):
        """Stopping what is not there is fine."""
        await docker_engine.stop("camera-01234567-9", grace_s=1)

    async def test_start_is_idempotent(self, docker_engine, launch, said):
        """Starting what runs already, after an agent forgot that it did, gives the same instance."""
        first = await docker_engine.start(launch(HELLO))

        assert await docker_engine.start(launch(HELLO)) == first

    async def test_leftover_is_replaced(self, docker_engine, launch, ended):
        """An ended container of the same name is no obstacle to a start."""
        await docker_engine.start(launch("exit(1)"))
        ended("camera-01234567-1")

        again = await docker_engine.start(launch(HELLO))

        assert again.state == "running"

    async def test_exit_code(self, docker_engine, launch, ended):
        """A program's own end shows with its exit code, and is no lack of memory."""
        await docker_engine.start(launch("exit(3)"))
        ended("camera-01234567-1")

        (instance,) = await docker_engine.list()

        assert (instance.state, instance.exit_code, instance.oom) == ("exited", 3, False)

    async def test_out_of_memory(self, docker_engine, launch, ended):
        """A program that takes more than its limit is ended by the kernel, and shows as that."""
        await docker_engine.start(launch("x = bytearray(200 << 20)", memory_mb=32))
        ended("camera-01234567-1")

        # On a busy machine the engine hears of the end first, and then of why.
        for _ in range(100):
            (instance,) = await docker_engine.list()
            if instance.oom:
                break
            await asyncio.sleep(0.05)

        assert (instance.state, instance.exit_code, instance.oom) == ("exited", 137, True)
        assert instance.detail == "out of memory"

    async def test_usage(self, docker_engine, launch, said):
        """Memory is measured in MiB, and a stopped instance has none."""
        program = f"x = b'x' * (20 << 20)\n{HELLO}"
        await docker_engine.start(launch(program))
        said("camera-01234567-1")

        usage = await docker_engine.usage("camera-01234567-1")

        assert 20 < usage.memory_mb < 60
        assert usage.cpu_s > 0
        assert usage.tasks >= 1
        await docker_engine.stop("camera-01234567-1", grace_s=10)
        assert await docker_engine.usage("camera-01234567-1") is None

    async def test_long_log(self, docker_engine, launch, ended):
        """Of a long log the end is given, no longer than asked for, stdout and stderr alike."""
        await docker_engine.start(
            launch("import sys\nfor i in range(2000): print(i)\nsys.stdout.flush()\nsys.stderr.write('end')")
        )
        ended("camera-01234567-1")

        log = await docker_engine.logs("camera-01234567-1", tail_bytes=30)

        assert len(log) == 30
        assert "1999" in log
        assert "end" in log


class TestIsolation:
    async def test_what_a_module_can_do(self, docker_engine, launch, ended):
        """No capability, no new privilege, own user, nothing of the file system writable but /tmp, no network."""
        wanted = launch(LOOK, group=4711)
        await docker_engine.start(wanted)
        ended(wanted.instance)

        seen = json.loads(await docker_engine.logs(wanted.instance, tail_bytes=20_000))

        assert (seen["user"], seen["group"]) == (10001, 4711)
        assert seen["capabilities"] == [0, 0, 0]
        assert seen["no_new_privileges"] == "1"
        assert seen["root"] == seen["module"] == "Read-only file system"
        assert seen["tmp"] == "allowed"
        assert {"noexec", "nosuid", "nodev"} <= set(seen["tmp_mount"].split(","))
        assert seen["interfaces"] == ["lo"]
        assert seen["connect"] == "Network is unreachable"

    async def test_what_a_module_is_told(self, docker_engine, launch, ended):
        """Providers and settings reach the server, and telemetry stays off whatever the launch says."""
        wanted = launch(
            LOOK,
            providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
            settings={"log_level": "debug"},
            environment={"ORT_DISABLE_TELEMETRY": "0", "SITE": "north"},
        )
        await docker_engine.start(wanted)
        ended(wanted.instance)

        told = json.loads(await docker_engine.logs(wanted.instance, tail_bytes=20_000))["environment"]

        assert json.loads(told["EDGEFLEET_PROVIDERS"]) == ["CUDAExecutionProvider", "CPUExecutionProvider"]
        assert json.loads(told["EDGEFLEET_SETTINGS"]) == {"log_level": "debug"}
        assert told["ORT_DISABLE_TELEMETRY"] == "1"
        assert told["SITE"] == "north"

    async def test_processes_are_bounded(self, docker_engine, launch, ended):
        """A module cannot start more processes than its limit."""
        await docker_engine.start(launch(FORKS, pids=16))
        ended("camera-01234567-1")

        assert await docker_engine.logs("camera-01234567-1", tail_bytes=100) == "Resource temporarily unavailable\n"

    def test_socket(self, docker_engine, launch, said):
        """The instance's socket is reachable from the host by its group, and by nobody else."""
        program = (
            "import os, socket\ns = socket.socket(socket.AF_UNIX)\nos.umask(0o117)\ns.bind('/run/edgefleet/s.sock')\n"
            "s.listen()\nprint('ready', flush=True)\nc, _ = s.accept()\nc.sendall(b'here')\n"
        )
        wanted = launch(program, group=4711)
        os.chown(wanted.socket_dir, -1, 4711)
        Path(wanted.socket_dir).chmod(0o2770)
        asyncio.run(docker_engine.start(wanted))
        said(wanted.instance)

        path = Path(wanted.socket)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            assert connection.recv(10) == b"here"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660

    async def test_a_signal_reaches_the_main_process(self, docker_engine, launch, said, ended, container):
        """Once for each time, and the file that was replaced before is the one that it reads; no other instance hears
        it, and one that has ended, or is not there, is no error."""
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            folder = Path(memory, "secrets", "1")
            write(folder, {"token": b"first"}, group=os.getgid())
            wanted = launch(COUNTS, secrets_dir=str(folder))
            other = launch(HELLO, instance="camera-01234567-2")
            for one in (wanted, other):
                await docker_engine.start(one)
                said(one.instance)
            lines = ["ready"]
            for count, value in enumerate(("second", "third"), start=1):
                write(folder, {"token": value.encode()}, group=os.getgid())
                await docker_engine.hang_up(wanted.instance)
                lines.append(f"{count} {value}")
                async with asyncio.timeout(stretched(10)):
                    while await docker_engine.logs(wanted.instance, tail_bytes=100) != "\n".join(lines) + "\n":  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
            assert await docker_engine.logs(other.instance, tail_bytes=100) == "hello\n"
            container(wanted.instance).kill()
            ended(wanted.instance)
            await docker_engine.hang_up(wanted.instance)
            await docker_engine.stop(wanted.instance, grace_s=1)
            await docker_engine.hang_up(wanted.instance)

    def test_two_devices_never_meet_in_a_name(self):
        """Device ids and instances with hyphens cannot be put together to another device's container name."""
        one, other = device_id("dev"), device_id("dev-abc")
        assert container_name(one, INSTALLATION, "abc-x-1") != container_name(other, INSTALLATION, "x-1")

    def test_accelerator(self, launch):
        """Of the host's devices a container gets the listed nodes, their groups, and the GPUs asked for by id."""
        wanted = launch(HELLO, devices=("/dev/dri/renderD128",), groups=(105,), gpus=("GPU-1",))

        host = container_spec(device_id("device"), INSTALLATION, wanted, image_id="sha256:00")["HostConfig"]

        assert [node["PathOnHost"] for node in host["Devices"]] == ["/dev/dri/renderD128"]
        assert host["GroupAdd"] == ["105"]
        assert host["DeviceRequests"] == [{"Driver": "nvidia", "Capabilities": [["gpu"]], "DeviceIDs": ["GPU-1"]}]

    def test_secrets(self, launch):
        """The folder of its secrets is mounted read-only where scripts look for it; only its place is in a variable."""
        wanted = launch(HELLO, secrets_dir="/run/edgefleet/secrets/7")

        spec = container_spec(device_id("device"), INSTALLATION, wanted, image_id="sha256:00")
        mount = {"Type": "bind", "Source": wanted.secrets_dir, "Target": "/run/secrets", "ReadOnly": True}

        assert mount in spec["HostConfig"]["Mounts"]
        assert "EDGEFLEET_SECRETS=/run/secrets" in spec["Env"]


class TestRefusals:
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"module_dir": "/nowhere/module"}, id="when the module's folder is missing"),
            pytest.param({"devices": ("/dev/no-such-accelerator",)}, id="when a device node is missing"),
            pytest.param({"gpus": ("all",)}, id="when the engine knows no GPU"),
        ],
    )
    async def test_failed_start_leaves_nothing(self, docker_engine, engine_client, device, launch, changes):
        """A start that fails says so in the engine's words, and leaves no container behind."""
        with pytest.raises(NotReady):
            await docker_engine.start(launch(HELLO, **changes))

        assert engine_client.containers.list(all=True, filters={"label": f"edgefleet.device={device}"}) == []

    async def test_unsigned_image(self, docker_engine, launch, probe):
        """Nothing starts from an image that the engine holds under no signed digest."""
        unknown = measure_bytes(b"unknown")
        image = msgspec.structs.replace(probe[0], config=unknown, manifest=unknown)

        with pytest.raises(Untrusted):
            await docker_engine.start(launch(HELLO, runtime=Runtime(image=image)))

        assert await docker_engine.list() == []

    def test_long_socket_path(self, launch):
        """A socket path that no kernel can bind is refused before anything is started."""
        wanted: Launch = launch(HELLO, socket_dir="/run/" + "x" * 100)

        with pytest.raises(BadSettings, match="at most 107 bytes"):
            container_spec(device_id("device"), INSTALLATION, wanted, image_id="sha256:00")


VOLUMES = b"""FROM python:3.11-slim
VOLUME /data /srv/more
HEALTHCHECK --interval=1s CMD touch /tmp/checked
ENTRYPOINT ["python", "-u", "/module/files/main.py"]
"""
WRITES = """
import os, time
def tries(path):
    try:
        open(path, "wb").write(b"x" * 100)
        return "written"
    except OSError as error:
        return error.strerror
time.sleep(2.5)
found = [tries("/data/x"), tries("/srv/more/x"), os.path.exists("/tmp/checked")]
try:
    with open("/run/edgefleet/big", "wb") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
    found.append("written")
except OSError as error:
    found.append(error.strerror)
print(found, flush=True)
"""


class TestHostileImages:
    @pytest.mark.long
    async def test_an_images_volumes_and_health_check_are_not_followed(
        self, docker_engine, engine_client, launch, said, tmp_path
    ):
        """Neither gives the module the host's disk or a program that runs as often as it likes."""
        built, _ = engine_client.images.build(fileobj=io.BytesIO(VOLUMES), rm=True)
        blobs = tmp_path / "blobs"
        blobs.mkdir()
        before = {one.name for one in engine_client.volumes.list()}
        try:
            image = import_archive(parts.saved(engine_client, built.id, tmp_path / "saved.tar"), blobs, name="volumes")
            wanted = launch(WRITES, runtime=Runtime(image=image), memory_mb=128)
            # The kernel ends a process over its file size with a signal, which Python turns into an error.
            await docker_engine.start(wanted)
            told = said(wanted.instance)
            await docker_engine.stop(wanted.instance, grace_s=1)
        finally:
            engine_client.images.remove(built.id, force=True)

        assert told.strip() == str(["Read-only file system", "Read-only file system", False, "File too large"])
        assert (Path(wanted.socket_dir) / "big").stat().st_size <= 64 << 20
        assert {one.name for one in engine_client.volumes.list()} - before == set()

    async def test_no_memory_said_is_not_no_limit(self, docker_engine, container, launch, said):
        """A manifest of before that says 0 gets what a manifest gets that says nothing, and no swap."""
        wanted = launch(HELLO, memory_mb=0)
        await docker_engine.start(wanted)
        said(wanted.instance)

        host = container(wanted.instance).attrs["HostConfig"]
        assert (host["Memory"], host["MemorySwap"]) == (128 << 20, 128 << 20)
