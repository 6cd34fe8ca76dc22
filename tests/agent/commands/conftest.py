"""A device that is given commands."""

import pytest

from tests.agent.commands.commanding import commanded


@pytest.fixture
async def device(folder):
    async with commanded(folder) as one:
        yield one
