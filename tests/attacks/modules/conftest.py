"""A device for each test, on folders of its own; what a module must leave behind, which is nothing, ends every test."""

import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.attacks.modules.exposed import Exposed
from tests.attacks.modules.ground import RUNS_A_SCRIPT, Ground, built
from tests.parts import docker as parts


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.needs("docker"))
            # The first one may have to build the base image before it begins.
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def ground():
    with parts.engine() as path, closing(parts.client()) as client:
        parts.python_slim(client)
        with built(client, RUNS_A_SCRIPT) as held:
            yield Ground(path, client, held)


@pytest.fixture
def folder():
    """On memory, as the folder of sockets is on a device."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="ef-", dir=memory if memory.is_dir() else None))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def device(request, folder, ground):
    """A running agent and gateway. A test that has passed has one more thing to show: that nothing is left.

    ``@pytest.mark.parametrize("device", [seconds], indirect=True)`` says how long a probe may take.
    """
    one = Exposed(folder, ground, probe_timeout_s=getattr(request, "param", 0.5))
    one.start()
    try:
        yield one
        await one.leaves_nothing()
    finally:
        await one.close()
