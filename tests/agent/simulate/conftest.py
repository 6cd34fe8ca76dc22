"""One real broker and one real server for simulated devices, with a signed module to give them."""

import pytest

from tests.doubles.publisher import Publisher
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """A running server with its broker, trust founded."""
    folder = tmp_path_factory.mktemp("fleet")
    data = initialise(folder / "data")
    with broker(folder / "broker", data) as running, fleet_server(data, running) as server, server.client() as http:
        owner = Publisher(http)
        owner.found()
        yield server, http, owner
