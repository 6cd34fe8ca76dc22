"""A real engine, and an image in it whose program each test writes."""

import io
import os
import time
import uuid
from contextlib import closing, suppress

import pytest
from docker.errors import ImageNotFound

from agent.engines.contract import Launch
from agent.engines.docker import DockerEngine
from agent.engines.docker_api import DockerApi
from agent.engines.docker_images import Names, let_go_images
from agent.installation import Installation
from modules.digests import sha256
from modules.image_import import import_archive
from modules.manifest import Runtime
from modules.names import device_id
from tests.parts import docker as parts

# What runs is the module's own files/main.py, which each test writes.
PROBE = b'FROM python:3.11-slim\nENTRYPOINT ["python", "-u", "/module/files/main.py"]\n'

PROBE_NAME = f"edgefleet-test/probe:{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def engine_socket():
    with parts.engine() as path:
        yield path


@pytest.fixture(scope="session")
def engine_client(engine_socket):
    with closing(parts.client()) as client:
        yield client


@pytest.fixture(scope="session")
def probe(engine_client, tmp_path_factory):
    """(image, folder of its blobs): signed for, and held by the engine."""
    parts.python_slim(engine_client)
    label = f"LABEL run={uuid.uuid4().hex}\n".encode()  # another run's image is its own
    built, _ = engine_client.images.build(fileobj=io.BytesIO(PROBE + label), rm=True, tag=PROBE_NAME)
    folder = tmp_path_factory.mktemp("probe")
    blobs = folder / "blobs"
    blobs.mkdir()
    image = import_archive(parts.saved(engine_client, built.id, folder / "saved.tar"), blobs, name="probe")
    yield image, blobs
    with suppress(ImageNotFound):
        engine_client.images.remove(built.id, force=True)


@pytest.fixture
def device():
    return device_id(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def installation(tmp_path):
    """Its modules are elsewhere than those of the launches, so that a container is known by its label alone."""
    return Installation(id=uuid.uuid4().hex[:12], modules=tmp_path / "modules")


@pytest.fixture
def docker_engine(engine_socket, engine_client, device, installation):
    api = DockerApi(engine_socket)
    yield DockerEngine(device, installation, api)
    for container in engine_client.containers.list(all=True, filters={"label": f"edgefleet.device={device}"}):
        container.remove(force=True)
    let_go_images(api, (), Names.of(installation.id))


@pytest.fixture
def container(engine_client, device):
    """Finds the container of an instance, whatever its name."""

    def find(instance: str):
        labels = [f"edgefleet.device={device}", f"edgefleet.instance={instance}"]
        (found,) = engine_client.containers.list(all=True, filters={"label": labels})
        return found

    return find


@pytest.fixture
def launch(probe, tmp_path):
    """Makes launches of a program; further keywords are the launch's own."""

    def make(program: str, *, instance: str = "camera-01234567-1", **changes) -> Launch:
        module, sockets = tmp_path / instance / "module", tmp_path / instance / "run"
        (module / "files").mkdir(parents=True, exist_ok=True)
        (module / "files/main.py").write_text(program)
        sockets.mkdir(exist_ok=True)
        sockets.chmod(0o2770)
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        image, _ = probe
        values = {
            "instance": instance,
            "slot": "camera",
            "digest": sha256(program.encode()),
            "module_dir": str(module),
            "socket_dir": str(sockets),
            "runtime": Runtime(image=image),
            "providers": ("CPUExecutionProvider",),
            "memory_mb": 64,
            "cpu_cores": 1.0,
            "group": os.getgid(),
        }
        return Launch(**(values | changes))

    return make


@pytest.fixture
def ended(container):
    """Waits until an instance has ended by itself."""

    def wait(instance: str) -> None:
        container(instance).wait(timeout=60)

    return wait


@pytest.fixture
def said(container):
    """Waits for an instance's first line of output."""

    def wait(instance: str) -> str:
        found, deadline = container(instance), time.monotonic() + 30
        while not (output := found.logs()):
            assert time.monotonic() < deadline, "it says nothing"
            time.sleep(0.02)
        return output.decode()

    return wait
