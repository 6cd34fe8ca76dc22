"""A device on a folder of its own, short because a socket's path holds 107 bytes."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.agent.workbench import bench


@pytest.fixture
def folder():
    memory = Path("/dev/shm")  # where nothing is written to a disk, so that a sync costs nothing
    path = Path(tempfile.mkdtemp(prefix="ef-", dir=memory if memory.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def device(folder):
    async with bench(folder) as one:
        yield one
