"""One fleet for all journeys, and as many devices as they want: everything real, everything stopped at the end."""

import secrets
import tempfile
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.on_device import OnDevice
from tests.parts.system import System


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.needs("docker", "mosquitto"))
            # The first one may have to build the scoring image, and its base, before it begins.
            if item.get_closest_marker("kubernetes") is None:
                item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="package")
def system():
    """Broker, server, keys, and the scoring image in the publisher's workspace."""
    # Short, because sockets lie below it; and gone at the end, because images do too.
    with (
        tempfile.TemporaryDirectory(prefix="efj-") as folder,
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


@contextmanager
def devices(system):
    """Makes devices, enrolled and started; stopped with their containers at the end."""
    with ExitStack() as stack:

        def make(name, *, engine=None, through=0, **settings):
            made = OnDevice(system, f"{name}-{secrets.token_hex(3)}", engine=engine, **settings)
            stack.callback(made.close)
            made.enroll(through=through)
            made.start()
            return made

        yield make


@pytest.fixture
def device(system):
    """Makes devices for one test."""
    with devices(system) as make:
        yield make


@pytest.fixture(scope="module")
def shared_device(system):
    """Makes devices for the tests of one file."""
    with devices(system) as make:
        yield make


@pytest.fixture(scope="package")
def digits_module(system, tmp_path_factory):
    """The digits example, registered and signed; an order may set its probation, from 1 to 60 seconds."""
    options = digits.samples(tmp_path_factory.mktemp("samples"))
    more = ("--adjustable", "probation_s=1:1:60")
    return system.sign(system.register(digits.GRAPH, "digits", *options, *more))
