"""What the idle agent may have in memory."""

import pytest

from tests.house.installed import imported_with_only
from tests.house.test_extras import existing

HEAVY = {
    "aiohttp",
    "alembic",
    "argparse",
    "docker",
    "fastapi",
    "httpx",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "pydantic",
    "requests",
    "rich",
    "sqlalchemy",
    "sqlite_utils",
    "statistics",
    "starlette",
    "typer",
    "urllib3",
    "uvicorn",
}
# The parts of commands that run once: loaded when they are called; what measures: loaded when an order asks for it; the
# lane for large blobs, when one is wanted; what renews the certificate, when that is due; telemetry, unless the
# settings turn it off; an engine that few settings ask for; and commands, when one comes.
ONCE = {
    "agent.command_line",
    "agent.commands",
    "agent.doctor",
    "agent.engines.process",
    "agent.enroll",
    "agent.halt",
    "agent.https_lane",
    "agent.measure",
    "agent.measurer",
    "agent.next_pair",
    "agent.renewal",
    "agent.side_load",
    "agent.status",
    "agent.telemetry.duty",
    "cryptography.x509",
    "modules.protocol.commands",
    "modules.image_import",
}


@pytest.mark.parametrize("entry", ["agent.__main__", "agent.wiring", "agent.loop"])
def test_agent_loads_nothing_heavy(entry):
    """The agent idles in tens of MB: no web framework, validator, array library or engine SDK is loaded."""
    loaded = {name.partition(".")[0] for name in imported_with_only("agent", *existing([entry]))}

    assert loaded & HEAVY == set()


def test_agent_loads_nothing_of_the_server():
    """The agent has neither the server's nor the scoring server's code in memory."""
    loaded = imported_with_only("agent", *existing(["agent.__main__", "agent.wiring"]))

    assert [name for name in loaded if name == "fleet" or name.startswith(("fleet.", "modules.scoring"))] == []


def test_agent_loads_no_other_commands_part():
    """What only another command of the agent needs is not in its memory while it runs."""
    loaded = imported_with_only("agent", *existing(["agent.__main__", "agent.wiring"]))

    assert ONCE & set(loaded) == set()
