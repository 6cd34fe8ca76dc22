"""What a cluster's replicas say of themselves, heard by the gateway, which alone reaches them."""

import json
import socket
import time

import pytest

from agent.gateway import each
from modules.endpoint import looks
from modules.protocol.routing import Route, Version
from tests.agent.gateway.test_endpoint import KEY, OTHER, Endpoint, bearer

SAYS = {"ready": True, "answers": {"looked": 7, "nan": 2, "empty": 1, "values": [0, 7]}, "memory_mb": 123.5}


class Replicas(Endpoint):
    """An endpoint whose replica is found under a name of all, too."""

    async def open(self, **settings):
        running = await super().open(**settings)
        self.double.said["/edgefleet/status"] = json.dumps(SAYS)
        self.found_at(f"http://localhost:{self.double.port}")
        return running

    def found_at(self, each):
        replica = self.double.replica(key="k" * 20)
        self.route(digits=Route(versions=(Version(name="v1", weight=100, replicas=(replica,), each=each),)))


async def heard(running, query="?each=true", headers=None):
    """What the index says of each replica."""
    shown = headers or {looks.HEADER: looks.make((KEY, OTHER), expires=int(time.time()) + 60)}
    async with running.get(f"/edgefleet/endpoint{query}", headers=shown) as answer:
        (slot,) = await answer.json()
        return slot.get("each")


async def test_what_each_replica_says_of_itself_is_told_to_whom_the_index_is_open(folder):
    """Its answers and its memory, by its address, and nothing else of what it says; asked for alone."""
    async with Replicas(folder) as stage:
        running = await stage.open()
        assert await heard(running, query="") is None
        assert not [one for one in stage.double.asked if "status" in str(one)]
        said = await heard(running)
        assert said == {"v1": {"127.0.0.1": {name: SAYS[name] for name in ("answers", "memory_mb")}}}
        assert await heard(running, headers=bearer(KEY)) == said
        async with running.get("/edgefleet/endpoint?each=true") as answer:
            assert answer.status == 401


@pytest.mark.parametrize("says", [b"nonsense", b'{"memory_mb": -1}', b'{"answers": {"looked": "many"}}'])
async def test_what_cannot_be_read_is_left_out(folder, says):
    """A replica is a module's, and may say anything."""
    async with Replicas(folder) as stage:
        running = await stage.open()
        stage.double.said["/edgefleet/status"] = says.decode()
        assert await heard(running) == {"v1": {}}


async def test_a_replica_that_is_silent_is_waited_for_no_longer_than_who_asks(folder, monkeypatch):
    """The index comes all the same, with what is counted."""
    monkeypatch.setattr(each, "_WITHIN_S", 0.2)
    async with Replicas(folder) as stage:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            running = await stage.open()
            stage.found_at(f"http://localhost:{silent.getsockname()[1]}")
            assert await heard(running) == {"v1": {}}
