"""A fleet whose one real device runs a module without a container engine: who gets in is not a matter of engines."""

import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.attacks.standing import Standing
from tests.parts import digits
from tests.parts.on_device import OnDevice
from tests.parts.system import TEAM, System

SLOT = "digits"


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.needs("mosquitto"))
            item.add_marker(pytest.mark.timeout(200))


@pytest.fixture(scope="package")
def system():
    """Broker, server and keys."""
    with tempfile.TemporaryDirectory(prefix="efd-") as folder:
        fleet = System(Path(folder))
        try:
            fleet.cli("login", fleet.server.url, "--token", fleet.server.token, "--ca", fleet.data.ca)
            fleet.cli("keys", "init", fleet.folder / "keys", "--team", TEAM, "--insecure-demo-keys")
            yield fleet
        finally:
            fleet.close()


@pytest.fixture(scope="package")
def edge(system, tmp_path_factory):
    """The device that is attacked, of all files here: agent, gateway and the digits, as processes."""
    options = digits.samples(tmp_path_factory.mktemp("samples"), 1)
    ref = system.sign(system.register(digits.GRAPH, "digits", *options, "--engine", "process"))
    device = OnDevice(
        system,
        f"dev-door-{secrets.token_hex(3)}",
        engine="/nonexistent.sock",
        process_interpreter=sys.executable,
        keepalive_s="5",
    )
    with ExitStack() as stack:
        device.enroll()
        device.start()
        stack.callback(device.command, "halt")
        stack.callback(device.agent.stop)
        stack.callback(device.gateway.stop)
        rollout = system.start_rollout(ref, device.name, slot=SLOT, more=("--engine", "process"))
        assert system.ended(rollout, said=device.said)["state"] == "done"
        yield Standing(system, device, SLOT, ref, digits.QUESTIONS[0])
