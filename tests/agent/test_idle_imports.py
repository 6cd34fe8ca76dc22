"""What an agent that runs for months need not have in memory: each of these cost it a tenth of a megabyte or more."""

import subprocess
import sys

import pytest

UNUSED = [
    "agent.measurer",
    "agent.engines.process",
    "agent.doctor",
    "agent.enroll",
    "statistics",
    "pydantic",
    "aiohttp",
]
_LOADED = "import agent.__main__, agent.wiring, sys; print(*sys.modules)"


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The names of the modules that an agent has loaded before it is asked for anything."""
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_agent_itself_is_loaded(loaded):
    assert {"agent.wiring", "agent.loop", "agent.engines.docker"} <= loaded


@pytest.mark.parametrize("name", UNUSED)
def test_an_agent_loads_only_what_it_uses(loaded, name):
    assert name not in loaded
