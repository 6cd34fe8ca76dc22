"""What a module's image asks of the host that runs it: volumes, a health check, a user, devices, labels, room."""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from docker.errors import ImageNotFound

from agent.engines import docker_images
from agent.engines.docker_api import DockerApi
from modules import canonical
from modules.manifest import Image, Needs
from modules.oci import manifest_bytes
from modules.protocol.phases import Phase
from tests.attacks.modules.exposed import HONEST
from tests.attacks.modules.ground import Held, built
from tests.attacks.modules.plain import RIGHT
from tests.doubles.blob_server import BlobServer

TRICKS = """FROM python:3.11-slim
RUN cp "$(readlink -f "$(command -v python3)")" /root-python && chmod 4755 /root-python
ADD nodes.tar /
VOLUME /data /srv/more
HEALTHCHECK --interval=1s CMD touch /tmp/checked
USER root
EXPOSE 22
STOPSIGNAL SIGCONT
WORKDIR /run/edgefleet
ENV EDGEFLEET_PROVIDERS='["EvilExecutionProvider"]' ORT_DISABLE_TELEMETRY=0
LABEL edgefleet.device=another edgefleet.instance=other-1 edgefleet.slot=other edgefleet.digest=none
ENTRYPOINT ["/root-python", "-u", "/module/files/source/score.py"]
CMD ["--privileged"]
"""
LOOK = """
import json, os, plain, subprocess, sys, time
def tries(path, mode="rb"):
    try:
        with open(path, mode) as file:
            file.read(1) if mode == "rb" else file.write(b"x")
        return "done"
    except OSError as error:
        return error.strerror
def score(connection, request):
    if b"look" not in request:
        return plain.answer(plain.RIGHT)
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    setuid = subprocess.run(["/root-python", "-c", "import os; print(os.geteuid())"], capture_output=True, text=True)
    return plain.answer(json.dumps({
        "users": sorted({os.getuid(), os.geteuid(), int(setuid.stdout or -1)}),
        "capabilities": int(status["CapPrm"], 16),
        "devices": [tries("/memory"), tries("/disk"), tries("/disk", "wb")],
        "volumes": [tries("/data/x", "wb"), tries("/srv/more/x", "wb")],
        "root": [tries("/x", "wb"), tries("/module/x", "wb"), tries("x", "wb")],
        "checked": os.path.exists("/tmp/checked"),
        "told": [os.environ["EDGEFLEET_PROVIDERS"], os.environ["ORT_DISABLE_TELEMETRY"]],
        "arguments": sys.argv[1:],
    }).encode())
plain.serve(score=score)
"""
EAT = """
import os, plain
def memory():
    kept = bytearray(os.urandom(1 << 20) * 300)
def files():
    for place in ("/tmp", "/dev/shm"):
        try:
            with open(place + "/x", "wb", buffering=0) as file:
                while True:
                    file.write(os.urandom(1 << 20))
        except OSError as error:
            print(place, error.strerror)
    memory()
def score(connection, request):
    {how}() if b"eat" in request else None
    return plain.answer(plain.RIGHT)
plain.serve(score=score)
"""
BOMB_MIB = 256


def nodes() -> bytes:
    """The host's memory and its disk, as files that everybody may read and write."""
    out, disk = io.BytesIO(), Path("/").stat().st_dev
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, major, minor in (
            ("memory", tarfile.CHRTYPE, 1, 1),
            ("disk", tarfile.BLKTYPE, os.major(disk), os.minor(disk)),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.devmajor, info.devminor, info.mode = kind, major, minor, 0o666
            archive.addfile(info)
    return out.getvalue()


@pytest.fixture(scope="module")
def tricks(ground):
    with built(ground.client, TRICKS, nodes=nodes()) as held:
        yield held


async def test_what_an_image_asks_for_it_does_not_get(device, tricks):
    """Volumes, a health check, root, setuid programs, device nodes, ports, arguments, labels of another slot's: none of
    them counts, and what cannot be stopped by its own signal is stopped all the same."""
    await device.attacked(device.ground.release(LOOK, held=tricks))
    await device.phase(Phase.COMMITTED, slot="evil")

    seen = json.loads((await device.ask(body=b"look")).body)
    attrs = device.container().attrs
    await device.others_answer()

    assert seen == {
        "users": [10001],
        "capabilities": 0,
        "devices": ["Operation not permitted"] * 3,
        "volumes": ["Read-only file system"] * 2,
        "root": ["Read-only file system", "Read-only file system", "Permission denied"],
        "checked": False,
        "told": ['["CPUExecutionProvider"]', "1"],
        "arguments": ["--module", "/module", "--unix", "/run/edgefleet/s.sock"],
    }
    assert attrs["Config"]["Healthcheck"]["Test"] == ["NONE"]
    assert "Health" not in attrs["State"]
    assert attrs["Config"]["Labels"]["edgefleet.device"] == device.device
    assert attrs["Config"]["Labels"]["edgefleet.slot"] == "evil"
    assert not attrs["HostConfig"]["Privileged"]
    assert not any(attrs["NetworkSettings"]["Ports"].values())


@pytest.mark.parametrize(
    ("needs", "how"), [(Needs(memory_mb=0), "memory"), (Needs(), "files")], ids=["zero, memory", "unsaid, files"]
)
@pytest.mark.long
async def test_no_memory_said_is_not_no_limit(device, needs, how):
    """A module that names no memory, or 0, ends at 128 MiB, /tmp and shared memory included, and is reverted for it."""
    release = device.ground.release(EAT.format(how=how), needs=needs, probation_s=60.0)
    await device.attacked(release)
    await device.phase(Phase.PROBATION, slot="evil")
    host = device.container().attrs["HostConfig"]
    assert (await device.ask()).body == RIGHT

    assert (await device.ask(body=b"eat")).status == 503
    await device.ends(Phase.REVERTED, "over-limit", "the kernel ended it for using more memory than its limit")

    assert (host["Memory"], host["MemorySwap"]) == (128 << 20, 128 << 20)
    await device.others_answer()


class Watched(DockerApi):
    """Counts what an engine is given to unpack."""

    given = 0

    def load(self, archive) -> str:
        self.given += 1
        return super().load(archive)


def bomb() -> tuple[Held, BlobServer]:
    """An image of one layer, small where it lies and large where it is unpacked."""
    layer, server = io.BytesIO(), BlobServer()
    whole = hashlib.sha256()
    with gzip.GzipFile(fileobj=layer, mode="wb", compresslevel=1, mtime=0) as stream:
        info = tarfile.TarInfo("large")
        info.size = BOMB_MIB << 20
        for part in (info.tobuf(), *[bytes(1 << 20)] * BOMB_MIB, bytes(1024)):
            stream.write(part)
            whole.update(part)
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{whole.hexdigest()}"]}
    made = datetime.now(UTC).isoformat()  # so that no engine has it already
    config = canonical.encode({"architecture": "amd64", "os": "linux", "created": made, "rootfs": rootfs})
    blobs = [server.add(data) for data in (config, layer.getvalue())]
    listed = manifest_bytes(blobs[0], blobs[1:])
    image = Image(name="bomb", manifest=server.add(listed), config=blobs[0], layers=(blobs[1],))
    assert blobs[1].length < 4 << 20
    return Held(image, (listed, config)), server


def forgotten(client, image: Image) -> None:
    """Take the image away, should the engine have got it all the same."""
    with suppress(ImageNotFound):
        client.images.remove(image.config.sha256, force=True)


class SmallDisk:
    """In place of ``shutil``: the engine's disk with 128 MiB free, whatever else this machine's engine does."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def disk_usage(self, path: Path):
        assert path == self._place
        return shutil.disk_usage(path)._replace(free=128 << 20)


@pytest.mark.long
async def test_a_layer_is_unpacked_only_where_it_fits(device, monkeypatch, request):
    """A layer of 1 MB that becomes 256 is not given to an engine whose disk has 64 beyond the reserve: the slot waits
    and says why, the disk stays as it was, and what serves goes on."""
    held, blobs = bomb()
    watched = Watched(device.ground.socket)
    place = Path(device.ground.client.info()["DockerRootDir"])
    monkeypatch.setattr(docker_images, "shutil", SmallDisk(place))
    device.engine.reserve = 64 << 20
    device.engine._api = watched
    release = device.ground.release(HONEST, held=held)
    release.blobs.update(blobs.blobs)

    request.addfinalizer(lambda: forgotten(device.ground.client, held.image))
    await device.attacked(release)
    told = await device.ends(Phase.VERIFIED, "no-space", r"it unpacks to 256 MiB or more, and 6\d are free")

    assert told.attempts > 0
    assert watched.given == 0
    await device.others_answer()


async def test_a_layer_is_not_unpacked_beyond_what_was_signed(device, monkeypatch, request):
    """An image that says it unpacks to 1 MiB and would become 256 is refused for good, and no engine is given it."""
    held, blobs = bomb()
    lying = Held(msgspec.structs.replace(held.image, unpacked_bytes=1 << 20), held.documents)
    watched = Watched(device.ground.socket)
    device.engine._api = watched
    release = device.ground.release(HONEST, held=lying)
    release.blobs.update(blobs.blobs)

    request.addfinalizer(lambda: forgotten(device.ground.client, held.image))
    await device.attacked(release)
    await device.ends(Phase.REJECTED, "invalid", "unpacks to more than the 1048576 bytes that were signed")

    assert watched.given == 0
    await device.others_answer()
