"""A fleet whose keys, server and database are the attacker's, and one device that is not: only its checks are left."""

import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.attacks.forged.forger import Forger
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
            item.add_marker(pytest.mark.timeout(400))  # dozens of orders, one after the other


@pytest.fixture(scope="package")
def forger(tmp_path_factory):
    """The attacker; the digits serve on his victim while the forged modules come."""
    with tempfile.TemporaryDirectory(prefix="eff-") as folder, ExitStack() as stack:
        system = System(Path(folder), program="tests.attacks.forged.owned_server", tick_s="0.2")
        stack.callback(system.close)
        system.cli("login", system.server.url, "--token", system.server.token, "--ca", system.data.ca)
        system.cli("keys", "init", system.folder / "keys", "--team", TEAM, "--insecure-demo-keys")
        options = digits.samples(tmp_path_factory.mktemp("samples"), 1)
        ref = system.sign(system.register(digits.GRAPH, "digits", *options, "--engine", "process"))
        name = f"dev-victim-{secrets.token_hex(3)}"
        device = OnDevice(system, name, engine="/nonexistent.sock", process_interpreter=sys.executable)
        device.enroll()
        device.start()
        stack.callback(device.command, "halt")
        stack.callback(device.agent.stop)
        stack.callback(device.gateway.stop)
        rollout = system.start_rollout(ref, name, slot=SLOT, more=("--engine", "process"))
        assert system.ended(rollout, said=device.said)["state"] == "done"
        yield Forger(Standing(system, device, SLOT, ref, digits.QUESTIONS[0]))
