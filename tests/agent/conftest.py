"""A device on a folder of its own, short because a socket's path holds 107 bytes."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.agent.workbench import bench


def short_folder():
    """Whoever makes it removes it."""
    memory = Path("/dev/shm")  # where nothing is written to a disk, so that a sync costs nothing
    return Path(tempfile.mkdtemp(prefix="ef-", dir=memory if memory.is_dir() else None))


@pytest.fixture
def folder():
    path = short_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def device(folder):
    async with bench(folder) as one:
        yield one
