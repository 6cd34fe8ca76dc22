"""A fleet whose API is attacked: one real server with an identity provider, and one real device that has to go on."""

import json
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.attacks.api.site import LARGEST, ROLES_OF_GROUPS, Site
from tests.attacks.standing import Standing
from tests.doubles.identity_provider import CLIENT, SECRET, identity_provider
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
def site():
    """Broker, server, provider and keys, and a way to ask the server as anybody."""
    with (
        tempfile.TemporaryDirectory(prefix="efa-") as folder,
        identity_provider(time.time) as provider,
        ExitStack() as stack,
    ):
        fleet = System(
            Path(folder),
            oidc_issuer=provider.issuer,
            oidc_client_id=CLIENT,
            oidc_client_secret=SECRET,
            oidc_roles=json.dumps(ROLES_OF_GROUPS),
            max_blob_bytes=str(LARGEST),
        )
        stack.callback(fleet.close)
        fleet.cli("login", fleet.server.url, "--token", fleet.server.token, "--ca", fleet.data.ca)
        fleet.cli("keys", "init", fleet.folder / "keys", "--team", TEAM, "--insecure-demo-keys")
        yield stack.enter_context(Site(fleet, provider))


@pytest.fixture(scope="package")
def edge(site, tmp_path_factory):
    """The device: agent, gateway and the digits, as processes."""
    system = site.system
    options = digits.samples(tmp_path_factory.mktemp("samples"), 1)
    ref = system.sign(system.register(digits.GRAPH, "digits", *options, "--engine", "process"))
    # Letters alone, so that no number of a rollout is found in it.
    name = "quagga-" + "".join(secrets.choice("abcdefgh") for _ in range(6))
    device = OnDevice(system, name, engine="/nonexistent.sock", process_interpreter=sys.executable)
    device.agent._environment["UPSTREAM_API_KEY"] = site.secret
    with ExitStack() as stack:
        device.enroll()
        device.start()
        stack.callback(device.command, "halt")
        stack.callback(device.agent.stop)
        stack.callback(device.gateway.stop)
        rollout = system.start_rollout(ref, device.name, slot=SLOT, more=("--engine", "process"))
        site.rollout, site.command = rollout, ""
        assert system.ended(rollout, said=device.said)["state"] == "done"
        standing = Standing(system, device, SLOT, ref, digits.QUESTIONS[0])
        site.answered(site.ask("PATCH", f"/api/v1/devices/{device.name}", json={"labels": {"site": "quagga"}}))
        assert standing.commanded("ping") == "done"
        site.command = site.answered(site.ask("GET", "/api/v1/commands"))[0]["id"]
        yield standing
