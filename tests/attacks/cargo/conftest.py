"""A fleet with one real device, its containers in a real engine, and a publisher who signs whatever the attacker wants.

He skips his own tools' checks, since those are on his machine; the server and the device make theirs.
"""

import secrets
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.attacks.cargo.hold import Hold
from tests.attacks.standing import Standing
from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.on_device import OnDevice
from tests.parts.system import System

SLOT = "digits"


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.needs("docker", "mosquitto"))
            # The first one may have to build the scoring image, and its base, before it begins.
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="package")
def system():
    """Broker, server, keys, and the scoring image in the publisher's workspace."""
    with (
        tempfile.TemporaryDirectory(prefix="efc-") as folder,
        docker_parts.engine(),
        closing(docker_parts.client()) as engine,
    ):
        Path(folder).chmod(0o755)
        fleet = System(Path(folder))
        try:
            fleet.found(docker_parts.scoring_image(engine))
            yield fleet
        finally:
            fleet.close()


@pytest.fixture(scope="package")
def edge(system, tmp_path_factory):
    """The device that is attacked, of all files here: its digits serve while the cargo comes."""
    options = digits.samples(tmp_path_factory.mktemp("samples"), 1)
    ref = system.sign(system.register(digits.GRAPH, "digits", *options))
    device = OnDevice(system, f"dev-cargo-{secrets.token_hex(3)}")
    with ExitStack() as stack:
        stack.callback(device.close)
        device.enroll()
        device.start()
        assert system.ended(system.start_rollout(ref, device.name, slot=SLOT), said=device.said)["state"] == "done"
        yield Standing(system, device, SLOT, ref, digits.QUESTIONS[0])


@pytest.fixture(scope="package")
def hold(edge):
    """What the attacker gets signed and ordered."""
    return Hold(edge)


@pytest.fixture
def engine():
    with closing(docker_parts.client()) as client:
        yield client
