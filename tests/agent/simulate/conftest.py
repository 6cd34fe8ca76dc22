"""One real broker and one real server for simulated devices, with a signed module to give them."""

import pytest

from tests.doubles.publisher import Publisher
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running server, trust founded, and its broker."""
    folder = tmp_path_factory.mktemp("fleet")
    data = initialise(folder / "data")
    with broker(folder / "broker", data) as running, fleet_server(data, running) as server, server.client() as http:
        owner = Publisher(http)
        owner.found()
        yield server, http, owner, running


@pytest.fixture(scope="module")
def fleet(system):
    """The server, an operator's client, and the owner of its trust."""
    return system[:3]
