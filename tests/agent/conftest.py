"""A device on a folder of its own, short because a socket's path holds 107 bytes."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.agent.workbench import bench


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="ef-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def device(folder):
    async with bench(folder) as one:
        yield one
